from __future__ import annotations

import numpy as np
import pytest

from cahp.run import knee_null as module
from cahp.run.knee_null import knee_null
from cahp.stages.clustering import cluster
from cahp.stages.space import place


def test_permuted_features_have_the_knee_of_noise_whatever_structure_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DRAWS", 20)
    random = np.random.default_rng(0)
    groups = random.normal(size=(4, 50)).repeat(6, axis=0) + 0.01 * random.normal(size=(24, 50))
    noise = random.normal(size=(24, 50))
    structured, unstructured = (place(points.astype(np.float32), "pca", 42) for points in (groups, noise))
    null = knee_null(structured)
    assert null is not None
    assert (null, null.draws) == (knee_null(structured), 20)
    assert null.low <= cluster(unstructured).knee <= null.high
    assert cluster(structured).mss[2] > cluster(place(random.permuted(groups, axis=0), "pca", 42)).mss[2]


def test_too_many_heads_are_left_out() -> None:
    assert knee_null(place(np.random.default_rng(0).normal(size=(513, 3)).astype(np.float32), "pca", 42)) is None
