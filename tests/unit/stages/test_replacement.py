"""Moments, and costs of removing heads, compared with least squares solved from scratch on tokens of a small layer."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from cahp import models
from cahp.models import reading
from cahp.models.reading import fisher_score
from cahp.models.vocabulary import vocabulary_logits
from cahp.models.windows import cut_windows
from cahp.stages.replacement import Replaceability, eliminate_jointly, eliminate_replaced, joint_costs
from cahp.stages.signatures import collect_moments, examples_used, salience
from cahp.values import HeadMask
from cahp.values.statistics import Moments

HEADS, SIZE, OUT, TOKENS = 4, 3, 7, 60


class Layer:
    """Context vectors, output weights and gradients at the output of a layer, with heads that overlap."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        mixing = random.normal(size=(HEADS * SIZE, HEADS * SIZE)) + 2 * np.eye(HEADS * SIZE)
        self.contexts = (random.normal(size=(TOKENS, HEADS * SIZE)) @ mixing).astype(np.float32).astype(np.float64)
        self.weights, self.slopes = random.normal(size=(OUT, HEADS * SIZE)), random.normal(size=(TOKENS, OUT))
        self.metric = self.slopes.T @ self.slopes / TOKENS
        entering = self.slopes @ self.weights
        self.moments = Moments(
            (self.contexts.T @ self.contexts / TOKENS)[None].astype(np.float32),
            (entering.T @ entering / TOKENS)[None].astype(np.float32),
            np.zeros((1, HEADS, HEADS)),
            HEADS,
            TOKENS,
        )

    def cost(self, removed: tuple[int, ...], *, ridge: float | None, kept: Sequence[int] | None = None) -> float:
        """``E_t E_g (g' change_t)^2`` without the heads, or with a ridge after the best replacement by ``kept`` ones.

        By default all others are kept.
        """
        kept = [head for head in range(HEADS) if head not in removed] if kept is None else kept
        every, contexts = np.arange(HEADS * SIZE) // SIZE, self.contexts
        gone, stay = np.isin(every, removed), np.isin(every, kept)
        if ridge is not None:
            scale = np.sqrt(ridge * np.square(contexts).sum() / contexts.shape[1])
            contexts = np.vstack([contexts, scale * np.eye(contexts.shape[1])])
        lost = contexts[:, gone] @ self.weights[:, gone].T
        if ridge is not None and stay.any():
            lost = lost - contexts[:, stay] @ np.linalg.lstsq(contexts[:, stay], lost, rcond=None)[0]
        return float(np.einsum("to,op,tp->", lost, self.metric, lost) / TOKENS)


def cheapest(layer: Layer, *, ridge: float | None) -> tuple[list[int], list[float]]:
    """The greedy order, by costs that are computed from scratch each time, and the cost after each removal."""
    order: list[int] = []
    costs: list[float] = []
    for _ in range(HEADS):
        left = [head for head in range(HEADS) if head not in order]
        each = [layer.cost((*order, head), ridge=ridge) for head in left]
        order.append(left[int(np.argmin(each))])
        costs.append(min(each))
    return order, costs


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_cost_of_heads_together_is_the_sum_over_their_pairs(seed: int) -> None:
    layer = Layer(seed)
    (pairs,) = joint_costs(layer.moments)
    for size in range(HEADS + 1):
        for removed in itertools.combinations(range(HEADS), size):
            wanted = layer.cost(removed, ridge=None)
            assert pairs[np.ix_(removed, removed)].sum() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([None, 1e-3, 0.1]))
def test_the_head_that_adds_least_goes_first_at_the_cost_of_least_squares(seed: int, ridge: float | None) -> None:
    layer = Layer(seed)
    if ridge is None:
        found = eliminate_jointly(joint_costs(layer.moments))
    else:
        found = eliminate_replaced(layer.moments, ridge=ridge)
    order, costs = cheapest(layer, ridge=ridge)
    assert found.order[0].tolist() == order
    assert np.allclose(found.costs[0].cumsum(), costs, rtol=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, HEADS - 1)))
def test_the_share_that_kept_heads_reproduce_is_that_of_least_squares(seed: int, kept: set[int]) -> None:
    layer, ridge = Layer(seed), 0.05
    mask = HeadMask(np.isin(np.arange(HEADS), list(kept))[None])
    found = Replaceability(layer.moments, ridge)
    (shares,) = found.shares(mask)
    for head in range(HEADS):
        others = sorted(kept - {head})
        whole, lost = (layer.cost((head,), ridge=ridge, kept=some) for some in ([], others))
        assert shares[head] == pytest.approx(1 - lost / whole, abs=1e-3)


