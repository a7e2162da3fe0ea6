"""What is known of heads before some are chosen: signatures, moments, positions and clusters.

Symbols as in ``cahp.values``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.values import Bools, Floats, Floats32, Ints


@dataclass(frozen=True, eq=False)
class Signatures:
    """Class-wise statistics of the pooled attention map of every head (paper, section "signatures").

    ``counts (C,)`` int64; ``mean`` and ``m2 (N, C, D)`` float64, where ``m2`` is the sum of squared deviations from the
    mean. The statistics of two halves of a data set merge into those of the whole.
    """

    counts: Ints
    mean: Floats
    m2: Floats
    layers: int
    heads: int

    @property
    def variance(self) -> Floats:
        """Variance with ``n - 1``, shape ``(N, C, D)``; 1e-6 where a class has fewer than two examples."""
        return np.stack([self.variance_of(label) for label in range(len(self.counts))], axis=1)

    def variance_of(self, label: int) -> Floats:
        """Variance ``(N, D)`` of one class: with many classes, that of all does not fit in memory twice."""
        if self.counts[label] < 2:
            return np.full_like(self.m2[:, label], 1e-6)
        return np.asarray(self.m2[:, label] / (self.counts[label] - 1))

    def merge(self, other: Signatures) -> Signatures:
        """Return the statistics of both samples of the same heads together (Chan, Golub and LeVeque 1979)."""
        counts = self.counts + other.counts
        weight = other.counts / np.maximum(counts, 1)
        delta = other.mean - self.mean
        mean = self.mean + delta * weight[None, :, None]
        m2 = self.m2 + other.m2 + delta**2 * (self.counts * weight)[None, :, None]
        return Signatures(counts, mean, m2, self.layers, self.heads)


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of each layer's context vectors, and of what the predictions depend on them.

    ``contexts (L, D, D)`` float32 is the mean of ``x x'`` over so many ``tokens``, with ``x (D,)`` the context vectors
    of a layer's ``heads`` side by side, which its output projection reads. ``gradients (L, D, D)`` is the mean of
    ``u u'``, with ``u`` the gradient by ``x`` of a number whose square is the Fisher information of the predictions.
    With ``M`` the Fisher metric at the attention output and ``W`` the output projection, ``gradients`` is ``W' M W``.
    ``products (L, H, H)`` float64 is the mean of ``v v'`` over texts, with ``v (H,)`` the sums over a text's tokens of
    ``u . x`` in each head.
    """

    contexts: Floats32
    gradients: Floats32
    products: Floats
    heads: int
    tokens: int


@dataclass(frozen=True, eq=False)
class Space:
    """The position of each head, for clustering and drawing.

    ``features (N, F)`` float32; ``embedding (N, 2)`` float32 for drawing; ``distances (N, N)`` float32 for clustering,
    between positions in the embedding, or between features for ``projection="none"``.
    """

    features: Floats32
    embedding: Floats32
    distances: Floats32
    projection: str


#: The most families of clusters, since colours tell no more apart.
MOST_FAMILIES = 16


@dataclass(frozen=True, eq=False)
class Clustering:
    """The clusters for several numbers ``k`` of clusters, and the silhouette curve over them.

    ``ks (K,)`` ascending; ``mss (K,)`` mean simplified silhouette; ``labels (K, N)`` cluster of each head;
    ``medoids[i]`` the heads at the centres for ``ks[i]``; ``knee`` is the suggested ``k`` and ``knee_rule`` the rule
    that suggested it.
    """

    ks: Ints
    mss: Floats
    labels: Ints
    medoids: tuple[Ints, ...]
    knee: int
    knee_rule: str

    def __post_init__(self) -> None:
        if not (len(self.ks) == len(self.mss) == len(self.labels) == len(self.medoids)):
            raise ValueError("ks, mss, labels and medoids must have one row for every k")

    def nearest(self, k: int) -> int:
        """Return the available number of clusters nearest to ``k``; of two equally near ones, the smaller."""
        return int(self.ks[np.argmin(np.abs(self.ks - k))])

    @property
    def families(self) -> Ints:
        """The family of each head ``(N,)``, the same for every ``k``: its cluster at the knee.

        If the knee has more clusters than ``MOST_FAMILIES``, or is missing: its cluster among so many.
        """
        few = self.ks[self.ks <= MOST_FAMILIES]
        if not len(few):
            return np.zeros(self.labels.shape[1], dtype=np.int64)
        k = self.knee
        if k not in few:
            k = int(few[-1])
        return self.at(k)[0]

    def at(self, k: int) -> tuple[Ints, Ints]:
        """Return the labels ``(N,)`` and medoids ``(k,)`` for ``k`` clusters.

        Raises:
            KeyError: If ``k`` was not clustered.
        """
        rows = np.flatnonzero(self.ks == k)
        if not len(rows):
            raise KeyError(f"no clustering for k={k}; have {len(self.ks)} of {self.ks[0]}..{self.ks[-1]}")
        row = int(rows[0])
        return self.labels[row], self.medoids[row]


