"""Scores of heads: by the loss (gradients, Fisher information, ablation) and by what they attend to."""

import copy
import math
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fakes import gather
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from torch import Tensor

from cahp import models
from cahp.methods import ablation, fisher
from cahp.methods.attattr import attributions
from cahp.methods.hies import entropies, entropy
from cahp.methods.shared import registry
from cahp.methods.shared.scored import batch_gradients
from cahp.models.head_model import HeadModel
from cahp.models.loading import special_ids
from cahp.models.surgery import cut
from cahp.stages.evaluation import evaluate
from cahp.stages.selection import top
from cahp.stages.signatures import gate_gradients
from cahp.tasks.texts import Texts
from cahp.values import DataError, HeadMask, silent

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
    # Signatures use a quarter of the batches, but one at least.
    assert np.allclose(gate_gradients(model, texts), every[:32], atol=2e-3)
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


LAYERS, HEADS, SIZE = 3, 4, 8


@pytest.fixture(scope="module")
def double(model: HeadModel) -> Any:
    """Its network in double precision, of which only weights are used."""
    return copy.deepcopy(model.network).double()


def some(*texts: str, labels: tuple[int, ...] | None = None) -> Texts:
    made = np.array(labels or [0] * len(texts), dtype=np.int64)
    return Texts(texts, None, made, ("bad", "good"))


TEXTS = some("good film", "the plot was very bad", "zebra song", labels=(1, 0, 1))


def run(network: Any, ids: list[int], *, instead: dict[int, Tensor] | None = None) -> tuple[list[Tensor], Tensor]:
    """The maps ``(b, H, n, n)`` of each layer and the class probabilities ``(b, C)`` of one text.

    ``instead`` replaces a layer's maps, by many at once if need be.
    """
    bert, maps = network.bert, []
    hidden = bert.embeddings(torch.tensor([ids]))
    for index, layer in enumerate(bert.encoder.layer):
        attention = layer.attention

        def heads(linear: Any, hidden: Tensor = hidden) -> Tensor:
            return linear(hidden).unflatten(-1, (HEADS, SIZE)).transpose(1, 2)

        query, key, value = (heads(getattr(attention.self, name)) for name in ("query", "key", "value"))
        weights = torch.exp(query @ key.mT / math.sqrt(SIZE))
        weights = weights / weights.sum(-1, keepdim=True)
        if instead and index in instead:
            weights = instead[index]
        maps.append(weights)
        context = (weights @ value).transpose(1, 2).flatten(2)
        hidden = attention.output.LayerNorm(attention.output.dense(context) + hidden)
        inner = torch.nn.functional.gelu(layer.intermediate.dense(hidden))
        hidden = layer.output.LayerNorm(layer.output.dense(inner) + hidden)
    logits = network.classifier(torch.tanh(bert.pooler.dense(hidden[:, 0])))
    return maps, logits.softmax(-1)


def all_maps(model: HeadModel, double: Any, texts: Texts) -> list[tuple[list[int], NDArray[np.float64]]]:
    """Token ids and maps ``(L, H, n, n)`` of each text."""
    found = []
    for entry in model.tokenize(texts.inputs):
        maps, _ = run(double, entry["input_ids"])
        found.append((entry["input_ids"], torch.cat(maps).numpy()))
    return found


