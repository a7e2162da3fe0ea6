"""Heads as points, by how each separates the classes; their clusters, and the number at which the published rule stops.

Two heads with the same features separate the classes in the same way, so one of them is redundant.
"""

import dataclasses
import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any, Literal

import numpy as np

from cahp.values import Floats, Floats32, Ints, KneeNotFoundError, OptionError, Progress, SpaceError, silent
from cahp.values.statistics import Clustering, Signatures, Space

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
    import kmedoids

    _check_degree(degree)
    distances = space.distances
    heads = len(distances)
    ks = cluster_counts(heads)
    mss = np.ones(len(ks))
    labels = np.empty((len(ks), heads), dtype=np.int64)
    medoids: list[Ints] = []
    generator = np.random.default_rng(seed)
    # FasterPAM reads the matrix by columns. In an array by rows, from 1,000 heads on, nearly every read misses the
    # cache, which takes five times as long. It is symmetric, so its transpose serves as a copy by columns.
    by_column = distances.T if heads > COMPLETE else np.asfortranarray(distances)
    before = np.empty(0, dtype=np.int64)
    # Without medoids, all heads are equally likely.
    own = np.ones(heads)
    for row, k in enumerate(ks.tolist()):
        start: Any = k
        order: int | None = seed
        if heads > COMPLETE:
            order = None
            more = k - len(before)
            if np.count_nonzero(own) < more:
                # Fewer different heads than clusters: some clusters split equal heads.
                own = np.ones(heads)
                own[before] = 0
            added = generator.choice(heads, more, replace=False, p=own / own.sum())
            start = np.concatenate([before, added]).astype(np.uintp)
        # From 1,000 points on, the default number of threads depends on the machine, and the result on that.
        clusters = kmedoids.fasterpam(by_column, medoids=start, random_state=order, n_cpu=1)
        labels[row] = clusters.labels
        before = clusters.medoids.astype(np.int64)
        medoids.append(before)
        own = distances[np.arange(heads), before[labels[row]]].astype(np.float64)
        own[before] = 0
        # Once every head lies on a medoid, further clusters only split equal heads: the curve stays at 1.
        if row == 0 or mss[row - 1] < 1:
            mss[row] = mean_simplified_silhouette(distances, labels[row], before)
        progress("clustering", row + 1, len(ks))
    unsuggested = Clustering(ks, mss, labels, tuple(medoids), knee=0, knee_rule=NO_KNEE)
    return with_degree(unsuggested, degree=degree)


def cluster_counts(heads: int) -> Ints:
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


#: Without OpenMP, numba ends the process when two threads use UMAP at once.
_PROJECTING = Lock()

Projection = Literal["tsne", "umap", "pca", "none"]

#: Smallest variance of a cell: without it, rarely attended cells would dominate every distance without any signal.
VARIANCE_FLOOR = 1e-6

#: Largest difference of features, on their scale of 0..2, that rounding in float32 explains.
_SAME = 1e-6

#: Number of heads up to which neighbour graphs need smaller settings than the published ones.
_FEW_HEADS = 10

#: Number of heads above which t-SNE searches neighbours among principal components, as its authors did, since a search
#: among all features takes as long as t-SNE itself.
_MANY_HEADS = 2048
_COMPONENTS = 50


def features(signatures: Signatures, *, progress: Progress = silent) -> Floats32:
    """Separation of the classes by every head, cell by cell: shape ``(N, P * D)``, values 0..2.

    ``P = C (C - 1) / 2`` blocks of ``D`` cells, one a pair of classes in the order of
    ``itertools.combinations``. A cell's value is the Jeffries-Matusita distance ``2 (1 - exp(-BD))`` of two
    univariate normal distributions, with variances of at least ``VARIANCE_FLOOR`` and ``BD`` their Bhattacharyya
    distance (arXiv 2606.19150, section "feature space"). Pairs with a class that has no examples are zero.
    ``progress`` is called after every pair.

    Texts of one class, such as those of a language model, have nothing to separate: the features are then the square
    roots of the mean map, ``(N, D)``, whose distances are Hellinger's. This extends the method. Of SmolLM2-135M,
    clusters of two halves of the documents agree as well with the column of the first token as without it (adjusted
    Rand index 0.70 and 0.73 over 8 to 45 clusters, spread 0.05), so it stays.
    """
    heads, classes, cells = signatures.mean.shape
    if classes == 1:
        return np.sqrt(signatures.mean[:, 0]).astype(np.float32)
    matrix = np.zeros((heads, math.comb(classes, 2) * cells), dtype=np.float32)
    for pair, separation in _separations(signatures, progress):
        matrix[:, pair * cells : (pair + 1) * cells] = separation
    return matrix


def space(
    signatures: Signatures,
    *,
    projection: Projection = "tsne",
    seed: int = 42,
    size_limit: int = 1 << 29,
    progress: Progress = silent,
) -> Space:
    """Map the heads to points, and compute the distances between them.

    ``projection`` names the map to two dimensions whose distances clustering uses: ``"tsne"`` (the published
    one; of more than 2,048 heads, of the first 50 principal components), ``"umap"`` or ``"pca"``; with
    ``"none"`` the distances are those of the features themselves, and the embedding is their principal plane,
    for drawing only. A feature matrix of more than ``size_limit`` bytes is never built: the ``features`` of the
    result are then ``(N, N - 1)`` coordinates with the same distances between heads. ``progress`` is called after
    every pair of classes as ``"features"``, then before and after ``"projection"``.

    Raises:
        SpaceError: If the heads cannot be told apart: fewer than three heads, fewer than two classes with
            examples, attention maps that are not finite, or features that are the same for all heads.
    """
    _check(signatures)
    heads, classes, cells = signatures.mean.shape
    size = heads * max(1, math.comb(classes, 2)) * cells * np.dtype(np.float32).itemsize
    if size <= size_limit:
        points = features(signatures, progress=progress)
    else:
        points = _isometric(signatures, progress=progress)
    # t-SNE divides by the spread of the points: without any, it can take the whole process down.
    if float(np.ptp(points, axis=0).max()) <= _SAME:
        raise SpaceError(
            f"all {heads} heads separate the classes in the same way, so there is nothing to cluster; "
            "give more examples of at least two classes"
        )
    progress("projection", 0, 1)
    placed = place(points, projection, seed)
    progress("projection", 1, 1)
    return placed


