"""The frozen values that stages exchange, and the errors they raise.

Nothing here computes a result; every value checks itself once, when it is made. Symbols as in the paper:
``L`` layers, ``H`` heads a layer, ``N = L * H`` heads with flat index ``layer * H + head``, ``C`` classes,
``B`` pool size and ``D = B * B`` cells of a pooled attention map.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cahp import words

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

#: Seconds that timing a model may take, unless it is told.
LATENCY_SECONDS = 5.0
#: A machine is noisy when the 95th percentile of a model's times is more than this many times their median.
NOISY = 1.25
#: What a machine draws in watts while it computes, and the price of a kilowatt-hour, unless somebody says otherwise.
WATTS, KWH_PRICE = 65.0, 0.30

#: One input of a model: a text, or a pair of texts.
Input = str | tuple[str, str]

#: The numbers in which products of matrices are computed.
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Precisions:
    """In which numbers answers and signatures are computed. Salience, recoveries, proofs and timings are in float32."""

    evaluation: Precision = "float32"
    signatures: Precision = "float32"


class CahpError(Exception):
    """The input cannot be used. The message is one sentence that names the next step."""

    def _render_traceback_(self) -> list[str]:
        # Jupyter asks for this: in a notebook as in a terminal, the sentence is all that helps.
        return [f"{type(self).__name__}: {self}"]


class OptionError(CahpError):
    """An option has no sense, alone or with the others."""


class DataError(CahpError):
    """A data set cannot be read or does not fit the model."""


class ModelError(CahpError):
    """A model cannot be loaded or is not supported."""


class SelfTestError(ModelError):
    """Gates or surgery do not do to this model what they promise."""


class BudgetError(CahpError):
    """A budget that no mask can meet."""


class MaskError(CahpError):
    """A head mask that is malformed or does not fit the model."""


class KneeNotFoundError(CahpError):
    """The silhouette curve has no knee."""


class SpaceError(CahpError):
    """The heads do not differ, or too little is known of them to compare them."""


class Cancelled(Exception):
    """Raised by a progress callback to stop the work between two batches."""


class Progress(Protocol):
    """Called between batches with a stage's name and how much of it is done; may raise ``Cancelled``."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def digest(*parts: bytes | str) -> str:
    """SHA-256 over length-prefixed parts, so that ``("ab", "c")`` and ``("a", "bc")`` differ."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class Texts:
    """Labelled inputs of one split, in their original order.

    ``first`` holds the texts, ``second`` the second text of each pair or None for single texts, ``labels`` the
    class index of each (int64, into ``classes``).
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.dtype != np.int64 or self.labels.shape != (len(self.first),):
            raise ValueError(f"labels must be int64 of shape ({len(self.first)},), got {self.labels.shape}")
        if self.second is not None and len(self.second) != len(self.first):
            raise ValueError(f"{len(self.first)} first but {len(self.second)} second texts")
        if len(self.labels) and not (self.labels.min() >= 0 and self.labels.max() < len(self.classes)):
            raise ValueError(f"labels outside 0..{len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.first)

    @property
    def inputs(self) -> list[Input]:
        """The texts, or the pairs of texts, in order."""
        if self.second is None:
            return list(self.first)
        return list(zip(self.first, self.second, strict=True))

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Examples of each class, shape ``(C,)``."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def take(self, rows: Sequence[int] | Ints) -> Texts:
        """The given rows, in the given order."""
        rows = [int(row) for row in rows]
        second = None if self.second is None else tuple(self.second[row] for row in rows)
        return Texts(tuple(self.first[row] for row in rows), second, self.labels[rows], self.classes)

    @cached_property
    def sha256(self) -> str:
        """Digest of texts, labels and class names."""
        second = () if self.second is None else self.second
        return digest(*self.first, "\0second", *second, self.labels.tobytes(), "\0classes", *self.classes)


@dataclass(frozen=True, eq=False)
class HeadMask:
    """Which heads stay: ``keep[layer, head]`` is True for a kept head. The mask has its own, read-only copy."""

    keep: Bools

    def __post_init__(self) -> None:
        if self.keep.ndim != 2 or self.keep.dtype != np.bool_ or 0 in self.keep.shape:
            raise ValueError(f"keep must be (layers, heads) bool, got {self.keep.shape} {self.keep.dtype}")
        keep = np.array(self.keep)
        keep.setflags(write=False)
        object.__setattr__(self, "keep", keep)

    @classmethod
    def full(cls, layers: int, heads: int) -> HeadMask:
        """Every head kept."""
        return cls(np.ones((layers, heads), dtype=np.bool_))

    @classmethod
    def of(cls, kept: Iterable[int], layers: int, heads: int) -> HeadMask:
        """The heads with the given flat indices kept."""
        keep = np.zeros(layers * heads, dtype=np.bool_)
        keep[list(kept)] = True
        return cls(keep.reshape(layers, heads))

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.keep.shape[0])

    @property
    def heads(self) -> int:
        """Heads a layer before pruning."""
        return int(self.keep.shape[1])

    @cached_property
    def count(self) -> int:
        """Heads kept."""
        return int(self.keep.sum())

    @property
    def is_full(self) -> bool:
        """Whether every head is kept."""
        return bool(self.keep.all())

    @property
    def flat(self) -> list[int]:
        """Flat indices of the kept heads, ascending."""
        return [int(index) for index in np.flatnonzero(self.keep)]

    @property
    def by_layer(self) -> list[list[int]]:
        """Kept heads of each layer, ascending."""
        return [[int(head) for head in np.flatnonzero(row)] for row in self.keep]

    @property
    def kept(self) -> dict[str, list[int]]:
        """Kept heads by layer, as files hold them."""
        return {str(layer): heads for layer, heads in enumerate(self.by_layer)}

    @cached_property
    def empty_layers(self) -> tuple[int, ...]:
        """Layers that keep no head."""
        return tuple(int(layer) for layer in np.flatnonzero(~self.keep.any(axis=1)))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the keep rows, one byte a head (0 or 1), row by row."""
        return hashlib.sha256(self.keep.astype(np.uint8).tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Signatures:
    """Per-class statistics of every head's pooled attention map (paper, section "signatures").

    ``counts (C,)`` int64; ``mean`` and ``m2 (N, C, D)`` float64, ``m2`` the sum of squared deviations from the
    mean. Two halves of a data set merge to the statistics of the whole.
    """

    counts: NDArray[np.int64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    layers: int
    heads: int

    def __post_init__(self) -> None:
        shape = self.mean.shape
        if len(shape) != 3 or shape != self.m2.shape:
            raise ValueError(f"mean {shape} and m2 {self.m2.shape} must both be (heads, classes, cells)")
        if shape[0] != self.layers * self.heads or shape[1:2] != self.counts.shape:
            raise ValueError(f"{shape} does not fit {self.layers} x {self.heads} heads, {self.counts.shape} counts")

    @property
    def pool_size(self) -> int:
        """Side ``B`` of the pooled map."""
        return math.isqrt(self.mean.shape[2])

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance with ``n - 1``, shape ``(N, C, D)``; 1e-6 where a class has fewer than two examples."""
        counts = self.counts[None, :, None]
        return np.where(counts > 1, self.m2 / np.maximum(counts - 1, 1), 1e-6)

    def merge(self, other: Signatures) -> Signatures:
        """Statistics of both samples together (Chan, Golub and LeVeque 1979).

        Raises:
            ValueError: If the two describe different heads, classes or pool sizes.
        """
        if self.mean.shape != other.mean.shape or self.layers != other.layers:
            raise ValueError(f"cannot merge signatures of shapes {self.mean.shape} and {other.mean.shape}")
        counts = self.counts + other.counts
        weight = other.counts / np.maximum(counts, 1)
        delta = other.mean - self.mean
        mean = self.mean + delta * weight[None, :, None]
        m2 = self.m2 + other.m2 + delta**2 * (self.counts * weight)[None, :, None]
        return Signatures(counts, mean, m2, self.layers, self.heads)