def test_a_layer_that_nothing_enters_is_free_and_comes_first() -> None:
    width = HEADS * SIZE
    some = Layer(0).moments
    moments = Moments(
        np.concatenate([some.contexts, np.zeros((1, width, width), np.float32)]),
        np.concatenate([some.gradients, np.zeros((1, width, width), np.float32)]),
        np.zeros((2, HEADS, HEADS)),
        HEADS,
        TOKENS,
    )
    assert np.isnan(Replaceability(moments).shares(HeadMask.full(2, HEADS))[1]).all()
    for found in (eliminate_jointly(joint_costs(moments)), eliminate_replaced(moments)):
        assert found.costs[1].tolist() == [0.0] * HEADS
        assert sorted(found.scores[1].tolist()) == list(range(HEADS))


def test_moments_are_means_of_the_exact_fisher_information(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(str(fakes.save_model(tmp_path, labels=("bad", "fair", "good"))), device="cpu")
    texts = fakes.sentences(9)
    width = model.card.hidden
    contexts, gradients = (np.zeros((model.layers, width, width)) for _ in range(2))
    products = np.zeros((model.layers, model.heads, model.heads))
    tokens = 0
    for batch in model.batches(model.tokenize(texts.inputs), size=1):
        seen: list[torch.Tensor] = []
        gates = torch.ones(model.layers, model.heads, requires_grad=True)
        logits = model.logits(batch, gates=gates, tap=lambda site, _, x, s=seen: s.append(x) if site == "output" else 0)
        for column, share in enumerate(logits[0].softmax(-1).tolist()):
            slopes = torch.autograd.grad(logits[0].log_softmax(-1)[column], seen, retain_graph=True)
            for layer, slope in enumerate(slopes):
                gradients[layer] += share * (slope[0].T @ slope[0]).numpy()
                alone = (slope[0] * seen[layer][0]).sum(0).reshape(model.heads, -1).sum(1).detach().numpy()
                products[layer] += share * np.outer(alone, alone)
        for layer, entering in enumerate(seen):
            contexts[layer] += (entering[0].T @ entering[0]).detach().numpy()
        tokens += batch.tokens
    found = []
    for column in range(3):
        # One class after the other: the sum of these products is the covariance of the classes.
        def one(logits: torch.Tensor, _: torch.Generator, column: int = column) -> torch.Tensor:
            shares = logits.softmax(-1)
            return shares[:, column, None].sqrt() * (torch.eye(3)[column] - shares)

        monkeypatch.setattr(reading, "draw_curvature", one)
        found.append(collect_moments(model, texts))
    assert np.allclose(found[0].contexts, contexts / tokens, atol=1e-5)
    assert np.allclose(sum(one.gradients for one in found), gradients / tokens, rtol=1e-3, atol=1e-7)
    assert np.allclose(sum(one.products for one in found), products / len(texts), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_scores_of_windows_are_sums_over_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path, family=family)), device="cpu")
    windows = cut_windows(model.card, fakes.sentences(20), window=12, tokens=48)
    (batch,) = model.batches(model.tokenize(windows.inputs))
    # Weights that are the same whenever they are drawn, so that the whole can be compared.
    monkeypatch.setattr(reading, "draw_curvature", lambda logits, _: (3 * logits).sin())
    gates = torch.ones(model.layers, model.heads, requires_grad=True)
    (found,) = torch.autograd.grad(fisher_score(model, batch, torch.Generator(), gates=gates), gates)
    states = model.logits(batch, states=True, gates=gates)[batch.tensors["attention_mask"].bool()]
    logits = vocabulary_logits(model.network, states)
    (wanted,) = torch.autograd.grad(((3 * logits).sin().detach() * logits).sum(), gates)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("total", "used"), [(1, 1), (31, 31), (33, 32), (256, 64), (640, 160), (2000, 480), (129, 32)])
def test_a_quarter_of_the_batches_is_used_and_at_least_one(total: int, used: int) -> None:
    texts = fakes.sentences(1)
    assert examples_used(texts.take([0] * total)) == used


def test_signed_gradients_may_cancel_in_a_batch_but_not_per_example() -> None:
    values = np.zeros((2, 1, 3))
    values[:, 0] = [[1.0, 0.5, 0.0], [-1.0, 0.5, 0.0]]
    assert salience(values, how="batch").tolist() == [[0.0, 1.0, 0.0]]
    assert salience(values, how="example").tolist() == [[1.0, 0.5, 0.0]]
