"""Scores that ask the loss: gradients and Fisher information by finite differences, ablation by surgery."""

from itertools import combinations, pairwise
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from fakes import gather
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cahp.methods import ablation, fisher
from cahp.methods.shared import registry
from cahp.methods.shared.scored import batch_gradients
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.stages.evaluation import evaluate
from cahp.stages.selection import top
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, silent

LAYERS, HEADS = 3, 4
PLACES = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
Keep = NDArray[np.bool_]


def slopes(model: HeadModel, texts: Texts, keep: Keep) -> NDArray[np.float64]:
    """Gradients ``(n, L, H)`` by central differences of the loss, with the gates at ``keep``."""
    step, found = 1e-2, np.zeros((len(texts), LAYERS, HEADS))
    labels = torch.tensor(texts.labels)
    for batch in model.batches(model.tokenize(texts.inputs)):
        for layer, head in PLACES:
            losses = []
            for sign in (1, -1):
                gates = torch.tensor(keep, dtype=torch.float32)
                gates[layer, head] += sign * step
                right = model.logits(batch, gates=gates).double().log_softmax(-1)
                losses.append(-right[torch.arange(len(batch)), labels[batch.rows]])
            found[batch.rows, layer, head] = ((losses[0] - losses[1]) / (2 * step)).numpy()
    return found


def scaled(scores: NDArray[np.float64]) -> list[list[float]]:
    return [[score / sum(other**2 for other in row) ** 0.5 for score in row] for row in scores.tolist()]


def test_gradient_scores_are_mean_absolute_slopes(model: HeadModel, tmp_path: Path) -> None:
    texts = fakes.sentences(40)
    every = slopes(model, texts, np.ones((LAYERS, HEADS), bool))
    assert (np.abs(every.mean(axis=0)) < 0.9 * np.abs(every).mean(axis=0)).any()
    found = registry.get("gradient").score(gather(model, texts, tmp_path))
    assert np.allclose(found, scaled(np.abs(every).mean(axis=0)), atol=1e-3)


def test_iterated_gradients_are_taken_again_after_every_round(model: HeadModel, tmp_path: Path) -> None:
    # A tenth of 12 heads is one head a round.
    floor = 2
    texts, keep = fakes.sentences(20), np.ones((LAYERS, HEADS), bool)
    for _ in range(3):
        sizes = np.abs(slopes(model, texts, keep)).mean(axis=0) * keep
        scores = np.array(scaled(sizes))
        free = [place for place in PLACES if keep[place] and keep[place[0]].sum() > floor]
        keep[min(free, key=lambda place: scores[place])] = False
    method = registry.get("gradient-iterated")
    found = method.choose(gather(model, texts, tmp_path), budget=9, min_per_layer=floor)
    assert found.mask.keep.tolist() == keep.tolist()


def test_fisher_sums_squares_of_batch_gradients(model: HeadModel, tmp_path: Path) -> None:
    texts = fakes.sentences(70)
    found = batch_gradients(gather(model, texts, tmp_path, seed=5))
    order = np.random.default_rng(5).permutation(70)
    expected = [
        slopes(model, texts.take(order[start : start + 32]), np.ones((LAYERS, HEADS), bool)).sum(axis=0)
        for start in (0, 32, 64)
    ]
    assert found.shape == (3, LAYERS, HEADS)
    assert np.allclose(found, expected, atol=5e-2)
    assert np.abs(found).max() > 1


def test_heads_are_swapped_where_their_gradients_cancel() -> None:
    # The smallest sums of squares are 1 and 1.01, but together they add up; -1.2 cancels either, and the first leaves
    # less: (2, 0.1) against (-0.2, 0). The last head has nothing to cancel it.
    batches = np.array([[1.0, 1.0, -1.2, 0.0], [0.0, 0.1, 0.0, 3.0]])
    assert fisher.rearrange(batches, kept=2).tolist() == [False, True, False, True]


