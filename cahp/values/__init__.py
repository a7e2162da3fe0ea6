"""The frozen values that stages exchange, and the errors they raise.

Symbols as in the paper: ``L`` layers, ``H`` heads per layer,
``N = L * H`` heads with flat index ``layer * H + head``, ``C`` classes, ``B`` pool size and ``D = B * B`` cells of a
pooled attention map.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cahp import words

Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]
#: Arrays by name, such as those of a file.
Arrays = Mapping[str, Array]
#: Values of any type by name: those that a function reads, and those that it makes for a file, a page or a figure.
Fields = Mapping[str, Any]
JsonObject = dict[str, Any]
#: Names of one kind in their order, such as those of the classes of a task.
Names = tuple[str, ...]
#: What a person should know of a result: a sentence each.
Notices = tuple[str, ...]

#: One input of a model: a text, or a pair of texts.
Input = str | tuple[str, str]

Chunk = TypeVar("Chunk", bound=Sized)
T = TypeVar("T")
#: The number format of matrix products.
Precision = Literal["float32", "bfloat16"]


@contextmanager
def setting(variable: ContextVar[T], value: T) -> Iterator[T]:
    """Let ``variable`` have a value inside the block, in this thread or task."""
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


@dataclass(frozen=True)
class Precisions:
    """The precision of evaluations and signatures. Salience, recoveries, proofs and timings use float32.

    Except the distillation of language models, see ``cahp.models.reading.Teacher.loss``.
    """

    evaluation: Precision = "float32"
    signatures: Precision = "float32"


class CahpError(Exception):
    """The input cannot be used. The message is one line that says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        # Jupyter calls this: a notebook then shows the message without a traceback, as the terminal does.
        return [f"{type(self).__name__}: {self}"]


class OptionError(CahpError):
    """An option is invalid, alone or together with others."""


def check_known(what: str, name: object, known: Iterable[object]) -> None:
    """Check that ``name`` is one of the ``known`` names of ``what``.

    Raises:
        OptionError: If not; it lists them.
    """
    known = list(known)
    if name not in known:
        raise OptionError(f"there is no {what} {name!r}; choose one of {', '.join(map(str, known))}")


class DataError(CahpError):
    """A data set cannot be read or does not fit the model."""


class ModelError(CahpError):
    """A model cannot be loaded or is not supported."""


class SelfTestError(ModelError):
    """Masking or cutting heads does not have the same effect on this model."""


class BudgetError(CahpError):
    """No mask can meet the budget."""


class MaskError(CahpError):
    """A head mask is malformed or does not fit the model."""


class KneeNotFoundError(CahpError):
    """The silhouette curve has no knee."""


class SpaceError(CahpError):
    """The heads do not differ, or there are too few statistics to compare them."""


class Cancelled(Exception):
    """A progress callback raises this to stop the work between two batches."""


class HasHeads(Protocol):
    """What is known by its number of layers and of heads per layer: a model, its card, or a mask."""

    @property
    def layers(self) -> int:
        """Number of layers."""

    @property
    def heads(self) -> int:
        """Number of heads per layer."""


class Progress(Protocol):
    """Called between batches with the name of a stage and its progress; may raise ``Cancelled``."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def report_progress(batches: Sequence[Chunk], stage: str, progress: Progress) -> Iterator[Chunk]:
    """Yield ``batches``, and report the number of finished examples before each of them and at the end."""
    total = sum(map(len, batches))
    done = 0
    for batch in batches:
        progress(stage, done, total)
        yield batch
        done += len(batch)
    progress(stage, done, total)


def nest_progress(progress: Progress, place: int, places: int) -> Progress:
    """Return a callback for one of ``places`` equal pieces of work, in hundredths of a piece of the whole."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, 100 * place + 100 * done // max(total, 1), 100 * places)

    return report


