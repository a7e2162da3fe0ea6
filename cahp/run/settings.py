"""The settings of a run: each field is the one description of an option.

The command line, the keywords of Python, printed commands, links and cache keys are derived from the fields. A new
option of ``cahp prune`` is a new field here; ``TAKES`` lists the fields that other commands take.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from cahp import models
from cahp.data.dataset import NO_LABELS
from cahp.goals import Goal
from cahp.methods.shared.registry import name_of
from cahp.models.cards import Dtype, ModelCard
from cahp.recoveries import RECOVERIES
from cahp.stages.clustering import DEGREES, Projection
from cahp.stages.selection import FIRST_LAYERS, BudgetRules, Minimum, Representative, read_budget
from cahp.tasks.answers import Beginning
from cahp.values import HasHeads, JsonObject, Names, Notices, OptionError, Precisions

if TYPE_CHECKING:
    from cahp.run.keywords import Options

# The calibration mix of a causal language model: parts of its calibration tokens that are not text of the data ------


#: The part of sequences that are read twice; all other names are those of data.
REPEATS = "repeats"
#: The mix without any part.
NO_MIX = "0"
#: The largest share of all parts together: the mix is added to text, and does not replace it.
_MOST = 90

_PART = re.compile(r"\s*(?P<name>[^=]+?)\s*=\s*(?P<share>[0-9]{1,2}(?:\.[0-9]{1,3})?)\s*%\s*")


@dataclass(frozen=True)
class Mix:
    """The share of the calibration tokens, from 0 to 1, that each part has; the rest is text of the data."""

    shares: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Mix:
        """Read a mix such as ``repeats=10%,notes.txt=5%``; ``0`` has no part.

        Raises:
            OptionError: If it is none, or leaves less than a tenth of the tokens for the data.
        """
        if text.strip() == NO_MIX:
            return cls({})
        shares: dict[str, float] = {}
        for part in text.split(","):
            match = _PART.fullmatch(part)
            if match is None or match["name"] in shares:
                raise OptionError(f'--mix: cannot read "{text}"; write repeats=10%, repeats=10%,notes.txt=5% or 0')
            shares[match["name"]] = float(match["share"]) / 100
        if sum(shares.values()) > _MOST / 100:
            raise OptionError(f'--mix: "{text}" leaves hardly any text of the data; use at most {_MOST}% in all')
        return cls({name: share for name, share in shares.items() if share})

    @property
    def text_share(self) -> float:
        """The share of text of the data."""
        return 1 - sum(self.shares.values())

    @property
    def sources(self) -> dict[str, float]:
        """The shares of other data, by name."""
        return {name: share for name, share in self.shares.items() if name != REPEATS}

    def __str__(self) -> str:
        return ", ".join(f"{100 * share:g} % {_NOUNS.get(name, name)}" for name, share in self.shares.items())


_NOUNS = {REPEATS: "repeated passages and random tokens"}


#: Recoveries of a language model without labels read so many times the tokens that choose its heads, but more than so
#: many only if more choose them.
_RECOVERY_GROWTH = 4
_RECOVERY_TOKENS = 32_768


# What an option is: its kind, bounds and words, and how a value becomes one that a field of the settings holds ------


class Bounds(NamedTuple):
    """The lowest and the highest value of a number."""

    low: float
    high: float


#: The bounds of numbers that are no settings: of options, and of the keywords of the same names in Python.
BOUNDS = {
    "batch": Bounds(1, 1024),
    "epochs": Bounds(1, 1000),
    "learning_rate": Bounds(1e-7, 1.0),
    "rank": Bounds(1, 256),
    "length": Bounds(2, 1 << 20),
    "repeats": Bounds(1, 10_000),
}


#: The sections of the help, in their order; in the first are the options that a command has for itself.
Section = Literal[
    "Options",
    "Model and data",
    "Language models",
    "Choice of heads",
    "Recovery and training",
    "Measuring",
    "Output and machine",
]


@dataclass(frozen=True)
class Setting:
    """The description of one field of ``Settings``.

    ``kind`` is ``bool``, ``int``, ``float``, ``str``, ``Mapping`` (of words) or ``Sequence`` (of words); with
    ``optional`` the value may be None. ``help`` is one sentence, in which ``{choices}`` stands for the words that it
    may be. ``low`` and ``high`` bound a number. The ``unit`` ``heads`` or ``duration`` is a text that may also be given
    as a number, of heads or of seconds; ``goal`` is the text of a ``cahp.goals.Goal``, and ``mix`` that of a
    ``cahp.run.settings.Mix``. The help lists it in its ``section``; ``--help`` alone only if it is ``common``.
    """

    name: str
    kind: type
    optional: bool
    section: Section
    default: Any
    help: str
    common: bool = False
    short: str = ""
    choices: Names = ()
    low: float = 0
    high: float | None = None
    unit: Literal["", "heads", "duration", "goal", "mix"] = ""

    @property
    def flag(self) -> str:
        """Its option on the command line, such as ``--eval-limit``."""
        return f"--{self.name.replace('_', '-')}"

    def convert(self, value: object) -> Any:
        """``value`` as the field holds it.

        Raises:
            OptionError: If the field cannot hold it.
        """
        if value is None and self.optional:
            return None
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, PathLike):
            value = str(value)
        if self.name == "method" and not isinstance(value, int):
            value = name_of(value)
        # Numbers stand for texts.
        if self.unit == "duration" and type(value) in (int, float):
            value = f"{value}s"
        if self.unit == "heads" and type(value) is int:
            value = str(value)
        try:
            converted = msgspec.convert(value, _TYPES[self.kind])
        except msgspec.ValidationError as error:
            shown = " ".join(repr(value).split())
            raise OptionError(f"{self.flag} cannot be {shown:.60} ({error})") from None
        if self.choices and converted not in self.choices:
            raise OptionError(f"{self.flag} {converted} is unknown; choose one of {', '.join(self.choices)}")
        if self.kind in (int, float) and not self.low <= converted <= (self.high or math.inf):
            bounds = f"in {self.low}..{self.high}"
            if self.high is None:
                bounds = f"at least {self.low}"
            raise OptionError(f"{self.flag} {converted} is out of range; it must be {bounds}")
        if self.unit == "duration":
            parse_duration(converted, self.flag)
        if self.unit == "heads":
            read_budget(converted)
        if self.unit == "mix":
            Mix.parse(converted)
        if self.unit == "goal":
            return str(Goal.parse(converted))
        return converted

    def parse(self, text: str) -> Any:
        """Read the words ``a,b``, or pairs of words ``a=b,c=d``, that ``to_text`` writes; any other text is the value.

        A word with a comma stands in double quotes.

        Raises:
            OptionError: If a quote is not closed, a part is no pair, or a word has two pairs.
        """
        if self.kind not in (Mapping, Sequence):
            return text
        try:
            rows = csv.reader([text], strict=True, skipinitialspace=True)
            words = [word.strip() for row in rows for word in row]
        except csv.Error as error:
            raise OptionError(f"{self.flag} {text!r} cannot be read ({error}). {self.help}") from error
        if self.kind is Sequence:
            return tuple(words)
        pairs = {}
        for word in words:
            left, _, right = (side.strip() for side in word.partition("="))
            if not left or not right or "=" in right:
                raise OptionError(f"{self.flag} has {word!r} instead of a pair. {self.help}")
            if left in pairs:
                raise OptionError(f"{self.flag} maps {left!r} twice; remove one.")
            pairs[left] = right
        return pairs


_TYPES: Mapping[type, Any] = {
    bool: bool,
    int: int,
    float: float,
    str: str,
    Mapping: dict[str, str],
    Sequence: tuple[str, ...],
}


def option(section: Section, default: Any, help: str, **rest: Any) -> Any:
    """A field for an option; see ``Setting``."""
    metadata = {"section": section, "help": help, **rest}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


_DURATION = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)(?P<unit>[smh]?)")


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str, flag: str = "--recover-time") -> float:
    """The seconds of ``90``, ``90s``, ``2m`` or ``1.5h``, the value of the option ``flag``.

    Raises:
        OptionError: If it is no duration, or longer than 30 days.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not 0 < (seconds := float(match["count"]) * _SECONDS[match["unit"]]) <= 30 * 24 * 3600:
        raise OptionError(f'{flag}: invalid duration "{text}"; write 90s, 2m or 1h')
    return seconds


