"""Chance keeps what it is told to keep, and nothing else."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
from fakes import gather

from cahp.methods.shared import registry
from cahp.models.head_model import HeadModel

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS, HEADS = 3, 4
TEXTS = fakes.sentences(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def test_random_masks_keep_every_head_equally_often(model: HeadModel, folder: Path) -> None:
    method = registry.get("random")
    masks = [
        method.choose(gather(model, TEXTS, folder, seed=seed), budget=3, min_per_layer=0).mask.keep
        for seed in range(800)
    ]
    # Standard error of a share of 1/4 among 800 is 0.015.
    assert np.allclose(np.mean(masks, axis=0), 3 / 12, atol=0.06)


@pytest.mark.parametrize(("budget", "floor"), [(3, 1), (4, 1), (5, 0), (7, 2), (11, 1), (12, 1), (2, 0)])
def test_even_masks_differ_by_one_head_a_layer_at_most(model: HeadModel, folder: Path, budget: int, floor: int) -> None:
    fuller = set()
    for seed in range(40):
        made = gather(model, TEXTS, folder, seed=seed)
        counts = registry.get("random-even").choose(made, budget=budget, min_per_layer=floor).mask.keep.sum(axis=1)
        assert counts.sum() == budget
        assert counts.max() - counts.min() <= 1
        fuller.add(tuple(counts.tolist()))
    # Which layers hold one more is chance as well.
    assert len(fuller) == (1 if budget % LAYERS == 0 else 3)


@pytest.mark.parametrize(("budget", "floor"), [(3, 1), (5, 1), (7, 1), (8, 2), (None, 1)])
def test_random_per_layer_keeps_the_counts_of_complementary_pruning(
    model: HeadModel, folder: Path, budget: int | None, floor: int
) -> None:
    made = gather(model, TEXTS, folder)
    ours, theirs = (
        registry.get(name).choose(made, budget=budget, min_per_layer=floor)
        for name in ("complementary", "random-per-layer")
    )
    assert theirs.mask.keep.sum(axis=1).tolist() == ours.mask.keep.sum(axis=1).tolist()
    assert theirs.requested == budget


def test_random_per_layer_draws_heads_of_a_layer_equally_often(model: HeadModel, folder: Path) -> None:
    made = gather(model, TEXTS, folder)
    counts = registry.get("complementary").choose(made, budget=6).mask.keep.sum(axis=1)

    class Seeded:
        card, clustering, salience, seed = made.card, made.clustering, made.salience, 0

    shares = np.zeros((LAYERS, HEADS))
    for seed in range(600):
        Seeded.seed = seed
        shares += registry.get("random-per-layer").choose(Seeded, budget=6).mask.keep / 600  # type: ignore[arg-type]
    assert np.allclose(shares, counts[:, None] / HEADS, atol=0.08)


@pytest.mark.parametrize("budget", [4, 6, 8, None])
def test_a_random_member_stands_for_each_cluster(model: HeadModel, folder: Path, budget: int | None) -> None:
    made = gather(model, TEXTS, folder)

    class Seeded:
        card, clustering, seed = made.card, made.clustering, 0

    standing: dict[int, set[int]] = {}
    for seed in range(60):
        Seeded.seed = seed
        found = registry.get("random-in-cluster").choose(Seeded, budget=budget)  # type: ignore[arg-type]
        assert found.k is not None
        labels, _ = made.clustering.at(found.k)
        own = sorted(set(found.mask.flat) - set(found.rescued) - set(found.filled))
        assert sorted(labels[own].tolist()) == sorted(set(labels.tolist()))
        if found.k == (budget or made.clustering.knee):
            for head in own:
                standing.setdefault(int(labels[head]), set()).add(head)
    labels, _ = made.clustering.at(budget or made.clustering.knee)
    for cluster, members in standing.items():
        size = int((labels == cluster).sum())
        assert len(members) > 1 or size == 1