def spread(rows: int, count: int) -> Ints:
    """Return at most ``count`` of ``rows`` row numbers, evenly spread, with both ends."""
    return np.unique(np.linspace(0, rows - 1, min(count, rows)).round().astype(np.int64))


def holm_correction(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: the smallest of m times m, the next times m - 1, ..., never falling."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected


def name_type(value: object) -> str:
    """Return the name of the type of a value with its module, for messages about it."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def digest(*parts: bytes | str) -> str:
    """Return the SHA-256 of length-prefixed parts, so that ``("ab", "c")`` and ``("a", "bc")`` differ."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class HeadMask:
    """The heads that stay: ``keep[layer, head]`` is True for a kept head. It holds a read-only copy.

    ``keep`` may also be an array, or a list of rows, of 1 and 0.
    """

    keep: Bools

    if TYPE_CHECKING:

        def __init__(self, keep: ArrayLike) -> None: ...

    def __post_init__(self) -> None:
        try:
            given = np.asarray(self.keep)
        except ValueError:
            raise MaskError("a mask has as many heads in every layer; give an array (layers, heads)") from None
        if given.ndim != 2 or 0 in given.shape or not np.isin(given, (0, 1)).all():
            raise MaskError(
                f"a mask is an array (layers, heads) of True and False, or of 1 and 0, not {given.dtype} {given.shape}"
            )
        keep = given.astype(np.bool_)
        keep.setflags(write=False)
        object.__setattr__(self, "keep", keep)

    @classmethod
    def full(cls, layers: int, heads: int) -> HeadMask:
        """Make a mask that keeps every head."""
        return cls(np.ones((layers, heads), dtype=np.bool_))

    @classmethod
    def of(cls, kept: Iterable[int], layers: int, heads: int) -> HeadMask:
        """Make a mask that keeps the heads with the given flat indices."""
        keep = np.zeros(layers * heads, dtype=np.bool_)
        keep[list(kept)] = True
        return cls(keep.reshape(layers, heads))

    @classmethod
    def without(cls, removed: Iterable[int], layers: int, heads: int) -> HeadMask:
        """Make a mask that keeps all heads but those with the given flat indices."""
        return cls(~cls.of(removed, layers, heads).keep)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.keep.shape[0])

    @property
    def heads(self) -> int:
        """Number of heads per layer before pruning."""
        return int(self.keep.shape[1])

    @cached_property
    def count(self) -> int:
        """Number of kept heads."""
        return int(self.keep.sum())

    @property
    def is_full(self) -> bool:
        """Whether every head is kept."""
        return bool(self.keep.all())

    @property
    def unpruned(self) -> HeadMask:
        """The mask of the same model that keeps every head."""
        return HeadMask.full(self.layers, self.heads)

    @property
    def flat(self) -> list[int]:
        """Flat indices of the kept heads, ascending."""
        return np.flatnonzero(self.keep).tolist()

    @property
    def by_layer(self) -> list[list[int]]:
        """Kept heads of each layer, ascending."""
        return [np.flatnonzero(row).tolist() for row in self.keep]

    @property
    def kept(self) -> dict[str, list[int]]:
        """Kept heads by layer, in the form of files."""
        return {str(layer): heads for layer, heads in enumerate(self.by_layer)}

    def check_fits(self, layers: int, heads: int, model: str) -> None:
        """Check that the mask is for a model of ``layers`` x ``heads`` heads; ``model`` names it.

        Raises:
            MaskError: If not.
        """
        if self.keep.shape != (layers, heads):
            raise MaskError(
                f"The mask is for {self.layers} x {self.heads} heads (layers x heads) but {model} has {layers} x "
                f"{heads}; choose a mask that was made for this model."
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of kept heads of each layer."""
        return tuple(self.keep.sum(axis=1).tolist())

    @cached_property
    def empty_layers(self) -> tuple[int, ...]:
        """Layers without a kept head."""
        return tuple(np.flatnonzero(~self.keep.any(axis=1)).tolist())

    @property
    def cut_layers(self) -> int:
        """The number of layers that lost heads."""
        return int((~self.keep.all(axis=1)).sum())

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the keep rows, one byte per head (0 or 1), row by row."""
        return hashlib.sha256(self.keep.astype(np.uint8).tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Selection:
    """A mask and how its heads were chosen, as flat indices.

    ``k`` is the number of clusters with a representative (None: no clusters were used), and ``rescued`` are the
    heads added by the per-layer minimum.
    """

    mask: HeadMask
    requested: int | None
    k: int | None = None
    rescued: tuple[int, ...] = ()


#: Units of estimates: a share in 0..1, a difference of shares in percentage points, nats, bits, a ratio, or a number.
#: They decide how a value is written (``Estimate.text``): a number has one decimal place, and its curve a logarithmic
#: axis, as suits a perplexity.
Unit = Literal["share", "points", "nats", "bits", "ratio", "number"]
#: The lower and the upper end of an interval.
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval ``ci95`` (None: it has none) over ``n`` independent measurements.

    A value that was counted has no interval, and ``n`` is 0.
    """

    value: float
    ci95: Interval | None
    n: int
    unit: Unit

    @property
    def low(self) -> float:
        """Lower end of the interval, or the value where there is none."""
        return self.value if self.ci95 is None else self.ci95[0]

    @property
    def high(self) -> float:
        """Upper end of the interval, or the value where there is none."""
        return self.value if self.ci95 is None else self.ci95[1]

    def excludes(self, value: float) -> bool:
        """Tell whether the interval excludes a value: whether a difference from it is measurable."""
        return self.ci95 is not None and not self.ci95[0] <= value <= self.ci95[1]

    @property
    def text(self) -> str:
        """The value with its unit: ``94.9 %``, ``+1.2 points``, ``0.73 ×``."""
        match self.unit:
            case "share":
                return words.percent(self.value)
            case "points":
                return words.points(self.value)
            case "ratio":
                return words.times(self.value)
            case _:
                return words.number(self.value, self._digits)

    @property
    def interval(self) -> str:
        """The interval as tables show it, in the unit of ``text``: ``[92.0, 96.1]``; empty where there is none."""
        return self._write(words.interval)

    @property
    def span(self) -> str:
        """The interval as sentences show it: ``92.0 to 96.1``; empty where there is none."""
        return self._write(words.span)

    def _write(self, write: Callable[[float, float, int], str]) -> str:
        if self.ci95 is None:
            return ""
        scale = 100.0 if self.unit == "share" else 1.0
        return write(scale * self.low, scale * self.high, self._digits)

    def __str__(self) -> str:
        text = self.text
        if self.ci95 is not None:
            text += f" {self.interval}"
        if self.n:
            text += f", n = {self.n:,}"
        return text

    @property
    def _digits(self) -> int:
        if self.unit == "nats":
            digits = words.nats_digits(self.value)
            nearest = min(abs(self.low), abs(self.high))
            # An end beside 0 is written with a digit more, so that one sees on which side it is.
            if 0.05 <= nearest * 10**digits < 0.5:
                digits += 1
            return digits
        return {"share": 1, "points": 1, "ratio": 2, "bits": 3, "number": 1}[self.unit]


# Below, because these modules need the names above.
from cahp.values.head_roles import (  # noqa: E402
    ALPHA as ALPHA,
    FEWEST_SETS as FEWEST_SETS,
    NO_ROLE as NO_ROLE,
    NOUNS as NOUNS,
    ROLES as ROLES,
    THRESHOLDS as THRESHOLDS,
    HeadRoles as HeadRoles,
)
from cahp.values.statistics import (  # noqa: E402
    Clustering as Clustering,
    Signatures as Signatures,
    called as called,
    expected_overlap as expected_overlap,
    overlaps as overlaps,
)
