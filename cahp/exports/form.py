"""A form of export (a file with a mask, or a folder with a pruned model), and the size and latency of its files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cahp.exports.masks import MaskOrigin
from cahp.models.cards import ALLOWED_ROUNDING, ModelCard
from cahp.models.costs import Timing
from cahp.show.blocks import Block, Table, Text
from cahp.tasks.texts import Item
from cahp.values import CahpError, Estimate, HeadMask, OptionError
from cahp.words import percent, rate, size_of

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.saving import ReadBack
    from cahp.run.document import RunDocument
    from cahp.stages.latency import Times


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned model before it is written: ``whole`` with all heads, and ``cut`` to ``mask``, recovered or not.

    The written model is tried on the texts ``inputs`` (empty: a few sentences). ``exact`` is the folder with its full
    precision, for a form that rounds weights.
    """

    whole: HeadModel
    cut: HeadModel
    mask: HeadMask
    inputs: Sequence[Item] = ()
    exact: Path | None = None


@dataclass(frozen=True)
class Rounded:
    """A form with rounded weights, whose logits differ from those in memory.

    ``state`` names its results beside those of the full and the pruned model. At least a share ``agreement`` of its
    predictions must equal those in memory, or ``of_tokens`` of the next tokens, among which many are nearly equal.
    ``exact`` is the form of the same model in full precision.
    """

    state: str
    agreement: float
    exact: str
    of_tokens: float = 0.0

    def allowed(self, count: int, *, tokens: bool = False) -> int:
        """Return on how many of so many texts, or ``tokens``, the prediction may differ, rounded up."""
        agreement = self.agreement
        if tokens:
            agreement = self.of_tokens
        return math.ceil((1 - agreement) * count - 1e-9)


@dataclass(frozen=True, kw_only=True)
class Form:
    """The description of a form.

    ``key`` is the word of ``--format``, ``title`` its name on screen, ``file`` the file that holds the mask or the
    weights, and ``loads`` how to load it.
    """

    key: str
    title: str
    file: str
    loads: str


@dataclass(frozen=True, kw_only=True)
class MaskForm(Form):
    """A file that holds a mask alone, which ``words`` describe."""

    words: str
    write: Callable[[HeadMask, MaskOrigin], bytes]


@dataclass(frozen=True, kw_only=True)
class ModelForm(Form):
    """A folder that holds a pruned model.

    ``loads_with`` names what loads it, and ``needs_model`` tells which models and masks can have it (empty: all whose
    heads can be cut). Its weights have ``weight_bytes`` each (None: as many as those of the source); with
    ``keeps_shapes``, all weights are there. ``speed`` compares it with the original.
    ``write`` fills a folder that has the tokenizer already, and may return a sentence about what it wrote. ``reads`` is
    Python that runs in a process without this package: from the path ``folder`` it makes ``answer``, which takes a
    batch (arrays by name) and returns its logits. They may differ by ``tolerance`` from those in memory, relative to
    logits beyond 1; if the weights are ``rounded``, the share of equal predictions counts instead. ``card`` describes
    in Markdown how to load the folder; a language model with a cache has its ``cached_card`` if there is one, and
    ``reads`` then makes ``write``, too (see ``compare_writing``). Writing needs the packages ``needs``, installed by
    the ``extra`` of this package. ``bars`` are the fields of a model's card that give a reason why the model cannot
    have this form. ``runtime`` is the library that runs the form instead of transformers, ``library`` the name by which
    the hub knows what loads it (None: nothing that the hub knows), and ``times`` times the files
    of models with it, in turn for so many seconds; the first is the full model. It returns the times of a batch of each
    other file beside the first, and, of language models with a cache, those of the next token of each file beside the
    model in torch. ``checked_with`` are the packages with which a written model is read back. ``even`` forms need a
    mask with the same number of heads in every layer. ``refuse`` returns another reason why a model cannot have the
    form: from its card, the mask (None: any), and the noun of a recovery that adds biases to output projections that
    have none (empty: it adds none). ``runs_in`` tells, for a runtime, whether it runs the form, and with what; one
    that is missing was not tried.
    """

    loads_with: str
    weight_bytes: int | None = 4
    keeps_shapes: bool = False
    speed: str = "faster"
    needs_model: str = ""
    write: Callable[[Path, Pruned], str | None]
    reads: str
    tolerance: float
    card: str
    cached_card: str | None = None
    checked_with: tuple[str, ...] = ("transformers", "torch")
    gist: str = ""
    needs: tuple[str, ...] = ()
    extra: str = ""
    runtime: str = ""
    library: str | None = "transformers"
    times: Callable[[Sequence[HeadModel], Sequence[Path], float], tuple[list[Times], list[Times]]] | None = None
    rounded: Rounded | None = None
    bars: tuple[str, ...] = ()
    runs_in: Mapping[str, str] = field(default_factory=dict)
    even: bool = False
    refuse: Callable[[ModelCard, HeadMask | None, str], str | None] = lambda card, mask, adder: None

    def describe_size(self, run: RunDocument | None) -> str:
        """Return the size of the written weights, rounded; what is known of it if the ``run`` did not count them."""
        counted = None
        if run is not None:
            counted = run.cost.pruned.parameters
            if self.keeps_shapes:
                counted = run.cost.full.parameters
        if counted is not None and self.weight_bytes is not None:
            return f"about {size_of(counted * self.weight_bytes)}"
        if self.keeps_shapes:
            return "as the original"
        if self.weight_bytes == 1:
            return "about a quarter"
        return "smaller"

    def check(self, read: ReadBack) -> None:
        """Check that the written model, read back, gives the results of the model in memory.

        Raises:
            CahpError: If not.
        """
        if self.rounded is None:
            # Not `difference > tolerance`: NaN must fail too.
            equal = read.difference <= max(self.tolerance, ALLOWED_ROUNDING * read.rounding)
            reason = f"logits differ by {read.difference:.1e} from the model in memory"
            instead = "the mask instead, and tell us which model this is"
        else:
            count = len(read.found)
            tokens = read.found.ndim == 1
            changed = round((1 - read.agreement) * count)
            allowed = self.rounded.allowed(count, tokens=tokens)
            equal = changed <= allowed
            words = "texts"
            if tokens:
                words = "tokens"
            reason = f"predictions differ on {changed:,} of {count:,} {words} (allowed: {allowed:,})"
            instead = f"it as {self.rounded.exact}, which rounds nothing"
        if not equal:
            raise CahpError(
                f"the {self.key} model was not written: after loading it again, its {reason}; export {instead}"
            )

    @property
    def exactness(self) -> str:
        """What is checked before the folder is written."""
        if self.rounded is None:
            return f"logits within {self.tolerance:.0e}".replace("e-0", "e-")
        texts, tokens = (percent(share, 0) for share in (self.rounded.agreement, self.rounded.of_tokens))
        return f"same prediction on {texts} of the texts, or on {tokens} of the next tokens"

    def closeness(
        self, difference: float, agreement: float, tried: int, *, written: int | None = None, words: str = "texts"
    ) -> str:
        """Describe, as a clause, how close the model that was read back is to the model in memory.

        It was tried on ``tried`` texts, or other ``words``, and on so many tokens ``written`` with its cache.
        """
        if self.rounded is not None:
            return f"it agrees with the model before rounding on {percent(agreement)} of {tried:,} {words}"
        clause = "its logits are identical"
        if difference:
            clause = f"its logits differ by at most {difference:.0e}"
        if written is not None:
            clause += f", and it writes the same {written} tokens with its cache"
        return clause

    def check_installed(self) -> None:
        """Check that the packages needed for writing are installed.

        Raises:
            OptionError: If not.
        """
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            raise OptionError(
                f"writing {self.title} needs {' and '.join(missing)}; install it with "
                f"`pip install 'cahp-explorer[{self.extra}]'`"
            )