def objective(batches: NDArray[np.float64], pruned: set[int]) -> float:
    return sum(sum(row[head] for head in pruned) ** 2 for row in batches.tolist())


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 7), st.data())
def test_swaps_are_those_of_brute_force_and_never_worse(seed: int, rows: int, heads: int, data: st.DataObject) -> None:
    batches = np.random.default_rng(seed).normal(size=(rows, heads))
    kept = data.draw(st.integers(0, heads))
    order = sorted(range(heads), key=lambda head: objective(batches, {head}))
    pruned = set(order[: heads - kept])
    worth = [objective(batches, pruned)]
    for head in order[heads - kept :]:
        # All sets of the same size that the larger set holds, those without the new head included.
        pruned = min(
            map(set, combinations(sorted(pruned | {head}), heads - kept)), key=lambda some: objective(batches, some)
        )
        worth.append(objective(batches, pruned))
    assert all(after <= before + 1e-12 for before, after in pairwise(worth))
    keep = fisher.rearrange(batches, kept=kept)
    assert set(np.flatnonzero(~keep).tolist()) == pruned


@pytest.mark.parametrize(("budget", "floor"), [(5, 1), (7, 0), (8, 2)])
def test_fisher_keeps_layer_counts_and_moves_inside(model: HeadModel, tmp_path: Path, budget: int, floor: int) -> None:
    evidence = gather(model, fakes.sentences(150), tmp_path)
    batches = batch_gradients(evidence)
    assert len(batches) == 5
    diagonal = top((batches**2).sum(axis=0), budget=budget, min_per_layer=floor).mask
    found = registry.get("fisher").choose(evidence, budget=budget, min_per_layer=floor).mask
    assert found.keep.sum(axis=1).tolist() == diagonal.keep.sum(axis=1).tolist()
    for layer in range(LAYERS):
        before, after = (set(np.flatnonzero(~mask.keep[layer]).tolist()) for mask in (diagonal, found))
        assert objective(batches[:, layer], after) <= objective(batches[:, layer], before) + 1e-9


def loss(model: HeadModel, texts: Texts, keep: Keep) -> float:
    """Mean loss of the model without the heads, cut out of its weights."""
    return float(evaluate(cut(model, HeadMask(keep.copy())), texts).losses.mean())


def test_ablation_is_the_rise_of_the_loss_when_a_head_is_cut_out(model: HeadModel, tmp_path: Path) -> None:
    texts, expected = fakes.sentences(30), np.zeros((LAYERS, HEADS))
    for place in PLACES:
        keep = np.ones((LAYERS, HEADS), bool)
        keep[place] = False
        expected[place] = loss(model, texts, keep) - float(evaluate(model, texts).losses.mean())
    found = registry.get("ablation").score(gather(model, texts, tmp_path))  # type: ignore[attr-defined]
    assert np.abs(expected).max() > 1e-2
    assert np.allclose(found, expected, atol=1e-5)


def test_greedy_ablation_measures_again_after_every_round(model: HeadModel, tmp_path: Path) -> None:
    # A twentieth of 12 heads is one head a round.
    floor = 2
    texts, keep = fakes.sentences(20), np.ones((LAYERS, HEADS), bool)
    for _ in range(3):
        losses = {}
        for place in PLACES:
            if keep[place] and keep[place[0]].sum() > floor:
                without = keep.copy()
                without[place] = False
                losses[place] = loss(model, texts, without)
        keep[min(losses, key=lambda place: losses[place])] = False
    found = registry.get("ablation-greedy").choose(gather(model, texts, tmp_path), budget=9, min_per_layer=floor)
    assert found.mask.keep.tolist() == keep.tolist()


def test_ablation_uses_at_most_256_texts(model: HeadModel, tmp_path: Path) -> None:
    made = gather(model, fakes.sentences(300), tmp_path)
    few = made.texts.take(np.sort(np.random.default_rng(made.seed).permutation(300)[:256]))
    found = ablation.losses_without(made, HeadMask.full(LAYERS, HEADS), silent, most=256)
    assert found[0] == pytest.approx(float(evaluate(model, few).losses.mean()), abs=1e-6)
    assert registry.get("ablation").estimate_cost(made, budget=6).labels == 256  # type: ignore[attr-defined]