Salience = Literal["batch", "example"]
#: The largest number of texts; as an option it stands for all of them.
MOST = 10_000_000
#: The ``max_length`` of the published experiments, and of all results that ship with the package.
PUBLISHED_LENGTH = 128
#: The time limit of ``--recover auto`` where none is given.
RECOVER_TIME = "2m"


# The settings ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What a run does; the defaults are the published method's where it has one.

    Numbers stand for texts where that is clear (``budget=20``, ``latency_time=5``). Invalid values raise
    ``OptionError`` when the settings are made.
    """

    model: str = option(
        "Model and data",
        "minilm-bbc",
        "A built-in (see `cahp models`), a hub id, a folder, or a GGUF file.",
        short="-m",
        common=True,
    )
    data: str | None = option(
        "Model and data",
        None,
        "A built-in (see `cahp data`), a file, a folder, or hub:org/name.",
        short="-d",
        common=True,
    )
    method: str = option(
        "Choice of heads",
        "complementary",
        "Method that chooses the heads: complementary (CAHP), random, magnitude...; an unknown name lists all.",
        common=True,
    )
    limit: int | None = option(
        "Model and data", 2000, "Number of calibration texts, on which heads are chosen.", low=2, high=MOST, common=True
    )
    sample: Literal["stratified", "head"] = option(
        "Model and data", "stratified", "Sampling of texts: stratified by class, or head, the first rows."
    )
    select_split: str = option("Model and data", "train", "Split of the calibration texts.")
    eval_split: str = option("Model and data", "validation", "Split of the evaluation texts.")
    eval_limit: int | None = option(
        "Model and data", 1000, "Number of evaluation texts.", low=1, high=MOST, common=True
    )
    window: int = option(
        "Language models",
        256,
        "Tokens per window: a language model without --answers is measured on windows of text.",
        low=8,
        high=1 << 20,
    )
    stride: int | None = option(
        "Language models",
        None,
        "Tokens between the starts of two windows (default: --window, without overlap).",
        low=1,
    )
    bos: Beginning = option(
        "Language models",
        "every",
        "Windows that begin with the beginning token of a language model: every, or only the first, as in "
        "lm-evaluation-harness.",
    )
    tokens: int = option(
        "Language models",
        8192,
        "Calibration tokens of a language model: heads are chosen on so many, and recovered on four times the text (up "
        "to 32,768).",
        low=16,
        high=MOST,
    )
    mix: str = option(
        "Language models",
        "repeats=25%",
        "Share of a language model's calibration tokens that come from elsewhere: repeats (passages and random tokens, "
        "read twice), or other data by name; 0 for none.",
        unit="mix",
    )
    eval_tokens: int = option(
        "Language models", 4096, "Number of evaluation tokens of a language model.", low=16, high=MOST
    )
    max_length: int | None = option(
        "Model and data",
        None,
        "Tokens read of a text; the rest is cut (default: what the model reads, at most 512; published: 128).",
        low=8,
        high=1 << 20,
        common=True,
    )
    budget: str = option(
        "Choice of heads",
        "auto",
        "Heads to keep: a number, a share (15%), or auto: the published rule, which gives much the same on noise.",
        unit="heads",
        common=True,
    )
    goal: str | None = option(
        "Choice of heads",
        None,
        "Keep the fewest heads, of about a dozen numbers tried, that reach a goal: agreement=95%, kl=0.05, "
        "accuracy-loss=1 or abilities (none may be lost). Or keep the most heads that reach time=-20% or, for a causal "
        "language model, kv-cache=-30%.",
        unit="goal",
        common=True,
    )
    min_per_layer: int = option("Choice of heads", 1, "Fewest heads per layer.", common=True)
    min_first_layers: int = option(
        "Choice of heads",
        0,
        "Fewest heads in layers 0 and 1; the larger of this and --min-per-layer counts.",
    )
    even: bool = option(
        "Choice of heads",
        False,
        "Keep the same number of heads in every layer, as --format standard needs; a share and auto are then rounded.",
        common=True,
    )
    pool_size: int = option("Choice of heads", 32, "Side length to which attention maps are pooled.", low=2, high=128)
    poly_degree: int = option(
        "Choice of heads",
        6,
        "Degree of the polynomial that finds the knee, where --budget auto stops: 2 keeps many heads, 6 few.",
        low=DEGREES.start,
        high=DEGREES.stop - 1,
    )
    projection: Projection = option("Choice of heads", "tsne", "Projection of the heads: {choices}.")
    salience: Salience = option("Choice of heads", "batch", "Salience of a head: batch (the paper's) or example.")
    representative: Representative = option(
        "Choice of heads", "salience", "Head kept of each cluster: salience (the paper's) or medoid."
    )
    select_time: str | None = option(
        "Choice of heads",
        None,
        "Improve the kept heads by swaps, for at most 90s, 2m or 1h. A swap must help after a refit on few texts.",
        unit="duration",
    )
    recover: str = option(
        "Recovery and training",
        "none",
        f"Recovery: {', '.join(RECOVERIES)}. mean is mean ablation. refit takes seconds (on a third of the calibration "
        "texts, at least 512), distill takes minutes, auto takes at most --recover-time.",
        choices=tuple(RECOVERIES),
        common=True,
    )
    recover_data: str | None = option(
        "Recovery and training", None, "File of texts to recover on; labels are not read."
    )
    recover_time: str | None = option(
        "Recovery and training", None, "Time limit of --recover auto: 90s, 2m (the default), 1h.", unit="duration"
    )
    bypass_rank: int | None = option(
        "Recovery and training",
        None,
        "Rank of --recover bypass, which adds so many functions of the words (default: 64, at most the hidden size).",
        low=1,
    )
    labels: bool = option("Recovery and training", False, "Distill from the labels of the calibration texts, too.")
    report: str | None = option(
        "Measuring", None, "test: also evaluate on the test split; each opening is counted.", choices=("test",)
    )
    neutral_data: str | None = option(
        "Model and data",
        None,
        "Also evaluate the heads on neutral text: auto, or a name as in --data. The run takes about twice as long.",
    )
    seed: int = option(
        "Choice of heads",
        42,
        "Seed of sampling, projection, clustering and training.",
        low=0,
        high=2**32 - 1,
        common=True,
    )
    device: str = option("Output and machine", "auto", "Device: {choices}.", choices=("auto", "cpu", "cuda", "mps"))
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "Measuring",
        "float32",
        "Number format: float32; bfloat16: for predictions and signatures; auto: bfloat16 for predictions where "
        "that is fast.",
    )
    dtype: Dtype = option(
        "Output and machine",
        "float32",
        "Weights in memory: float32; auto: as the file stores them, with the same results; bfloat16: rounded.",
    )
    latency: bool = option("Measuring", True, "Time the full and the cut model.", common=True)
    latency_time: str = option(
        "Measuring",
        "5s",
        "Time limit of a timing: 5s, 1m. It ends earlier when the result is certain.",
        unit="duration",
    )
    roles: bool = option(
        "Measuring",
        False,
        "Measure the roles of the heads (first token, induction and others), for run.json and the report.",
    )
    abilities: bool | None = option(
        "Measuring",
        None,
        "Measure all abilities of the full and the pruned model, for run.json and reports. By default, only the "
        "repeating of text is measured, of causal language models.",
    )
    measure: Sequence[str] = option(
        "Measuring", (), "What else to measure of the mask, by name, such as neutral; an unknown name lists all."
    )
    text_column: str | None = option("Model and data", None, "Column of the texts.", common=True)
    pair_column: str | None = option("Model and data", None, "Column of the second text of each pair.")
    label_column: str | None = option(
        "Model and data", None, f'Column of the labels; "{NO_LABELS}" ignores them.', common=True
    )
    splits: Mapping[str, str] = option(
        "Model and data",
        {},
        'File, or published split, of each split: "a.csv=train,b.csv=validation".',
    )
    documents: Literal["paragraph", "line"] = option(
        "Model and data", "paragraph", "A document of a text file is a paragraph or a line."
    )
    label_map: Mapping[str, str] = option(
        "Model and data", {}, 'Model label of each data label: "neg=NEGATIVE,pos=POSITIVE".', common=True
    )
    prompt: str | None = option(
        "Language models",
        None,
        'Prompt of a language model: "{text} It was"; of a masked model "{text} It was {mask}."',
    )
    answers: Sequence[str] = option(
        "Language models",
        (),
        'Answers to the prompt, a word for each class in the data\'s order: "terrible,okay,great".',
    )

    if TYPE_CHECKING:
        # Numbers and paths stand for texts, which the types of the fields do not say.
        def __init__(
            self, model: str | PathLike[str] = ..., data: str | PathLike[str] | None = ..., **options: Unpack[Options]
        ) -> None: ...

    @property
    def recover_seconds(self) -> float:
        """The seconds that a recovery may take."""
        return parse_duration(self.recover_time or RECOVER_TIME)

    def __post_init__(self) -> None:
        for name, setting in describe().items():
            object.__setattr__(self, name, setting.convert(getattr(self, name)))
        models.make_prompt(self.prompt, self.answers)

    @property
    def columns(self) -> JsonObject:
        """The settings of the data's tables, as ``cahp.data.load`` takes them."""
        return {name: getattr(self, name) for name in COLUMNS}

    def budget_rules(self, model: HasHeads) -> BudgetRules:
        """The budgets of a model.

        The minimum of the first two layers is the larger of both settings.
        """
        first = max(self.min_per_layer, self.min_first_layers)
        minimum: Minimum = first
        if model.layers > FIRST_LAYERS and first != self.min_per_layer:
            minimum = np.full(model.layers, self.min_per_layer, dtype=np.int64)
            minimum[:FIRST_LAYERS] = first
        return BudgetRules(model.layers, model.heads, minimum, even=self.even)


