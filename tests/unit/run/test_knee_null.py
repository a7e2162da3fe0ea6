from __future__ import annotations

import numpy as np
import pytest

from cahp.run import evidence
from cahp.run.evidence import null_curves
from cahp.stages.clustering import cluster, place


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
    assert knees is not None
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