# Sizes and latencies -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoding:
    """Tokens per second that a language model writes after ``context`` tokens, with its cache, one text at a time.

    ``runtime`` is the form's, ``torch`` has as many threads and the same model before it was written, and ``ratio`` is
    the median ratio of their times, runtime / torch (below 1: the runtime is faster).
    """

    context: int
    runtime: float
    torch: float
    ratio: Estimate

    @classmethod
    def of(cls, times: Times) -> Decoding:
        """Describe the times of a step, in which torch is the full model."""
        return cls(times.full.length, 1e3 / times.pruned.median, 1e3 / times.full.median, times.ratio)


@dataclass(frozen=True)
class Footprint:
    """A file of a model: ``name`` is ``full``, or what was done to the model, ``bytes`` its size.

    ``latency_ms`` is the time of one batch, and ``ratio`` that time over the full model's (None for the full model).
    ``decoding`` is the speed of a language model that writes with its cache (None: another model).
    """

    name: str
    bytes: int
    latency_ms: Timing
    ratio: Estimate | None
    decoding: Decoding | None = None


def show_files(files: Sequence[Footprint], runtime: str, machine: str = "") -> Iterator[Block]:
    """Yield the sizes and latencies of files with ``runtime``, and the speeds at which language models write.

    ``machine`` names where they were timed (empty: here); without files there is nothing to show.
    """
    if not files:
        return
    full = files[0].latency_ms
    where = runtime
    if machine:
        where += f" on {machine}"
    busy = ""
    if any(file.latency_ms.noisy for file in files):
        busy = "; other processes kept the machine busy"
    rows = []
    for file in files:
        compared = ""
        if file.ratio is not None:
            compared = f"{file.ratio.text} {file.ratio.interval}"
            if not file.ratio.excludes(1):
                compared = f"no measurable change: {compared}"
        rows.append((file.name, size_of(file.bytes), f"{file.latency_ms.median:.1f} ms", compared))
    columns = ("model", "file", "time of a batch", "relative to the full model (95 %)")
    yield Table("Size and latency", columns, rows, name="files")
    yield Text(
        f"Timed with {where}: a batch of {full.batch} texts of {full.length} tokens, median of n = {full.repeats} "
        f"rounds in turn{busy}."
    )
    written = []
    for file in files:
        if file.decoding is not None:
            after = f"{file.name}, after {file.decoding.context:,} tokens"
            ratio = file.decoding.ratio
            speeds = (rate(file.decoding.runtime), rate(file.decoding.torch))
            written.append((after, *speeds, f"{ratio.text} {ratio.interval}, n = {ratio.n}"))
    if written:
        title = "Tokens per second, written with the cache, one text at a time"
        yield Table(title, ("model", runtime, "torch", "ratio of times (95 %), n rounds"), written, name="writing")
