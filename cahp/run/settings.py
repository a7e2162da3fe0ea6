"""What a run is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from cahp import models
from cahp.cards import ModelCard
from cahp.recoveries import RECOVERIES
from cahp.stages.clustering import DEGREES
from cahp.stages.selection import Representative
from cahp.stages.space import Projection
from cahp.values import OptionError, Precisions

Salience = Literal["batch", "example"]
#: Texts at most, which is as good as all there are.
MOST = 10_000_000


@dataclass(frozen=True)
class Settings:
    """What a run is asked; the defaults are the published method's where it has one."""

    model: str = "minilm-bbc"
    data: str | None = None
    method: str = "complementary"
    limit: int | None = 2000
    sample: Literal["stratified", "head"] = "stratified"
    select_split: str = "train"
    eval_split: str = "validation"
    eval_limit: int | None = 1000
    budget: str = "auto"
    min_per_layer: int = 1
    pool_size: int = 32
    poly_degree: int = 6
    projection: Projection = "tsne"
    salience: Salience = "batch"
    representative: Representative = "salience"
    recover: str = "none"
    seed: int = 42
    device: str = "auto"
    report: str | None = None
    latency: bool = True
    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    recover_data: str | None = None
    recover_time: str | None = None
    labels: bool = False
    prompt: str | None = None
    answers: Sequence[str] = ()
    latency_time: str = "5s"
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", self.answers if isinstance(self.answers, str) else tuple(self.answers))
        # A prompt that has no sense is refused before anything is looked for.
        models.asked(self.prompt, self.answers)
        _one_of("sample", self.sample, ("stratified", "head"))
        _one_of("projection", self.projection, get_args(Projection))
        _one_of("salience", self.salience, get_args(Salience))
        _one_of("representative", self.representative, get_args(Representative))
        _one_of("recover", self.recover, tuple(RECOVERIES))
        _one_of("precision", self.precision, ("auto", "float32", "bfloat16"))
        _one_of("device", self.device, ("auto", "cpu", "cuda", "mps"))
        if self.report not in (None, "test"):
            raise OptionError(f"--report {self.report} is unknown; the only split to report on is test")
        _within("limit", self.limit, 2, MOST)
        _within("eval-limit", self.eval_limit, 1, MOST)
        _within("pool-size", self.pool_size, 2, 128)
        _within("poly-degree", self.poly_degree, DEGREES.start, DEGREES.stop - 1)
        _within("seed", self.seed, 0, 2**32 - 1)
        if self.recover_time is not None:
            seconds(self.recover_time)
        seconds(self.latency_time, "latency-time")

    @property
    def reading(self) -> dict[str, Any]:
        """How its data are read, as ``cahp.data.load`` takes it."""
        return {name: getattr(self, name) for name in ("text_column", "pair_column", "label_column", "splits")}


def identified(settings: Settings) -> ModelCard:
    """The card of the settings' model, asked by their prompt if they have one; see ``cahp.models.identify``."""
    return models.identify(settings.model, prompt=models.asked(settings.prompt, settings.answers))


def precisions(settings: Settings) -> Precisions:
    """In which numbers a run of ``settings`` computes: ``auto`` leaves signatures alone, which choose the heads."""
    answers = models.precision_of(settings.precision, settings.device)
    return Precisions(answers, "bfloat16" if settings.precision == "bfloat16" else "float32")


def precision_notices(found: Precisions) -> tuple[str, ...]:
    """What a person should know of the numbers in which figures were computed."""
    if found == Precisions():
        return ()
    what = "answers" if found.signatures == "float32" else "answers and signatures"
    kept = "" if found.signatures == "float32" else ", by which the kept heads may differ from float32's"
    return (f"precision: {what} were computed in bfloat16{kept}; all else in float32",)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"--{name} {value} is unknown; choose one of {', '.join(choices)}")


def _within(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise OptionError(f"--{name} {value} is impossible; it must lie in {low}..{high}")


#: What ``--recover auto`` may take, unless it is told.
RECOVER_TIME = "2m"
_TIME = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)(?P<unit>[smh]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}

#: Fields that came after results had been kept.
_LATER = ("recover_data", "recover_time", "labels", "prompt", "answers", "latency_time", "splits", "precision")


def seconds(time: str, option: str = "recover-time") -> float:
    """What ``90``, ``90s``, ``2m`` or ``1.5h`` means, given to ``option``.

    Raises:
        OptionError: If it means nothing.
    """
    found = _TIME.fullmatch(time)
    if found is None or not 0 < (said := float(found["count"]) * _SECONDS[found["unit"]]) <= 30 * 24 * 3600:
        raise OptionError(f"--{option} {time} is no time; write 90s, 2m or 1h")
    return said


def identity(settings: Settings) -> dict[str, Any]:
    """What tells settings from others in a key: all of them, but later fields only where they are not as usual.

    So results that were kept before there were such fields are still found.
    """
    usual = Settings()
    said = asdict(settings) | {name: dict(getattr(settings, name)) for name in ("label_map", "splits")}
    return {name: value for name, value in said.items() if name not in _LATER or value != getattr(usual, name)}


def check_recovery(settings: Settings) -> None:
    """Check that what is said of the recovery concerns the one that is asked for.

    Raises:
        OptionError: If it does not.
    """
    recovery = RECOVERIES[settings.recover]
    if settings.recover_time is not None and not recovery.timed:
        raise OptionError(f"--recover-time bounds --recover auto, not {recovery.name}; leave one of them out")
    if settings.recover_data is not None and not recovery.solves:
        reason = "fine-tuning needs labels" if recovery.needs_labels else "nothing is recovered"
        raise OptionError(f"{reason}, so --recover-data has no effect; use --recover distill")
    if not settings.labels:
        return
    if not recovery.imitates:
        raise OptionError(
            f"--labels adds labels to a distillation, not to --recover {recovery.name}; use --recover distill"
        )
    if settings.recover_data is not None:
        raise OptionError("--recover-data is read without labels; leave out it or --labels")


def check_splits(settings: Settings) -> None:
    """Check that no text both chooses heads and evaluates them.

    Raises:
        OptionError: If one could.
    """
    if settings.select_split == settings.eval_split:
        raise OptionError(
            f"heads would be chosen and evaluated on the same split ({settings.eval_split}); give --select-split and "
            "--eval-split different names"
        )
    if "test" in (settings.select_split, settings.eval_split):
        raise OptionError(
            "the test split is opened only to report (--report test); choose on train and tune on validation"
        )