@dataclass(frozen=True, eq=False)
class GateGradients:
    """Signed gradients of each example's loss with respect to the head gates at 1.

    ``values (M, L, H)`` float64, in data set order; ``total`` is the number of examples of the sample, of which
    these are the first ``M``.
    """

    values: NDArray[np.float64]
    total: int

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or len(self.values) > self.total:
            raise ValueError(f"values must be (examples, layers, heads), got {self.values.shape} of {self.total}")


@dataclass(frozen=True, eq=False)
class Space:
    """Where each head lies: what clustering and drawing need.

    ``features (N, F)`` float32, ``embedding (N, 2)`` float32 for drawing, ``distances (N, N)`` float32, the ones
    that clustering uses: of the embedding, or of the features for ``projection="none"``.
    """

    features: NDArray[np.float32]
    embedding: NDArray[np.float32]
    distances: NDArray[np.float32]
    projection: str

    def __post_init__(self) -> None:
        heads = len(self.features)
        if self.embedding.shape != (heads, 2) or self.distances.shape != (heads, heads):
            raise ValueError(f"{heads} heads but embedding {self.embedding.shape}, distances {self.distances.shape}")


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters for every ``k``, or for some, and the curve over them.

    ``ks (K,)`` ascending; ``mss (K,)`` mean simplified silhouette; ``labels (K, N)`` cluster of each head;
    ``medoids[i]`` the heads at the centres for ``ks[i]``; ``knee`` the suggested ``k`` and ``knee_rule`` how it was
    found.
    """

    ks: NDArray[np.int64]
    mss: NDArray[np.float64]
    labels: NDArray[np.int64]
    medoids: tuple[NDArray[np.int64], ...]
    knee: int
    knee_rule: str

    def __post_init__(self) -> None:
        if not (len(self.ks) == len(self.mss) == len(self.labels) == len(self.medoids)):
            raise ValueError("ks, mss, labels and medoids must have one row for every k")

    def nearest(self, k: int) -> int:
        """The number of clusters nearest to ``k`` that there is; of two, the smaller."""
        return int(self.ks[np.argmin(np.abs(self.ks - k))])

    def at(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels ``(N,)`` and medoids ``(k,)`` for ``k`` clusters.

        Raises:
            KeyError: If ``k`` was not clustered.
        """
        found = np.flatnonzero(self.ks == k)
        if not len(found):
            raise KeyError(f"no clustering for k={k}; have {len(self.ks)} of {self.ks[0]}..{self.ks[-1]}")
        row = int(found[0])
        return self.labels[row], self.medoids[row]


