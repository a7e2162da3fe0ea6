"""Clusters of heads for every number of clusters, and how many the curve over them suggests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cahp.values import Clustering, Floats, Ints, KneeNotFoundError, OptionError, Progress, Space, silent

#: Degrees of the polynomial that smooths the curve; above, it follows the noise.
DEGREES = range(2, 11)

#: ``Clustering.knee_rule`` of a curve without a knee, whose ``knee`` is 0: it serves budgets, but suggests
#: none.
NO_KNEE = "none"

_FEWEST_POINTS = 8
_FLAT = 1e-9


def cluster(space: Space, *, seed: int = 42, degree: int = 6, progress: Progress = silent) -> Clustering:
    """Group the heads into ``k`` clusters for every ``k`` of ``2 .. N - 1``.

    k-medoids by FasterPAM (Schubert and Rousseeuw 2021) on ``space.distances``, with the curve of
    ``mean_simplified_silhouette`` over ``k`` and its ``knee`` for the given polynomial ``degree``. A curve
    without a knee is not an error here, since budgets do without one: ``knee`` is then 0 and ``knee_rule`` is
    ``"none"``. ``progress`` is called after every ``k``.

    Raises:
        OptionError: If the degree is not one of ``DEGREES``.
    """
    import kmedoids

    _check_degree(degree)
    heads = len(space.distances)
    ks = np.arange(2, heads)
    mss = np.ones(len(ks))
    labels = np.empty((len(ks), heads), dtype=np.int64)
    medoids: list[NDArray[np.int64]] = []
    for row, k in enumerate(ks):
        # From 1,000 points on, the default number of threads follows the machine, and the result with it.
        found = kmedoids.fasterpam(space.distances, medoids=int(k), random_state=seed, n_cpu=1)
        labels[row] = found.labels
        medoids.append(found.medoids.astype(np.int64))
        # Once every head lies on a medoid, further clusters only split equal heads: the curve stays at 1.
        if row == 0 or mss[row - 1] < 1:
            mss[row] = mean_simplified_silhouette(space.distances, labels[row], medoids[row])
        progress("clustering", row + 1, len(ks))
    unsuggested = Clustering(ks, mss, labels, tuple(medoids), knee=0, knee_rule=NO_KNEE)
    return with_degree(unsuggested, degree=degree)


def with_degree(clustering: Clustering, *, degree: int) -> Clustering:
    """The same clusters with the knee that another polynomial degree finds.

    Raises:
        OptionError: If the degree is not one of ``DEGREES``.
    """
    try:
        suggested, rule = knee(clustering.ks, clustering.mss, degree=degree)
    except KneeNotFoundError:
        suggested, rule = 0, NO_KNEE
    return dataclasses.replace(clustering, knee=suggested, knee_rule=rule)


def mean_simplified_silhouette(distances: Floats, labels: Ints, medoids: Ints) -> float:
    """How much closer the points are to their own medoid than to the others; at most 1.

    ``distances (N, N)`` symmetric, ``labels (N,)`` indices into ``medoids (k,)``, ``k >= 2``. With ``a`` the
    distance of a point to its own medoid and ``b`` its mean distance to all other medoids: the mean of ``(b -
    a) / max(a, b)`` over the points with ``a > 0``, or 1 if there are none (arXiv 2606.19150).

    Raises:
        ValueError: If there are fewer than two medoids.
    """
    if len(medoids) < 2:
        raise ValueError("one cluster has no other medoid to compare with")
    own = distances[np.arange(len(labels)), medoids[labels]].astype(np.float64)
    others = (distances[medoids].sum(axis=0, dtype=np.float64) - own) / (len(medoids) - 1)
    off_medoid = own > 0
    if not off_medoid.any():
        return 1.0
    a, b = own[off_medoid], others[off_medoid]
    return float(np.mean((b - a) / np.maximum(a, b)))


def knee(ks: Sequence[int] | Ints, mss: Sequence[float] | Floats, *, degree: int = 6) -> tuple[int, str]:
    """Where more clusters stop paying: the knee of ``mss`` over ascending ``ks``, and the rule that found it.

    Kneedle (Satopaa et al. 2011) on the curve smoothed by a polynomial of the given ``degree`` (rule
    ``"polynomial-6"``); where that finds none, of the next lower one, down to 2; then, and at once for fewer
    than 8 points, the point farthest above the chord from the first to the last one (rule ``"chord"``).

    Raises:
        KneeNotFoundError: If no point lies above the chord: the curve is flat, straight or sags.
        OptionError: If the degree is not one of ``DEGREES``.
    """
    _check_degree(degree)
    x, y = np.asarray(ks, dtype=np.float64), np.asarray(mss, dtype=np.float64)
    if len(x) and np.ptp(y) > _FLAT:
        if len(x) >= _FEWEST_POINTS:
            # Two more points than the degree, or the polynomial runs through all of them and smooths nothing.
            for tried in range(min(degree, len(x) - 2), DEGREES.start - 1, -1):
                found = _polynomial_knee(x, y, tried)
                if found is not None:
                    return found, f"polynomial-{tried}"
        height = y - y[0] - (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
        highest = int(np.argmax(height))
        if height[highest] > _FLAT:
            return int(x[highest]), "chord"
    raise KneeNotFoundError(f"the silhouette curve of {len(x)} points has no knee; pass a budget")


def _polynomial_knee(x: NDArray[np.float64], y: NDArray[np.float64], degree: int) -> int | None:
    from kneed import KneeLocator

    located = KneeLocator(
        x, y, curve="concave", direction="increasing", interp_method="polynomial", polynomial_degree=degree
    )
    return None if located.knee is None else int(located.knee)


def smoothed(clustering: Clustering) -> tuple[int, NDArray[np.float64]] | None:
    """The polynomial on which the knee was found: its degree, and its values at ``ks``; None for the other rules.

    The least-squares fit that Kneedle makes (``kneed``'s ``interp_method="polynomial"``).
    """
    name, _, degree = clustering.knee_rule.partition("-")
    if name != "polynomial" or not clustering.knee:
        return None
    fit = np.polynomial.Polynomial.fit(clustering.ks, clustering.mss, int(degree))
    return int(degree), np.asarray(fit(clustering.ks.astype(np.float64)))


def _check_degree(degree: int) -> None:
    if degree not in DEGREES:
        raise OptionError(f"the polynomial degree must be {DEGREES.start} to {DEGREES.stop - 1}, got {degree}")
