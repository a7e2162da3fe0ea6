"""What a form of export is: a file with a mask, or a folder with a pruned model that is held against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cahp.exports.masks import MaskOrigin
from cahp.values import CahpError, HeadMask, Input, OptionError
from cahp.words import percent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.saving import ReadBack
    from cahp.stages.latency import Times


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned model before it is written: ``whole`` with all heads, and ``cut`` to ``mask``, recovered or not.

    ``inputs`` are texts that the written model will be tried on. ``exact`` is the folder that holds it in full
    precision, for a form that rounds.
    """

    whole: HeadModel
    cut: HeadModel
    mask: HeadMask
    inputs: Sequence[Input]
    exact: Path | None = None


@dataclass(frozen=True)
class Runtime:
    """What runs a form in place of transformers, and how files of a model are timed in turn for so many seconds.

    The first file is the full model's; ``times`` are those of each other one beside it.
    """

    name: str
    times: Callable[[HeadModel, Sequence[Path], float], list[Times]]


@dataclass(frozen=True)
class Rounded:
    """A form whose weights are rounded, so that its logits are not those in memory.

    ``state`` is what its answers are called beside those of the full and the pruned model; the share ``agreement`` of
    them must be the answers in memory. ``exact`` is the form of the same model in full precision.
    """

    state: str
    agreement: float
    exact: str

    def allowed(self, texts: int) -> int:
        """To how many of so many texts the answer may be another, rounded up: of a few texts, to one."""
        return math.ceil((1 - self.agreement) * texts - 1e-9)


@dataclass(frozen=True, kw_only=True)
class Form:
    """What every form has.

    ``key`` is the word of ``--format``, ``title`` its name on screen, ``file`` the file that holds the mask or the
    weights, ``words`` say in a line what it is, ``loads`` how to load it, and ``media`` is the type of a download.
    """

    key: str
    title: str
    file: str
    words: str
    loads: str
    media: str


@dataclass(frozen=True, kw_only=True)
class MaskForm(Form):
    """A file that holds a mask alone; the Export page has a ``button`` for it or leaves it to the command line."""

    write: Callable[[HeadMask, MaskOrigin], bytes]
    button: bool = True


@dataclass(frozen=True, kw_only=True)
class ModelForm(Form):
    """A folder that holds a pruned model.

    ``write`` fills a folder that has the tokenizer already. ``reads`` is Python, run in a process where this package
    does not exist: from the path ``folder`` it makes ``answer``, which takes a batch (arrays by name) and returns its
    logits. They may differ by ``tolerance`` from those in memory, relative to logits beyond 1, unless they are
    ``rounded``, where what counts is the share of equal answers. ``card`` says in Markdown how the folder loads.
    ``besides`` are files beside ``file``, the configuration and the tokenizer; ``needs`` are packages that writing
    needs, installed by the ``extra`` of this package. ``bars`` names the entries of a model's card whose reason, if
    there is one, keeps it from this form.
    """

    write: Callable[[Path, Pruned], None]
    reads: str
    tolerance: float
    card: str
    gist: str = ""
    besides: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    extra: str = ""
    runtime: Runtime | None = None
    rounded: Rounded | None = None
    bars: tuple[str, ...] = ()
    media: str = "application/zip"

    def check(self, found: ReadBack) -> None:
        """Check that what was read back answers as the model in memory does.

        Raises:
            CahpError: If not.
        """
        if self.rounded is None:
            # Not `difference > tolerance`: what is not a number must fail too.
            close, how = found.difference <= self.tolerance, f"by {found.difference:.1e}"
        else:
            texts = len(found.found)
            others, allowed = round((1 - found.agreement) * texts), self.rounded.allowed(texts)
            close, how = others <= allowed, f"to {others:,} of {texts:,} texts, and {allowed:,} may be"
        if not close:
            raise CahpError(
                f"the {self.key} model, read again, answers otherwise than the one in memory ({how}), so it was not "
                f"written; export {self._instead}"
            )

    def closeness(self, difference: float, agreement: float, tried: int) -> str:
        """How close what was read back is to the model in memory, as a clause."""
        if self.rounded is None:
            return f"its logits differ by at most {difference:.0e}"
        return f"{percent(agreement)} of its answers to {tried:,} texts are those of the model before it was rounded"

    @property
    def _instead(self) -> str:
        if self.rounded is None:
            return "the mask instead, and tell us which model this is"
        return f"it as {self.rounded.exact}, which rounds nothing"

    def check_installed(self) -> None:
        """Check that the packages which writing needs are there.

        Raises:
            OptionError: If not.
        """
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            raise OptionError(
                f"writing {self.title} needs {' and '.join(missing)}; install it with "
                f"`pip install 'cahp-explorer[{self.extra}]'`"
            )