@dataclass(frozen=True, eq=False)
class Selection:
    """A mask and how it came about.

    ``k`` clusters were represented (None: no clusters were used), ``rescued`` heads were given back to layers left
    empty, ``filled`` heads spent the rest of the budget. All heads are flat indices.
    """

    mask: HeadMask
    requested: int | None
    k: int | None = None
    rescued: tuple[int, ...] = ()
    filled: tuple[int, ...] = ()


@dataclass(frozen=True)
class Price:
    """What a choice of heads costs.

    ``forwards`` passes of one example through the whole model (a backward pass counts as two), and ``labels`` used.
    """

    forwards: float
    labels: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model answered: predicted class, true class and loss of every example, each of shape ``(n,)``."""

    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]
    losses: NDArray[np.float64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.predictions.shape == self.labels.shape == self.losses.shape) or self.labels.ndim != 1:
            raise ValueError("predictions, labels and losses must be vectors of one length")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> Bools:
        """Whether each example was answered rightly."""
        return np.asarray(self.predictions == self.labels)


#: Units of estimates: a share in 0..1, a difference of shares in percentage points, nats, a ratio, or a plain number.
Unit = Literal["share", "points", "nats", "ratio", "number"]


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval ``ci95`` (None: it has none) over ``n`` independent measurements."""

    value: float
    ci95: tuple[float, float] | None
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
        """The value with its unit: ``94.9 %``, ``+1.2 pp``, ``0.73 ×``."""
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
        return "" if self.ci95 is None else words.interval(*self._scaled, self._digits)

    @property
    def span(self) -> str:
        """The interval as sentences show it: ``92.0 to 96.1``; empty where there is none."""
        return "" if self.ci95 is None else words.span(*self._scaled, self._digits)

    def __str__(self) -> str:
        return f"{self.text}{'' if self.ci95 is None else f' {self.interval}'}, n = {self.n:,}"

    @property
    def _scaled(self) -> tuple[float, float]:
        scale = 100.0 if self.unit == "share" else 1.0
        return scale * self.low, scale * self.high

    @property
    def _digits(self) -> int:
        return {"share": 1, "points": 1, "ratio": 2, "nats": 3, "number": 1}[self.unit]


@dataclass(frozen=True)
class RefitReport:
    """Whether a refit was taken, why, and how many texts it was calibrated on."""

    accepted: bool
    reason: str
    examples: int


@dataclass(frozen=True)
class DistillEpoch:
    """One epoch's mean loss (nats), and the share of held-out texts that are then answered as by the full model."""

    epoch: int
    loss: float
    agreement: float


@dataclass(frozen=True)
class DistillReport:
    """Whether a distillation was taken, why, on how many texts it learned (with ``labels`` or not), and its epochs.

    ``held_out`` texts evaluated it: ``held_out_agreement`` is the share of them that the distilled model answers as the
    full one does, ``agreement_before`` that of the model it started from (None: time was up before that was known).
    """

    accepted: bool
    reason: str
    examples: int
    labels: bool
    held_out: int
    agreement_before: float | None
    held_out_agreement: float | None
    epochs: tuple[DistillEpoch, ...]


@dataclass(frozen=True)
class Timing:
    """Latency of one batch in milliseconds: ``repeats`` runs of ``batch`` texts of ``length`` tokens."""

    median: float
    p95: float
    batch: int
    length: int
    repeats: int

    @property
    def noisy(self) -> bool:
        """Whether something else kept the machine busy: its slowest twentieth took 1.25 times the median or more."""
        return self.p95 > NOISY * self.median


@dataclass(frozen=True)
class Cost:
    """Weights, floating-point operations of one text, and latency of one batch; None where it was not measured."""

    parameters: int | None
    flops: int | None
    latency_ms: Timing | None


@dataclass(frozen=True)
class Costs:
    """The full model's cost, the pruned one's, their latency ratio, and attention's share of the full forward pass."""

    full: Cost
    pruned: Cost
    ratio: Estimate
    attention_share: float

    @property
    def noisy(self) -> bool:
        """Whether something else kept the machine busy while either model was timed."""
        return bool(self._noisy)

    @property
    def _noisy(self) -> dict[str, Timing]:
        timings = {"full": self.full.latency_ms, "pruned": self.pruned.latency_ms}
        return {name: timing for name, timing in timings.items() if timing is not None and timing.noisy}

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know of these times."""
        noisy = self._noisy
        if not noisy:
            return ()
        name, timing = max(noisy.items(), key=lambda one: one[1].p95 / one[1].median)
        return (
            f"the machine was busy while latency was measured: the 95th percentile of the {name} model's "
            f"{timing.repeats} times is {timing.p95 / timing.median:.1f} times their median (more than {NOISY}); "
            "give --latency-time more, or measure again on an idle machine",
        )
