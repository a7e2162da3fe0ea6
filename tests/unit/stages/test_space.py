from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.metrics import pairwise_distances

from cahp.stages.clustering import Projection, features, space
from cahp.values import SpaceError
from cahp.values.statistics import Signatures

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