def called(head: int, heads: int) -> str:
    """Return a head's name in links and tables, layer.head, given its flat index."""
    return f"{head // heads}.{head % heads}"


def letters(index: int) -> str:
    """Return the name of a family: A .. Z, AA, AB, ...; heads and layers have numbers."""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        name = chr(65 + letter) + name
    return name


def name_clusters(labels: NDArray[np.integer[Any]], families: NDArray[np.integer[Any]] | None) -> list[str]:
    """Return the name of each cluster of ``labels (N,)``: the letters of its family, with a number if it has others.

    ``families (N,)`` are those of the heads (None: each cluster is one). A cluster belongs to the family of most of its
    heads.
    """
    if families is None:
        families = labels
    of_cluster = [int(np.bincount(families[labels == cluster]).argmax()) for cluster in range(int(labels.max()) + 1)]
    sizes = Counter(of_cluster)
    numbered = Counter[int]()
    names = []
    for family in of_cluster:
        numbered[family] += 1
        name = letters(family)
        if sizes[family] > 1:
            name += str(numbered[family])
        names.append(name)
    return names


def one_openblas_thread() -> Any:
    """Return a context in which OpenBLAS computes with one thread.

    Its threads wait for work in loops, which slows those of torch, and on a busy machine each other.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(internal_api="openblas").limit(limits=1)


def half_interval(values: Floats) -> Floats:
    """Half the width of Student's 95 % interval of the mean of ``values (n, ...)``."""
    from scipy.stats import t

    count = len(values)
    return np.asarray(t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count))


# Overlap of masks --------------------------------------------------------------------------------------------


def jaccard(first: Bools, second: Bools) -> float:
    """Jaccard index of two masks of one shape: heads in both, of those in at least one (0 if both are empty)."""
    return int((first & second).sum()) / max(1, int((first | second).sum()))


def overlaps(masks: Sequence[Bools] | Bools) -> Floats:
    """Jaccard index of every pair of ``R`` masks, ``(R * (R - 1) / 2,)``: first with second, first with third, ..."""
    return np.array([jaccard(first, second) for first, second in combinations(masks, 2)], dtype=np.float64)


def expected_overlap(sizes: Sequence[int], total: int) -> float:
    """Mean of ``overlaps`` of random masks with these sizes; NaN for fewer than two."""
    expected = [expected_jaccard(first, second, total) for first, second in combinations(sizes, 2)]
    if not expected:
        return math.nan
    return float(np.mean(expected))


@lru_cache(maxsize=4096)
def expected_jaccard(first: int, second: int, total: int) -> float:
    """Mean Jaccard index of two independent random sets of ``first`` and ``second`` out of ``total`` elements.

    Their intersection is hypergeometric: the sum over ``i`` of ``P(i) * i / (first + second - i)``, exactly.
    """
    if not first + second:
        return 0.0
    ways = math.comb(total, second)
    return sum(
        math.comb(first, shared) * math.comb(total - first, second - shared) / ways * shared / (first + second - shared)
        for shared in range(max(0, first + second - total), min(first, second) + 1)
    )
