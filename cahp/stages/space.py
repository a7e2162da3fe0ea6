"""Heads as points: how each head separates the classes, and the distances between heads.

Two heads with the same features separate the classes in the same way, so one of them is redundant.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.values import Progress, SpaceError, silent
from cahp.values.statistics import Signatures, Space

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


def features(signatures: Signatures, *, progress: Progress = silent) -> NDArray[np.float32]:
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


def place(points: NDArray[np.float32], projection: str, seed: int) -> Space:
    """Project the features ``(N, F)``, and compute the distances between heads."""
    from sklearn.metrics import pairwise_distances

    embedding = _project(points, projection, seed)
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


def _separations(signatures: Signatures, progress: Progress) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Index and Jeffries-Matusita distances ``(N, D)`` of every pair of classes that both have examples."""
    counts = signatures.counts
    mean = signatures.mean

    def variance(label: int) -> NDArray[np.float64]:
        # ``Signatures.variance`` of one class, since with many classes the whole does not fit twice; and each variance
        # has the floor.
        if counts[label] < 2:
            return np.full_like(mean[:, label], VARIANCE_FLOOR)
        spread: NDArray[np.float64] = signatures.m2[:, label] / (counts[label] - 1)
        return np.maximum(spread, VARIANCE_FLOOR)

    pairs = list(itertools.combinations(range(len(counts)), 2))
    for pair, (a, b) in enumerate(pairs):
        if counts[a] and counts[b]:
            v_a = variance(a)
            v_b = variance(b)
            total = v_a + v_b
            # The Bhattacharyya coefficient exp(-BD). The logarithm in
            #   BD = (mu_a - mu_b)^2 / (4 (v_a + v_b)) + 1/2 ln((v_a + v_b) / (2 sqrt(v_a v_b)))
            # is resolved, since a square root costs less.
            overlap = np.exp(-((mean[:, a] - mean[:, b]) ** 2) / (4 * total))
            overlap *= np.sqrt(2 * np.sqrt(v_a * v_b) / total)
            yield pair, 2 * (1 - overlap)
        progress("features", pair + 1, len(pairs))


def _isometric(signatures: Signatures, *, progress: Progress) -> NDArray[np.float32]:
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


def _project(points: NDArray[np.float32], projection: str, seed: int) -> NDArray[np.float32]:
    """Coordinates ``(N, 2)`` of the points in the plane."""
    from threadpoolctl import threadpool_limits

    heads = len(points)
    estimator: Any
    match projection:
        case "tsne":
            from sklearn.manifold import TSNE

            if heads > _MANY_HEADS and points.shape[1] > _COMPONENTS:
                from sklearn.decomposition import PCA

                points = PCA(_COMPONENTS, random_state=seed).fit_transform(points)
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
        return np.asarray(estimator.fit_transform(points), dtype=np.float32)
