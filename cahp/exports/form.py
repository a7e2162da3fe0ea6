"""A form of export (a file with a mask, or a folder with a pruned model), and the size and latency of its files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cahp.exports.masks import MaskOrigin
from cahp.models.cards import ALLOWED_ROUNDING, ModelCard, Timing
from cahp.show.blocks import Blocks, Table, Text
from cahp.tasks.texts import Item
from cahp.values import CahpError, Estimate, Fields, HeadMask, Names, OptionError
from cahp.words import percent, size_of

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.saving import ReadBack
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

    @property
    def parameters(self) -> dict[str, int]:
        """The numbers of weights with all heads and without."""
        return {"full": self.whole.parameters, "pruned": self.cut.parameters}


#: Returns why a model cannot have a form; see ``ModelForm``.
Refuse = Callable[[ModelCard, HeadMask | None, str], str | None]
#: The words of a form that is neither smaller nor faster.
AS_ORIGINAL = "as the original"
#: The share of predictions of texts, or of next tokens, that rounded weights must leave: many tokens are nearly equal.
AGREEMENT = 0.95
OF_TOKENS = 0.8


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

    ``loads_with`` names what loads it, and ``needs_model`` tells which models and masks can have it. ``size`` and
    ``speed`` compare it with the original. A weight takes ``width`` bytes (0: as in the source). ``write`` fills a
    folder that has the tokenizer already, and may return a sentence about what it wrote. ``reads`` is Python that runs
    in a process without this package: from the path ``folder`` it makes ``answer``, which takes a batch (arrays by
    name) and returns its logits. They may differ by ``tolerance`` from those in memory, relative to logits beyond 1; if
    the weights are ``rounded`` (the name of their results), the share of equal predictions counts instead, and
    ``exact`` is the form in full precision. ``card`` describes in Markdown how to load the folder, ``cards`` the same
    by what removing heads saves (``ModelCard.saves``), where that differs. Writing needs the packages ``needs``,
    installed by the ``extra`` of this package. ``runtime`` is the library that runs the form instead of transformers,
    ``library`` the name by which the hub knows what loads it (None: nothing that the hub knows). ``times`` times the
    files of models with the runtime; see ``cahp.stages.latency.measure_onnx``. ``refuse`` returns why a model cannot
    have the form: from its card, the mask (None: any), and the noun of a recovery that adds biases to output
    projections that have none (empty: it adds none). ``holds_bypass`` tells whether the model may have bypasses.
    ``runs_in`` tells, for a runtime, whether it runs the form, and with what; one that is missing was not tried.
    """

    loads_with: str
    needs_model: str = "models whose heads can be cut"
    size: str = "smaller"
    speed: str = "faster"
    width: float = 4.0
    write: Callable[[Path, Pruned], str | None]
    reads: str
    tolerance: float = math.inf
    card: str
    cards: Mapping[str, str] = field(default_factory=dict)
    needs: Names = ()
    extra: str = ""
    runtime: str = ""
    library: str | None = "transformers"
    times: Callable[[HeadModel, Sequence[Path], float], Sequence[Times]] | None = None
    rounded: str = ""
    exact: str = ""
    holds_bypass: bool = False
    runs_in: Mapping[str, str] = field(default_factory=dict)
    refuse: Refuse = lambda card, mask, adder: card.no_cut

    def check(self, read: ReadBack, *, rounding: float = 0.0) -> None:
        """Check that the written model, read back, gives the results of the model in memory.

        ``rounding`` is what ``measure_rounding`` found.

        Raises:
            CahpError: If not.
        """
        # Not `difference > tolerance`: NaN must fail too.
        equal = read.difference <= max(self.tolerance, ALLOWED_ROUNDING * rounding)
        reason = f"logits differ by {read.difference:.1e} from the model in memory"
        instead = "the mask instead, and tell us which model this is"
        if self.rounded:
            share = AGREEMENT
            if read.tokens:
                share = OF_TOKENS
            changed = round((1 - read.agreement) * read.tried)
            allowed = math.ceil((1 - share) * read.tried - 1e-9)
            equal = changed <= allowed
            reason = f"predictions differ on {changed:,} of {read.tried:,} (allowed: {allowed:,})"
            instead = f"it as {self.exact}, which rounds nothing"
        if not equal:
            raise CahpError(
                f"the {self.key} model was not written: after loading it again, its {reason}; export {instead}"
            )

    def estimate_bytes(self, card: ModelCard, share: float) -> float:
        """Estimate the bytes of the weights of a model of which this ``share`` stays (0: they are not counted)."""
        if self.size == AS_ORIGINAL:
            share = 1.0
        weights = self.width * (card.details.get("parameters") or 0)
        return share * (weights or card.details.get("bytes", 0))

    @property
    def exactness(self) -> str:
        """What is checked before the folder is written."""
        if not self.rounded:
            return f"logits within {self.tolerance:.0e}".replace("e-0", "e-")
        tokens = percent(OF_TOKENS, 0)
        return f"same prediction on {percent(AGREEMENT, 0)} of the texts, or on {tokens} of the next tokens"

    def closeness(self, results: Fields) -> str:
        """Describe, as a clause, how close the model that was read back is, from the ``results`` of its writing."""
        if self.rounded:
            share = percent(results["agreement"])
            return f"{share} of its predictions are those of the model before rounding (n = {results['tried']:,})"
        clause = "its logits are identical"
        if results["difference"]:
            clause = f"its logits differ by at most {results['difference']:.0e} (n = {results['tried']:,})"
        if results["written"] is not None:
            clause += f", and it writes the same {results['written']} tokens with its cache"
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


@dataclass(frozen=True)
class Footprint:
    """A file of a model: ``name`` is ``full``, or what was done to the model, ``bytes`` its size.

    ``latency_ms`` is the time of one batch, and ``ratio`` that time over the full model's (None for the full model).
    """

    name: str
    bytes: int
    latency_ms: Timing
    ratio: Estimate | None


def show_files(files: Sequence[Footprint], where: str) -> Blocks:
    """Yield the sizes of files, and their latencies as they were timed ``where``."""
    if not files:
        return
    full = files[0].latency_ms
    busy = ""
    if any(file.latency_ms.noisy for file in files):
        busy = "; other processes kept the machine busy"
    rows = [(file.name, size_of(file.bytes), f"{file.latency_ms.median:.1f} ms", file.ratio) for file in files]
    columns = ("model", "file", "time of a batch", "relative to the full model (95 %)")
    yield Table("Size and latency", columns, rows, name="files")
    yield Text(
        f"Timed with {where}: a batch of {full.batch} texts of {full.length} tokens, median of n = {full.repeats} "
        f"rounds in turn{busy}."
    )