def test_attributions_are_a_riemann_sum_of_numeric_derivatives(model: HeadModel, double: Any) -> None:
    steps, change = 20, 1e-4
    expected = np.zeros((len(TEXTS), LAYERS, HEADS))
    for row, entry in enumerate(model.tokenize(TEXTS.inputs)):
        ids, gold = entry["input_ids"], int(TEXTS.labels[row])
        full, _ = run(double, ids)
        # One entry of one head's map changes in each member of the batch.
        single = torch.eye(HEADS * len(ids) ** 2, dtype=torch.float64).reshape(-1, HEADS, len(ids), len(ids)) * change
        for layer, weights in enumerate(full):
            slope = torch.zeros(weights[0].numel(), dtype=torch.float64)
            for step in range(1, steps + 1):
                at = weights * step / steps
                up, down = (run(double, ids, instead={layer: at + by})[1][:, gold] for by in (single, -single))
                slope += (up - down) / (2 * change)
            attributed = weights[0] * slope.reshape(weights[0].shape) / steps
            expected[row, layer] = attributed.flatten(1).max(dim=1).values
    found = attributions(model, TEXTS, progress=silent)
    assert np.abs(expected).max() > 1e-3
    assert np.allclose(found, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("family", ["albert", "deberta-v2", "gpt2", "llama"])
def test_shared_layers_shared_keys_and_other_attention_are_attributed_too(tmp_path: Path, family: str) -> None:
    other = models.load(str(fakes.save_model(tmp_path, family)), device="cpu")
    found = attributions(other, TEXTS, steps=3, progress=silent)
    assert found.shape == (3, other.layers, other.heads)
    assert np.isfinite(found).all()
    assert (found != 0).any(axis=2).any(axis=0).all()
    # Texts are padded together, and each is still its own.
    for row in range(3):
        alone = attributions(other, TEXTS.take([row]), steps=3, progress=silent)
        assert np.allclose(found[row], alone[0], atol=1e-5)


def test_entropy_is_that_of_every_row_by_hand(model: HeadModel, double: Any, tmp_path: Path) -> None:
    expected = np.zeros((LAYERS, HEADS))
    for layer in range(LAYERS):
        for head in range(HEADS):
            rows = [
                -sum(weight * math.log(weight) for weight in row) / math.log(len(row))
                for _, maps in all_maps(model, double, TEXTS)
                for row in maps[layer, head].tolist()
            ]
            expected[layer, head] = sum(rows) / len(rows)
    found = entropies(gather(model, TEXTS, tmp_path))
    assert np.allclose(found, expected, atol=1e-5)
    assert ((found > 0) & (found < 1)).all()
    # That of one token is 0, and of equal weights 1.
    one = entropy(torch.ones(1, 2, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert one.tolist() == [[[0.0], [0.0]]]
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.25] * 4])
    found = entropy(weights[None, None], torch.ones(1, 4, dtype=torch.bool))
    assert np.allclose(found, [[[1.0, 0.0, 0.5, 1.0]]])


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_hies_weighs_gradient_and_focus(model: HeadModel, tmp_path: Path, alpha: float) -> None:
    evidence = gather(model, fakes.sentences(20), tmp_path)
    gradient = registry.get("gradient").score(evidence)  # type: ignore[attr-defined]
    spread = entropies(evidence)
    scaled = (gradient - gradient.min()) / np.ptp(gradient)
    focus = (spread.max() - spread) / np.ptp(spread)
    found = registry.get("hies", alpha=alpha).score(evidence)  # type: ignore[attr-defined]
    assert np.allclose(found, alpha * scaled + (1 - alpha) * focus)


@pytest.mark.parametrize(("name", "special"), [("confidence", True), ("confidence-no-special", False)])
def test_confidence_is_mean_row_maxima(model: HeadModel, double: Any, tmp_path: Path, name: str, special: bool) -> None:
    # [CLS] is 2, [SEP] is 3; an unknown word (1, "zebra") is a word.
    expected = np.zeros((LAYERS, HEADS))
    for layer in range(LAYERS):
        for head in range(HEADS):
            tops = []
            for ids, maps in all_maps(model, double, TEXTS):
                counted = [place for place, token in enumerate(ids) if special or token not in (2, 3)]
                tops += [max(float(maps[layer, head, row, column]) for column in counted) for row in counted]
            assert len(tops) == (9 + 6 if special else 9)
            expected[layer, head] = sum(tops) / len(tops)
    found = registry.get(name).score(gather(model, TEXTS, tmp_path))  # type: ignore[attr-defined]
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("special", "others", "found"),
    [
        ((0, 1, 2), {"unk": 1, "pad": 0, "cls": 2}, {0, 2}),
        ((7,), {"unk": 7, "eos": 7}, {7}),
        ((4,), {"unk": None}, {4}),
    ],
)
def test_an_unknown_word_is_a_word(special: tuple[int, ...], others: dict[str, int | None], found: set[int]) -> None:
    named = {f"{name}_token_id": token for name, token in others.items()}
    assert special_ids(SimpleNamespace(all_special_ids=special, **named)) == found


def test_texts_without_words_cannot_be_scored_by_their_words(model: HeadModel, tmp_path: Path) -> None:
    evidence = gather(model, some("", ""), tmp_path)
    with pytest.raises(DataError, match="use the method confidence"):
        registry.get("confidence-no-special").choose(evidence, budget=6)
    assert registry.get("confidence").choose(evidence, budget=6).mask.count == 6
    # Beside others such a text counts for nothing.
    score = registry.get("confidence-no-special").score  # type: ignore[attr-defined]
    alone, beside = some("good film", "the plot"), some("good film", "", "the plot")
    assert np.allclose(score(gather(model, alone, tmp_path)), score(gather(model, beside, tmp_path)), atol=1e-6)