def place(points: Floats32, projection: str, seed: int) -> Space:
    """Project the features ``(N, F)`` to a plane, and compute the distances between heads."""
    from sklearn.metrics import pairwise_distances
    from threadpoolctl import threadpool_limits

    heads = len(points)
    projected = points
    estimator: Any
    match projection:
        case "tsne":
            from sklearn.manifold import TSNE

            if heads > _MANY_HEADS and points.shape[1] > _COMPONENTS:
                from sklearn.decomposition import PCA

                projected = PCA(_COMPONENTS, random_state=seed).fit_transform(points)
            perplexity: float = 10
            if heads <= _FEW_HEADS:
                perplexity = max(1, (heads - 1) / 3)
            estimator = TSNE(n_components=2, perplexity=perplexity, max_iter=1000, random_state=seed)
        case "umap":
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
                from umap import UMAP

            # A seed forces one job, and UMAP warns unless that is asked for. Its spectral start needs more
            # than a few heads: it fails for 3, and repeats itself poorly when some are equal.
            start = "spectral"
            if heads <= _FEW_HEADS:
                start = "pca"
            neighbours = min(15, heads - 1)
            estimator = UMAP(n_components=2, n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1)
        case "pca" | "none":
            from sklearn.decomposition import PCA

            estimator = PCA(n_components=2, random_state=seed)
    # So few points gain nothing from OpenMP threads, which wait for each other thousands of times: on busy
    # cores t-SNE then takes 20 times as long. BLAS keeps its threads, as the reference's do: their sums round
    # otherwise.
    with _PROJECTING, threadpool_limits(limits=1, user_api="openmp"):
        embedding = np.asarray(estimator.fit_transform(projected), dtype=np.float32)
    compared = embedding
    if projection == "none":
        compared = points
    distances = pairwise_distances(compared).astype(np.float32, copy=False)
    return Space(features=points, embedding=embedding, distances=distances, projection=projection)


def _check(signatures: Signatures) -> None:
    """Check that a projection can use the statistics."""
    heads, classes, cells = signatures.mean.shape
    seen = int((signatures.counts > 0).sum())
    if heads < 3:
        raise SpaceError(f"{heads} heads cannot be clustered, which takes 3; choose a method that scores heads")
    if seen < min(2, classes):
        raise SpaceError(
            f"{seen} of {classes} classes have examples, which is not enough to compare heads; "
            "give examples of at least two classes"
        )
    if cells * max(1, math.comb(seen, 2)) < 2:
        raise SpaceError("one feature per head does not span a plane; choose a larger pool size")
    if not (np.isfinite(signatures.mean).all() and np.isfinite(signatures.m2).all()):
        raise SpaceError("the attention maps are not finite; load the model in float32 and check its weights")


def _separations(signatures: Signatures, progress: Progress) -> Iterator[tuple[int, Floats]]:
    """Index and Jeffries-Matusita distances ``(N, D)`` of every pair of classes that both have examples."""
    counts = signatures.counts
    mean = signatures.mean

    pairs = list(itertools.combinations(range(len(counts)), 2))
    for pair, (a, b) in enumerate(pairs):
        if counts[a] and counts[b]:
            v_a, v_b = (np.maximum(signatures.variance_of(label), VARIANCE_FLOOR) for label in (a, b))
            total = v_a + v_b
            # The Bhattacharyya coefficient exp(-BD). The logarithm in
            #   BD = (mu_a - mu_b)^2 / (4 (v_a + v_b)) + 1/2 ln((v_a + v_b) / (2 sqrt(v_a v_b)))
            # is resolved, since a square root costs less.
            overlap = np.exp(-((mean[:, a] - mean[:, b]) ** 2) / (4 * total))
            overlap *= np.sqrt(2 * np.sqrt(v_a * v_b) / total)
            yield pair, 2 * (1 - overlap)
        progress("features", pair + 1, len(pairs))


def _isometric(signatures: Signatures, *, progress: Progress) -> Floats32:
    """Coordinates ``(N, N - 1)`` with the features' distances, in the memory of one pair of classes.

    Classical multidimensional scaling (Torgerson 1952). The features are centred block by block, which makes
    the sum of the blocks' Gram matrices the double-centred one without the cancellation of squared distances.
    """
    from threadpoolctl import threadpool_limits

    heads = len(signatures.mean)
    gram = np.zeros((heads, heads))
    # Thousands of small products: on busy cores, threads that wait for each other cost more than they save.
    with threadpool_limits(limits=1, user_api="blas"):
        for _, separation in _separations(signatures, progress):
            separation -= separation.mean(axis=0)
            gram += separation @ separation.T
    eigenvalues, axes = np.linalg.eigh(gram)
    # Largest first; the last of N eigenvalues is zero, since centred points span N - 1 dimensions.
    scale = np.sqrt(np.maximum(eigenvalues[:0:-1], 0))
    return np.asarray(axes[:, :0:-1] * scale, dtype=np.float32)
