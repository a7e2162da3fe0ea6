"""Chance keeps what it is told to keep, and nothing else."""

from typing import Any

import fakes
import numpy as np
import pytest
from fakes import gather

from cahp.methods.shared import registry
from cahp.models.head_model import HeadModel
from cahp.run.evidence import HeadEvidence
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
