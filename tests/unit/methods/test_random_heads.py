"""Random selections keep the given number of heads, and facility location gives what its definition says."""

import itertools
import math
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import gather
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from cahp import models
from cahp.methods.facility import REACH, order_by_coverage
from cahp.methods.shared import registry
from cahp.models.head_model import HeadModel
from cahp.run.evidence import HeadEvidence
from cahp.stages.signatures import example_gradients
from cahp.values import Selection

LAYERS, HEADS = 3, 4


@pytest.fixture(scope="module")
def evidence(model: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> HeadEvidence:
    return gather(model, fakes.sentences(60), tmp_path_factory.mktemp("store"))


class Seeded:
    """Evidence with another seed to draw heads with."""

    def __init__(self, evidence: HeadEvidence, seed: int) -> None:
        self.seed = seed
        self._evidence = evidence

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evidence, name)


def choose(name: str, evidence: HeadEvidence, seed: int, **options: Any) -> Selection:
    return registry.get(name).choose(Seeded(evidence, seed), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "budget", "floor"), [("random", 3, 0), ("random-per-layer", 6, 1)])
def test_every_head_of_a_layer_is_kept_as_often(evidence: HeadEvidence, name: str, budget: int, floor: int) -> None:
    expected = np.full((LAYERS, 1), budget / LAYERS)
    if name == "random-per-layer":
        expected = registry.get("complementary").choose(evidence, budget=6).mask.keep.sum(axis=1, keepdims=True)
    masks = [choose(name, evidence, seed, budget=budget, min_per_layer=floor).mask.keep for seed in range(800)]
    # Standard error of a share of 1/2 among 800 is 0.018.
    assert np.allclose(np.mean(masks, axis=0), expected / HEADS, atol=0.07)


@pytest.mark.parametrize(("budget", "floor"), [(3, 1), (4, 1), (5, 0), (7, 2), (11, 1), (12, 1), (2, 0)])
def test_even_masks_differ_by_one_head_a_layer_at_most(evidence: HeadEvidence, budget: int, floor: int) -> None:
    fuller = set()
    for seed in range(40):
        mask = choose("random-even", evidence, seed, budget=budget, min_per_layer=floor).mask
        assert mask.count == budget
        assert max(mask.counts) - min(mask.counts) <= 1
        fuller.add(mask.counts)
    # Which layers hold one more is chance as well.
    assert len(fuller) == (1 if budget % LAYERS == 0 else 3)


@pytest.mark.parametrize(("budget", "floor"), [(3, 1), (5, 1), (7, 1), (8, 2), (None, 1)])
def test_random_per_layer_keeps_complementary_counts(evidence: HeadEvidence, budget: int | None, floor: int) -> None:
    ours, theirs = (
        registry.get(name).choose(evidence, budget=budget, min_per_layer=floor)
        for name in ("complementary", "random-per-layer")
    )
    assert theirs.mask.counts == ours.mask.counts
    assert theirs.requested == budget


@pytest.mark.parametrize("budget", [4, 6, 8, None])
def test_a_random_member_stands_for_each_cluster(evidence: HeadEvidence, budget: int | None) -> None:
    usual = budget or evidence.clustering.knee
    standing: dict[int, set[int]] = {}
    for seed in range(60):
        chosen = choose("random-in-cluster", evidence, seed, budget=budget)
        assert chosen.k is not None
        labels, _ = evidence.clustering.at(chosen.k)
        own = sorted(set(chosen.mask.flat) - set(chosen.rescued))
        assert set(labels[own].tolist()) == set(labels.tolist())
        if chosen.k == usual:
            for head in own:
                standing.setdefault(int(labels[head]), set()).add(head)
    labels, _ = evidence.clustering.at(usual)
    for cluster, members in standing.items():
        size = int((labels == cluster).sum())
        assert len(members) > 1 or size == 1


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
