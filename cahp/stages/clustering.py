"""Clusters of heads for every number of clusters, and the number at which the published rule stops."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.values import Floats, Ints, KneeNotFoundError, OptionError, Progress, silent
from cahp.values.statistics import Clustering, Space

#: Degrees of the polynomial that smooths the curve; higher ones follow the noise.
DEGREES = range(2, 11)

#: ``Clustering.knee_rule`` of a curve without a knee; its ``knee`` is 0, and it suggests no budget.
NO_KNEE = "none"

#: Largest number of heads for which every number of clusters is tried, as published.
COMPLETE = 512
#: Part of the cache keys of clusters; bump to invalidate cached results.
CLUSTERS_REVISION = 3
#: Largest number of numbers of clusters that are tried for more heads.
_TRIED = 128

_FEWEST_POINTS = 8
_FLAT = 1e-9


def cluster(space: Space, *, seed: int = 42, degree: int = 6, progress: Progress = silent) -> Clustering:
    """Group the heads into ``k`` clusters for every ``k`` of ``cluster_counts``: of ``2 .. N - 1``, or a grid of these.

    k-medoids by FasterPAM (Schubert and Rousseeuw 2021) on ``space.distances``, with the curve of
    ``mean_simplified_silhouette`` over ``k`` and its ``knee`` for the given polynomial ``degree``. A curve without a
    knee is no error, since a budget needs none: ``knee`` is then 0 and ``knee_rule`` is ``"none"``. ``progress`` is
    called after every ``k``.

    Up to ``COMPLETE`` heads every ``k`` starts from random medoids, as published, in cubic time. Above, each ``k`` of
    the grid starts from the previous medoids and from random heads far from these, and needs two or three iterations;
    ``grid_notice`` describes the effect.

    Raises:
        OptionError: If the degree is not one of ``DEGREES``.
    """
    _check_degree(degree)
    heads = len(space.distances)
    ks = cluster_counts(heads)
    mss = np.ones(len(ks))
    labels = np.empty((len(ks), heads), dtype=np.int64)
    medoids: list[NDArray[np.int64]] = []
    if heads <= COMPLETE:
        clusters = _cluster_each(space.distances, ks, seed)
    else:
        clusters = _cluster_onward(space.distances, ks, seed)
    for row, (k_labels, k_medoids) in enumerate(clusters):
        labels[row] = k_labels
        medoids.append(k_medoids)
        # Once every head lies on a medoid, further clusters only split equal heads: the curve stays at 1.
        if row == 0 or mss[row - 1] < 1:
            mss[row] = mean_simplified_silhouette(space.distances, k_labels, k_medoids)
        progress("clustering", row + 1, len(ks))
    unsuggested = Clustering(ks, mss, labels, tuple(medoids), knee=0, knee_rule=NO_KNEE)
    return with_degree(unsuggested, degree=degree)


def cluster_counts(heads: int) -> NDArray[np.int64]:
    """The numbers of clusters to try for so many heads, ascending.

    All of ``2 .. heads - 1``, or for more than ``COMPLETE`` heads at most 128 of them, whose steps grow with the square
    root of ``k``: dense where the curve bends, coarse where it is flat.
    """
    if heads <= COMPLETE:
        return np.arange(2, heads)
    return np.unique(np.round(2 + (heads - 3) * np.linspace(0, 1, _TRIED) ** 2).astype(np.int64))


def grid_notice(heads: int) -> str | None:
    """The notice that only a grid of numbers was tried for so many heads; None if all were tried."""
    if heads <= COMPLETE:
        return None
    return (
        f"{len(cluster_counts(heads))} of the {heads - 2:,} possible numbers of clusters were tried; with all numbers "
        "(384, 768 and 1,024 heads) the suggestion differed by at most 2, and 80 to 98 % of the heads kept by either "
        "were kept by both, as with another seed (72 to 99 %)"
    )


_Clusters = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _cluster_each(distances: NDArray[np.float32], ks: Ints, seed: int) -> _Clusters:
    """Labels and medoids for each of ``ks``, each from random medoids."""
    import kmedoids

    # FasterPAM reads the matrix by columns. In an array by rows, from 1,000 heads on, nearly every read misses the
    # cache, which takes five times as long.
    by_column = np.asfortranarray(distances)
    for k in ks:
        # From 1,000 points on, the default number of threads depends on the machine, and the result on that.
        clusters = kmedoids.fasterpam(by_column, medoids=int(k), random_state=seed, n_cpu=1)
        yield clusters.labels.astype(np.int64), clusters.medoids.astype(np.int64)


def _cluster_onward(distances: NDArray[np.float32], ks: Ints, seed: int) -> _Clusters:
    """Labels and medoids for each of ``ks``, each from the previous medoids."""
    import kmedoids

    heads = len(distances)
    generator = np.random.default_rng(seed)
    # The matrix is symmetric, so its transpose serves as a copy by columns.
    by_column = distances.T
    medoids = np.empty(0, dtype=np.int64)
    # Without medoids, all heads are equally likely.
    own = np.ones(heads)
    for k in ks:
        more = int(k) - len(medoids)
        if np.count_nonzero(own) < more:
            # Fewer different heads than clusters: some clusters split equal heads.
            own = np.ones(heads)
            own[medoids] = 0
        added = generator.choice(heads, more, replace=False, p=own / own.sum())
        start = np.concatenate([medoids, added]).astype(np.uintp)
        clusters = kmedoids.fasterpam(by_column, medoids=start, n_cpu=1)
        labels = clusters.labels.astype(np.int64)
        medoids = clusters.medoids.astype(np.int64)
        yield labels, medoids
        own = distances[np.arange(heads), medoids[labels]].astype(np.float64)
        own[medoids] = 0


def with_degree(clustering: Clustering, *, degree: int) -> Clustering:
    """The same clusters with the knee for another polynomial degree.

    Raises:
        OptionError: If the degree is not one of ``DEGREES``.
    """
    ks = clustering.ks
    mss = clustering.mss
    if len(ks):
        # At every k, since a polynomial weighs all points equally.
        ks = np.arange(clustering.ks[0], clustering.ks[-1] + 1)
        mss = np.interp(ks, clustering.ks, clustering.mss)
    try:
        suggested, rule = knee(ks, mss, degree=degree)
    except KneeNotFoundError:
        return dataclasses.replace(clustering, knee=0, knee_rule=NO_KNEE)
    return dataclasses.replace(clustering, knee=clustering.nearest(suggested), knee_rule=rule)


def mean_simplified_silhouette(distances: Floats, labels: Ints, medoids: Ints) -> float:
    """The mean simplified silhouette: how much closer points are to their own medoid than to others; at most 1.

    ``distances (N, N)`` symmetric, ``labels (N,)`` indices into ``medoids (k,)``, ``k >= 2``. With ``a`` the
    distance of a point to its own medoid and ``b`` its mean distance to all other medoids: the mean of ``(b -
    a) / max(a, b)`` over the points with ``a > 0``, or 1 if there are none (arXiv 2606.19150).
    """
    own = distances[np.arange(len(labels)), medoids[labels]].astype(np.float64)
    others = (distances[medoids].sum(axis=0, dtype=np.float64) - own) / (len(medoids) - 1)
    off_medoid = own > 0
    if not off_medoid.any():
        return 1.0
    a = own[off_medoid]
    b = others[off_medoid]
    return float(np.mean((b - a) / np.maximum(a, b)))


def knee(ks: Sequence[int] | Ints, mss: Sequence[float] | Floats, *, degree: int = 6) -> tuple[int, str]:
    """The knee of ``mss`` over ascending ``ks``, where the published rule stops, and the rule that found it.

    Kneedle (Satopaa et al. 2011) on the curve smoothed by a polynomial of the given ``degree`` (rule
    ``"polynomial-6"``); without a result, of the next lower degree, down to 2; then, and at once for fewer than 8
    points, the point farthest above the chord from the first to the last point (rule ``"chord"``).

    Raises:
        KneeNotFoundError: If no point lies above the chord: the curve is flat, straight or sags.
        OptionError: If the degree is not one of ``DEGREES``.
    """
    from kneed import KneeLocator

    _check_degree(degree)
    x = np.asarray(ks, dtype=np.float64)
    y = np.asarray(mss, dtype=np.float64)
    if len(x) and np.ptp(y) > _FLAT:
        if len(x) >= _FEWEST_POINTS:
            # Two more points than the degree, or the polynomial runs through all of them and smooths nothing.
            for tried in range(min(degree, len(x) - 2), DEGREES.start - 1, -1):
                smooth: Any = {"interp_method": "polynomial", "polynomial_degree": tried}
                found = KneeLocator(x, y, curve="concave", direction="increasing", **smooth).knee
                if found is not None:
                    return int(found), f"polynomial-{tried}"
        height = y - y[0] - (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
        highest = int(np.argmax(height))
        if height[highest] > _FLAT:
            return int(x[highest]), "chord"
    raise KneeNotFoundError(f"the silhouette curve of {len(x)} points has no knee; pass a budget")


def _check_degree(degree: int) -> None:
    if degree not in DEGREES:
        raise OptionError(f"the polynomial degree must be {DEGREES.start} to {DEGREES.stop - 1}, got {degree}")
