"""Facility location, held against its definition written out."""

import itertools
import math
from pathlib import Path

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cahp import models
from cahp.methods.facility import REACH, order_by_coverage
from cahp.methods.shared import registry
from cahp.stages.signatures import example_gradients


def covered(features: NDArray[np.float64], weights: NDArray[np.float64], taken: tuple[int, ...]) -> float:
    """The objective, point by point."""
    distances = [math.dist(one, other) for one, other in itertools.combinations(features.tolist(), 2)]
    reach = REACH * float(np.median(distances))
    total = 0.0
    for weight, point in zip(weights.tolist(), features.tolist(), strict=True):
        nearest = min(math.dist(point, features[other]) for other in taken)
        total += weight * math.exp(-(nearest**2) / (2 * reach**2))
    return total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_each_head_taken_adds_most_and_the_set_is_near_the_best_there_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    features, weights = random.normal(size=(7, 3)), random.random(7)
    order = tuple(int(place) for place in order_by_coverage(features, weights))
    assert sorted(order) == list(range(7))
    for size in range(7):
        values = [covered(features, weights, (*order[:size], other)) for other in range(7) if other not in order[:size]]
        assert covered(features, weights, order[: size + 1]) == pytest.approx(max(values))
    best = max(covered(features, weights, some) for some in itertools.combinations(range(7), 3))
    assert covered(features, weights, order[:3]) >= (1 - 1 / math.e) * best


def test_of_two_heads_alike_one_is_taken_and_the_other_comes_last() -> None:
    features = np.array([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]])
    order = order_by_coverage(features, np.array([1.0, 0.9, 0.5, 0.4, 0.3])).tolist()
    # The twin of what is there adds nothing, however important.
    assert order == [0, 2, 3, 4, 1]


def test_the_method_covers_the_full_space_by_the_information_of_the_gates(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_model(tmp_path / "tiny")), device="cpu")
    # One batch, so that its sum does not depend on how texts are shuffled.
    texts = fakes.sentences(24)
    evidence = fakes.gather(model, texts, tmp_path / "store")
    mask = registry.get("facility").choose(evidence, budget=6, min_per_layer=0).mask
    weights = np.square(example_gradients(model, texts).sum(axis=0)).ravel()
    assert mask.flat == sorted(order_by_coverage(evidence.space.features, weights)[:6].tolist())