#: The fields that say how the tables of the data are read, and how a language model is prompted.
COLUMNS = ("text_column", "pair_column", "label_column", "splits", "documents")
PROMPT = ("prompt", "answers")

#: The fields whose whole effect is in the digests of the model and the texts: keys with these digests leave them out.
IN_DIGESTS = (
    *("model", "data", "limit", "sample", "select_split", "eval_split", "eval_limit"),
    *(*COLUMNS, "label_map", *PROMPT, "dtype"),
    *("window", "stride", "bos", "tokens", "mix", "eval_tokens", "max_length"),
)

#: The fields by which heads are chosen from the evidence, those of what is done with the chosen heads, and those that
#: say where and in which numbers it is computed.
CHOOSING = (
    *("method", "budget", "goal", "min_per_layer", "min_first_layers", "even", "poly_degree"),
    *("salience", "representative", "select_time"),
)
AFTERWARDS = (
    *("recover", "recover_data", "recover_time", "bypass_rank", "labels", "report", "neutral_data"),
    *("roles", "abilities", "measure", "latency", "latency_time"),
)
MACHINE = ("device", "precision")


@cache
def describe() -> Mapping[str, Setting]:
    """The fields of ``Settings`` by name, in the order of the help."""
    hints = get_type_hints(Settings)
    described = {}
    for entry in fields(Settings):
        hint = hints[entry.name]
        optional = type(None) in get_args(hint)
        if optional:
            (hint,) = (part for part in get_args(hint) if part is not type(None))
        kind = get_origin(hint) or hint
        more = dict(entry.metadata)
        if kind is Literal:
            kind = str
            more = {"choices": get_args(hint), **more}
        default = entry.default
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        described[entry.name] = Setting(entry.name, kind, optional, default=default, **more)
    return described


