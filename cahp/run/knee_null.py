"""The silhouette curve on unstructured data: the heads' features, mixed at random, and where the published rule stops.

Whatever the data, the curve rises with the number of clusters, and the polynomial places its knee. Only a curve above
those of unstructured data shows structure. A random rotation across heads keeps the mean and the covariance of all
features, and removes clusters. (Features permuted cell by cell would lose their covariance, too: nearby cells of an
attention map are alike in any head, so the heads of a model with random weights would seem to form clusters.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cahp.stages.clustering import COMPLETE, cluster, knee
from cahp.stages.space import place
from cahp.values import Floats, KneeNotFoundError, Progress, silent
from cahp.values.statistics import Clustering, Space

#: Number of draws, and of more heads than ``_MANY_HEADS``, where each takes several seconds.
_DRAWS = 20
_FEW_DRAWS = 5
_MANY_HEADS = 200
#: Fewer heads have no curve.
_FEWEST = 4


@dataclass(frozen=True)
class KneeNull:
    """The lowest and the highest knee over ``draws`` of unstructured data, of which ``without`` have no knee."""

    low: int
    high: int
    draws: int
    without: int = 0

    def describe(self, knee: int) -> str:
        """Return where the published rule stops on unstructured data, compared with ``knee`` (0: none) here."""
        stops = f"{self.low}"
        if self.low != self.high:
            stops = f"{self.low} to {self.high}"
        here = ", and nowhere here"
        if self.low <= knee <= self.high:
            here = " too"
        elif knee:
            here = f", and at {knee} here"
        drawn = f"{self.draws} draws"
        if self.without:
            drawn += f", in {self.without} of them nowhere"
        return f"the published rule would stop at {stops} on unstructured data{here} ({drawn})"


@dataclass(frozen=True, eq=False)
class NullCurves:
    """Silhouette curves ``mss (draws, K)`` of unstructured data over the numbers of clusters ``ks (K,)``."""

    ks: NDArray[np.int64]
    mss: NDArray[np.float64]

    def knee(self, degree: int) -> KneeNull | None:
        """Return where the rule stops on the curves with a polynomial of ``degree`` (None: it stops on none)."""
        knees = []
        for curve in self.mss:
            try:
                knees.append(knee(self.ks, curve, degree=degree)[0])
            except KneeNotFoundError:
                continue
        if not knees:
            return None
        return KneeNull(min(knees), max(knees), len(self.mss), len(self.mss) - len(knees))

    @cached_property
    def band(self) -> NDArray[np.float64]:
        """The lowest and the highest curve, ``(2, K)``."""
        return np.stack([self.mss.min(axis=0), self.mss.max(axis=0)])

    def contains(self, curve: Floats) -> bool:
        """Tell whether a curve is as near to the mean of the null curves as these are to each other.

        The distance is the mean over the numbers of clusters, in standard deviations. With 20 curves, one in 21
        curves of unstructured data is farther away than all others.
        """
        own = [self._height(curve, np.delete(self.mss, draw, axis=0)) for draw, curve in enumerate(self.mss)]
        return self._height(curve, self.mss) <= max(own)

    @staticmethod
    def _height(curve: Floats, others: Floats) -> float:
        spread = np.maximum(others.std(axis=0), 1e-6)
        return float(np.mean((curve - others.mean(axis=0)) / spread))

    def gap(self, curve: Floats) -> tuple[int, float]:
        """Return the number of clusters at which a curve is farthest above the mean null curve, and how far."""
        above = curve - self.mss.mean(axis=0)
        return int(self.ks[above.argmax()]), float(above.max())

    def describe(self, curve: Floats) -> str:
        """Return whether a curve shows structure, as a sentence."""
        if self.contains(curve):
            return (
                "Averaged over all numbers of clusters, the curve is not significantly higher than for unstructured "
                f"data (n = {len(self.mss)} curves)."
            )
        k, gap = self.gap(curve)
        return (
            f"Averaged over all numbers of clusters, the curve is higher than for unstructured data, most at {k} "
            f"clusters (by {gap:.2f}): heads do form clusters."
        )


def null_curves(space: Space, *, seed: int = 42, progress: Progress = silent) -> NullCurves | None:
    """Cluster features ``(N, F)`` that a random rotation mixes across heads (None: there are too few or many heads)."""
    from scipy.linalg import helmert
    from scipy.stats import ortho_group

    heads = len(space.features)
    if not _FEWEST <= heads <= COMPLETE:
        return None
    random = np.random.default_rng(seed)
    mean = space.features.mean(axis=0)
    # Coordinates of the heads without their mean, which a rotation must not mix.
    basis = helmert(heads)
    coordinates = basis @ space.features
    draws = _DRAWS
    if heads > _MANY_HEADS:
        draws = _FEW_DRAWS
    clusterings: list[Clustering] = []
    for draw in range(draws):
        progress("unstructured", draw, draws)
        mixed = mean + basis.T @ (ortho_group.rvs(heads - 1, random_state=random) @ coordinates)
        clusterings.append(cluster(place(mixed.astype(np.float32), space.projection, seed), seed=seed))
    progress("unstructured", draws, draws)
    return NullCurves(clusterings[0].ks, np.stack([clustering.mss for clustering in clusterings]))
