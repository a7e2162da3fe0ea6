"""The settings of a run: each field is the one description of an option.

The command line, the keywords of Python, printed commands, links and cache keys are derived from the fields. A new
option of ``cahp prune`` is a new field here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cahp import models
from cahp.cards import ModelCard
from cahp.recoveries import RECOVERIES
from cahp.run.option import Setting, describe_fields, option
from cahp.stages.clustering import DEGREES
from cahp.stages.selection import Representative
from cahp.stages.space import Projection
from cahp.values import OptionError, Precisions

Salience = Literal["batch", "example"]
#: The largest number of texts; as an option it stands for all of them.
MOST = 10_000_000
#: The time limit of ``--recover auto`` where none is given.
RECOVER_TIME = "2m"


_EVERYWHERE = "evaluate latency recover export compare bench"
_TEXTS = "evaluate recover export compare"


@dataclass(frozen=True)
class Settings:
    """What a run does; the defaults are the published method's where it has one.

    Numbers stand for texts where that is clear (``budget=20``, ``latency_time=5``). Invalid values raise
    ``OptionError`` when the settings are made.
    """

    model: str = option(
        "minilm-bbc", "A built-in (see `cahp models`), a hub id, or a folder.", f"{_EVERYWHERE} fit", short="-m"
    )
    data: str | None = option(
        None, "A built-in (see `cahp data`), a file, a folder, or hub:org/name.", f"{_TEXTS} fit bench", short="-d"
    )
    method: str = option(
        "complementary", "Method that chooses the heads, such as magnitude; an unknown name lists all methods."
    )
    limit: int | None = option(
        2000,
        "Number of calibration texts, on which heads are chosen.",
        "recover export",
        low=2,
        high=MOST,
        link="choice",
    )
    sample: Literal["stratified", "head"] = option(
        "stratified", "Sampling of texts: stratified by class, or head, the first rows.", _TEXTS
    )
    select_split: str = option("train", "Split of the calibration texts.")
    eval_split: str = option("validation", "Split of the evaluation texts.", "evaluate compare")
    eval_limit: int | None = option(
        1000, "Number of evaluation texts.", "evaluate recover export", low=1, high=MOST, link="choice"
    )
    budget: str = option("auto", "Heads to keep: auto, a number, or a share (15%).", unit="heads")
    min_per_layer: int = option(1, "Number of heads that every layer keeps at least.", "compare", link="choice")
    pool_size: int = option(32, "Side length to which attention maps are pooled.", low=2, high=128)
    poly_degree: int = option(
        6,
        "Degree of the polynomial that finds the knee: 2 keeps many heads, 6 few.",
        low=DEGREES.start,
        high=DEGREES.stop - 1,
        link="choice",
    )
    projection: Projection = option("tsne", "Projection of the heads: {choices}.", link="choice")
    salience: Salience = option("batch", "Salience of a head: batch (the paper's) or example.", link="choice")
    representative: Representative = option(
        "salience", "Head kept of each cluster: salience (the paper's) or medoid.", link="choice"
    )
    recover: str = option(
        "none",
        "Recovery: none, refit (seconds: on a third of the calibration texts, at least 512), distill (minutes), "
        "auto (within --recover-time) or finetune.",
        choices=tuple(RECOVERIES),
    )
    recover_data: str | None = option(None, "File of texts to recover on; a text column, no labels.", "recover export")
    recover_time: str | None = option(
        None, "Time limit of --recover auto: 90s, 2m (the default), 1h.", "recover export", unit="duration"
    )
    labels: bool = option(False, "Distill from the labels of the calibration texts, too.", "recover export")
    report: str | None = option(
        None, "test: open the test split and evaluate on it, too.", "compare reproduce", choices=("test",)
    )
    seed: int = option(
        42,
        "Seed of sampling, projection, clustering and training.",
        "evaluate recover export fit",
        low=0,
        high=2**32 - 1,
    )
    device: str = option(
        "auto", "Device: {choices}.", f"{_EVERYWHERE} fit reproduce", choices=("auto", "cpu", "cuda", "mps")
    )
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "float32",
        "Numbers to compute in: float32; bfloat16 for answers and signatures; auto: bfloat16 for answers where "
        "that is fast.",
        "evaluate",
    )
    latency: bool = option(True, "Time the full and the cut model.", "export")
    latency_time: str = option(
        "5s",
        "Time limit of a timing, which ends earlier when the result is certain: 5s, 1m.",
        "latency export",
        unit="duration",
    )
    text_column: str | None = option(None, "Column of the texts.", f"{_TEXTS} fit data", link="source")
    pair_column: str | None = option(
        None, "Column of the second text of each pair.", f"{_TEXTS} fit data", link="source"
    )
    label_column: str | None = option(None, "Column of the labels.", f"{_TEXTS} fit data", link="source")
    splits: Mapping[str, str] = option(
        {}, 'Files, or published splits, by split: "a.csv=train,b.csv=validation".', f"{_TEXTS} fit data", link="source"
    )
    label_map: Mapping[str, str] = option(
        {}, 'Model label of each data label: "neg=NEGATIVE,pos=POSITIVE".', _TEXTS, link="source"
    )
    prompt: str | None = option(
        None,
        'Prompt of a language model: "{text} It was", of a masked one "{text} It was {mask}."',
        f"{_EVERYWHERE} models",
    )
    answers: Sequence[str] = option(
        (),
        'Answers to the prompt, a word for each class in the data\'s order: "terrible,okay,great".',
        f"{_EVERYWHERE} models",
    )

    def __post_init__(self) -> None:
        # ``models`` explains in more detail what is wrong with answers.
        if isinstance(self.answers, str):
            models.make_prompt(self.prompt, self.answers)
        for name, setting in describe(type(self)).items():
            object.__setattr__(self, name, setting.convert(getattr(self, name)))
        models.make_prompt(self.prompt, self.answers)

    @property
    def columns(self) -> dict[str, Any]:
        """The settings of the data's tables, as ``cahp.data.load`` takes them."""
        return {name: getattr(self, name) for name in COLUMNS}


