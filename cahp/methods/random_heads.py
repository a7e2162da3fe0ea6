"""Chance, and chance that keeps a part of what complementary pruning does: what any score must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cahp.costs import SelectionCost
from cahp.methods.shared.scored import Scored
from cahp.registry import Evidence, register
from cahp.stages.selection import select
from cahp.values import Floats, HeadMask, Selection


@register
class Random(Scored):
    """Keep heads drawn at random: the control that every score must beat.

    Score: ``u ~ U(0, 1)`` for each head. Source: random head pruning as a baseline (Michel et al. 2019; Voita et al.
    2019). Cost: no forward passes. Labels: none. Randomness: the evidence's seed gives the mask; the floor, where it
    binds, keeps the layer's heads of highest draw.
    """

    name = "random"
    draws = 20

    def score(self, evidence: Evidence) -> Floats:
        """Uniform numbers, shape ``(L, H)``."""
        return _uniform(evidence)


@register
class RandomPerLayer:
    """Keep random heads, in each layer as many as CAHP keeps there: is it the layers that matter, or the heads?

    In layer ``l`` the ``c_l`` heads of highest ``u ~ U(0, 1)``, with ``c_l`` the count of complementary pruning at the
    same budget. Source: a control for CAHP (arXiv 2606.19150, 2026). Cost: CAHP's, a forward pass of every text and a
    backward pass of a quarter of them. Labels: of all calibration texts. Randomness: the evidence's seed.
    """

    name = "random-per-layer"
    needs_budget = False
    draws = 20

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        """Keep exactly ``budget`` heads, or as many as the knee suggests."""
        counts = select(
            evidence.clustering, evidence.salience, budget=budget, min_per_layer=min_per_layer
        ).mask.keep.sum(axis=1, keepdims=True)
        return Selection(HeadMask(_places(_uniform(evidence)) < counts), budget)

    def price(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """What CAHP costs."""
        from cahp.stages.salience import examples_used

        texts = len(evidence.texts)
        return SelectionCost(texts + 2 * examples_used(texts), texts)


@register
class RandomInCluster:
    """Keep a random head of each CAHP cluster: does it matter which member stands for it?

    Complementary pruning with ``u ~ U(0, 1)`` in place of the salience, so heads that the floor or the rest of the
    budget adds are random as well. Source: a control for CAHP (arXiv 2606.19150, 2026). Cost: a forward pass of every
    text. Labels: of all calibration texts. Randomness: the evidence's seed.
    """

    name = "random-in-cluster"
    needs_budget = False
    draws = 20

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        """Keep exactly ``budget`` heads, or as many as the knee suggests; see ``cahp.stages.selection.select``."""
        return select(evidence.clustering, _uniform(evidence), budget=budget, min_per_layer=min_per_layer)

    def price(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """A forward pass of every text, for the signatures."""
        return SelectionCost(len(evidence.texts), len(evidence.texts))


@register
class RandomEven(Scored):
    """Keep random heads, equally many in every layer: is it enough to thin out all layers alike?

    Score: ``u' - rank(u in its layer)`` with ``u, u' ~ U(0, 1)``: every layer gives its first head before any gives
    its second, and chance says which layers give one more where the budget is no multiple of their number. Source: a
    control, usual in pruning studies (uniform per layer; see Gale et al. 2019). Cost: no forward passes. Labels: none.
    Randomness: the evidence's seed.
    """

    name = "random-even"
    draws = 20

    def score(self, evidence: Evidence) -> Floats:
        """Minus the head's place in a random order of its layer, plus less than one, shape ``(L, H)``."""
        drawn, ties = _uniform(evidence, count=2)
        return np.asarray(ties - _places(drawn))


def _uniform(evidence: Evidence, *, count: int | None = None) -> NDArray[np.float64]:
    shape = (evidence.card.layers, evidence.card.heads)
    return np.random.default_rng(evidence.seed).random(shape if count is None else (count, *shape))


def _places(values: Floats) -> NDArray[np.int64]:
    """Each value's place in its row, 0 the highest."""
    return np.asarray((-values).argsort(axis=1).argsort(axis=1))
