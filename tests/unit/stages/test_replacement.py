"""Costs of removing heads, compared with least squares solved from scratch on tokens of a small random layer."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cahp.stages.replacement import Replaceability, eliminate_jointly, eliminate_replaced, joint_costs
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
        pair, share = found.replacing(mask, head, most=HEADS)
        assert pair == others
        assert share == pytest.approx(shares[head] if others else 0.0)


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
