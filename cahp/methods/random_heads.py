"""Random selection, and random variants of complementary pruning: the baselines of every method."""

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Scored, Suggesting
from cahp.models.cards import SelectionCost
from cahp.stages.selection import Minimum, select
from cahp.values import Floats, HeadMask, Ints, Selection


@register
class Random(Scored):
    """Keep heads drawn at random: the baseline of every method.

    Score: ``u ~ U(0, 1)`` for each head. Source: the usual baseline, as in Michel et al., NeurIPS 2019 (arXiv
    1905.10650). Cost: no forward passes. Labels: none. Randomness: the evidence's seed gives the mask; the per-layer
    minimum adds the heads of highest draw.
    """

    name = "random"
    draws = 20

    def score(self, evidence: Evidence) -> Floats:
        """Uniform numbers, shape ``(L, H)``."""
        return np.asarray(_uniform(evidence)[0])


@register
class RandomPerLayer(Suggesting):
    """Keep random heads, in each layer as many as complementary pruning keeps: do the heads matter, or the layers?

    In layer ``l`` the ``c_l`` heads of highest ``u ~ U(0, 1)``, with ``c_l`` the count of complementary pruning at the
    same budget. Source: ours, a control for CAHP (arXiv 2606.19150, 2026). Cost: CAHP's, a forward pass of every text
    and a backward pass of a quarter of them. Labels: of all calibration texts. Randomness: the evidence's seed.
    """

    name = "random-per-layer"
    draws = 20

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: Minimum = 1) -> Selection:
        """Keep exactly ``budget`` heads, or as many as the knee suggests."""
        ours = select(evidence.clustering, evidence.salience, budget=budget, min_per_layer=min_per_layer)
        counts = ours.mask.keep.sum(axis=1, keepdims=True)
        return Selection(HeadMask(_places(_uniform(evidence)[0]) < counts), budget)


@register
class RandomInCluster(Suggesting):
    """Keep a random head of each cluster of complementary pruning: does the choice of the representative matter?

    Complementary pruning with ``u ~ U(0, 1)`` instead of the salience, so heads added by the per-layer minimum or by
    the rest of the budget are random too. Source: ours, a control for CAHP (arXiv 2606.19150, 2026). Cost: a forward
    pass of every text. Labels: of all calibration texts. Randomness: the evidence's seed.
    """

    name = "random-in-cluster"
    draws = 20

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: Minimum = 1) -> Selection:
        """Keep exactly ``budget`` heads, or as many as the knee suggests; see ``cahp.stages.selection.select``."""
        return select(evidence.clustering, _uniform(evidence)[0], budget=budget, min_per_layer=min_per_layer)

    def estimate_cost(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """A forward pass of every text, for the signatures."""
        return SelectionCost(len(evidence.texts), len(evidence.texts))


@register
class RandomEven(Scored):
    """Keep random heads, equally many in every layer: is pruning all layers equally enough?

    Score: ``u' - rank(u in its layer)`` with ``u, u' ~ U(0, 1)``: every layer keeps its first head before any keeps its
    second, and the layers that keep one more are random if the budget is not a multiple of the number of layers.
    Source: a usual control (uniform per layer, as in Gale et al. 2019, arXiv 1902.09574). Cost: no forward passes.
    Labels: none. Randomness: the evidence's seed.
    """

    name = "random-even"
    draws = 20

    def score(self, evidence: Evidence) -> Floats:
        """Minus the head's place in a random order of its layer, plus less than one, shape ``(L, H)``."""
        drawn, ties = _uniform(evidence)
        return np.asarray(ties - _places(drawn))


def _uniform(evidence: Evidence) -> Floats:
    """Uniform numbers ``(2, L, H)``: those that choose heads, and those that break ties."""
    return np.random.default_rng(evidence.seed).random((2, evidence.card.layers, evidence.card.heads))


def _places(values: Floats) -> Ints:
    """Each value's place in its row, 0 the highest."""
    return (-values).argsort(axis=1).argsort(axis=1)