def key_fields(settings: Settings, *, without: Iterable[str] = ()) -> JsonObject:
    """All fields for a cache key, except those ``without`` effect on the cached result.

    New fields are in every key from the start: a forgotten field may cost time, and never gives a stale result.
    """
    return {name: getattr(settings, name) for name in sorted(describe().keys() - set(without))}


# What follows from them --------------------------------------------------------------------------------------


def identify_model(settings: Settings) -> ModelCard:
    """The card of the settings' model with their prompt, dtype and length; see ``cahp.models.identify``."""
    card = models.identify(settings.model, prompt=models.make_prompt(settings.prompt, settings.answers))
    return replace(models.set_dtype(card, settings.dtype), max_length=settings.max_length)


def choose_precisions(settings: Settings) -> Precisions:
    """The numbers in which a run computes; ``auto`` never changes signatures, because they choose the heads."""
    answers = models.choose_precision(settings.precision, settings.device)
    if settings.precision == "bfloat16":
        return Precisions(answers, "bfloat16")
    return Precisions(answers, "float32")


def precision_notices(precisions: Precisions) -> Notices:
    """Notices about figures that were not computed in float32."""
    if precisions == Precisions():
        return ()
    return (
        f"precision: answers were computed in {precisions.evaluation}, signatures (which choose the heads) in "
        f"{precisions.signatures}, all else in float32",
    )