#: The fields that say how the tables of the data are read, and how a language model is prompted.
COLUMNS = ("text_column", "pair_column", "label_column", "splits")
PROMPT = ("prompt", "answers")

#: The fields whose whole effect is in the digests of the model and the texts: keys with these digests leave them out.
IN_DIGESTS = (
    *("model", "data", "limit", "sample", "select_split", "eval_split", "eval_limit"),
    *(*COLUMNS, "label_map", *PROMPT),
)


def describe(settings: type[Settings] | None = None) -> Mapping[str, Setting]:
    """The fields of ``Settings`` (or of a class derived from it) by name, in the order of the help."""
    return describe_fields(Settings if settings is None else settings)


def key_fields(settings: Settings, *, without: Iterable[str] = ()) -> dict[str, Any]:
    """All fields for a cache key, except those ``without`` effect on the cached result.

    New fields are in every key from the start: a forgotten field may cost time, and never gives a stale result.
    """
    names = describe(type(settings)).keys() - set(without)
    return {name: getattr(settings, name) for name in sorted(names)}


# What follows from them --------------------------------------------------------------------------------------


def identify_model(settings: Settings) -> ModelCard:
    """The card of the settings' model with their prompt, if any; see ``cahp.models.identify``."""
    return models.identify(settings.model, prompt=models.make_prompt(settings.prompt, settings.answers))


def choose_precisions(settings: Settings) -> Precisions:
    """The numbers in which a run computes; ``auto`` never changes signatures, because they choose the heads."""
    answers = models.choose_precision(settings.precision, settings.device)
    return Precisions(answers, "bfloat16" if settings.precision == "bfloat16" else "float32")


def precision_notices(precisions: Precisions) -> tuple[str, ...]:
    """Notices about figures that were not computed in float32."""
    if precisions == Precisions():
        return ()
    if precisions.signatures == "float32":
        return ("precision: answers were computed in bfloat16; all else in float32",)
    return (
        "precision: answers and signatures were computed in bfloat16, so the kept heads may differ from those in "
        "float32; all else in float32",
    )


def check_recovery(settings: Settings) -> None:
    """Check that the options of a recovery fit the recovery.

    Raises:
        OptionError: If they do not.
    """
    recovery = RECOVERIES[settings.recover]
    if settings.recover_time is not None and not recovery.timed:
        raise OptionError(f"--recover-time needs --recover auto, not {recovery.name}; leave one of them out")
    if settings.recover_data is not None and not recovery.solves:
        reason = "fine-tuning needs labels" if recovery.needs_labels else "nothing is recovered"
        raise OptionError(f"--recover-data cannot be used, because {reason}; use --recover distill")
    if not settings.labels:
        return
    if not recovery.imitates:
        raise OptionError(f"--labels needs a distillation, not --recover {recovery.name}; use --recover distill")
    if settings.recover_data is not None:
        raise OptionError("--labels cannot be used with --recover-data, which has no labels; leave one of them out")


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