def enlarge(settings: Settings) -> Settings:
    """Return the settings with the tokens that recoveries without labels read of a language model's texts.

    The mix takes none of the text's tokens, but is added to them.
    """
    tokens = settings.tokens
    text = max(tokens, min(_RECOVERY_GROWTH * tokens, _RECOVERY_TOKENS))
    return replace(settings, tokens=round(text / Mix.parse(settings.mix).text_share))


def recovery_growth(settings: Settings, card: ModelCard) -> float:
    """How many times the items that choose the heads recoveries without labels read."""
    return card.task.grow(enlarge(settings).tokens / settings.tokens)


def check_recovery(settings: Settings) -> None:
    """Check that the options of a recovery fit the recovery.

    Raises:
        OptionError: If they do not.
    """
    recovery = RECOVERIES[settings.recover]
    if settings.recover_time is not None and not recovery.timed:
        raise OptionError(f"--recover-time needs --recover auto, not {recovery.name}; leave one of them out")
    if settings.bypass_rank is not None and not recovery.adds_bypass:
        raise OptionError(f"--bypass-rank needs --recover bypass, not {recovery.name}; leave one of them out")
    if settings.recover_data is not None and not recovery.solves:
        reason = "nothing is recovered"
        if recovery.needs_labels:
            reason = "fine-tuning needs labels"
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
            "the test split may be used only for the final report (--report test); select heads on train and evaluate "
            "on validation"
        )


# Settings as the options of a command -------------------------------------------------------------------------------


#: Named sets of fields.
_MODEL = frozenset({"model", "device", "dtype", *PROMPT})
OF_DATA = frozenset({"data", *COLUMNS, "label_map", "window", "max_length"})
OF_NUMBER = frozenset({"budget", "goal"})
_TEXTS = OF_DATA | {"sample", "stride", "bos", "eval_tokens"}
_CALIBRATION = frozenset({"limit", "eval_limit", "tokens", "mix", "recover_data", "recover_time", "seed"})
_RECOVER = _MODEL | _TEXTS | _CALIBRATION | {"labels", "bypass_rank"}

#: The fields that each command takes; ``cahp prune`` takes all.
TAKES = {
    "evaluate": _MODEL | _TEXTS | {"eval_split", "eval_limit", "seed", "precision"},
    "latency": _MODEL | {"latency_time"},
    "recover": _RECOVER,
    "export": _RECOVER | {"latency", "latency_time", "abilities"},
    "measure": _MODEL | _TEXTS | _CALIBRATION | {"recover", "bypass_rank"},
    "stability": _MODEL
    | _TEXTS
    | {"limit", "tokens", "mix", "seed", "pool_size", "projection", "even", "min_per_layer"},
    "attribute": _MODEL | OF_DATA | {"tokens", "seed"},
    "compare": _MODEL | _TEXTS | {"eval_split", "tokens", "mix", "report", "min_per_layer", "min_first_layers", "even"},
    "fit": (OF_DATA | {"model", "device", "seed", "report"}) - {"documents", "label_map", "window"},
    "roles": frozenset({"model", "device", "dtype"}),
    "models": frozenset({"max_length", *PROMPT}),
    "data": frozenset(COLUMNS),
}
#: ``cahp evaluate`` needs texts for one purpose only, so its options are shorter.
_SHORTER = {("evaluate", "eval_split"): "--split", ("evaluate", "eval_limit"): "--limit"}


def flags(command: str) -> dict[str, str]:
    """The options of ``cahp COMMAND`` that fill a field of ``Settings``, by field."""
    fields = describe()
    taken = TAKES.get(command, frozenset())
    if command == "prune":
        taken = frozenset(fields)
    return {name: _SHORTER.get((command, name), fields[name].flag) for name in fields if name in taken}


def to_arguments(settings: Settings, options: Mapping[str, str]) -> list[str]:
    """The arguments that give these settings by ``options`` (option by field); defaults are omitted."""
    arguments = []
    for name, option in options.items():
        value = getattr(settings, name)
        if value == describe()[name].default:
            continue
        if value is False:
            arguments.append(option.replace("--", "--no-", 1))
        elif value is True:
            arguments.append(option)
        else:
            arguments += [option, to_text(value)]
    return arguments


def to_text(value: object) -> str:
    """The value of a setting as an option takes it."""
    if value is None:
        return str(MOST)
    if isinstance(value, Mapping):
        return join_pairs(value)
    if isinstance(value, tuple):
        return join_words(value)
    return str(value)


def join_pairs(pairs: Mapping[str, str]) -> str:
    """``a=b,c=d``, as ``--label-map`` and ``--splits`` take it and ``Setting.parse`` reads it."""
    return join_words(f"{left}={right}" for left, right in pairs.items())


def join_words(words: Iterable[str]) -> str:
    """Words with commas between them, quoted where needed; ``Setting.parse`` reads it."""
    line = io.StringIO()
    # With an end of line that is cut off again: without one, some versions quote no line break inside a label.
    csv.writer(line, lineterminator="\r\n").writerow(list(words))
    return line.getvalue().removesuffix("\r\n")
