"""Fisher metric of attention outputs: what removing heads or layers changes in the predictions, as pruned."""

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Scored
from cahp.stages.replacement import Elimination, eliminate_jointly, joint_costs
from cahp.values import Floats


@register
class FisherOutput(Scored):
    """Remove the heads whose joint output changes the predictions least, one by one.

    Removing the heads ``R`` of a layer costs the Fisher information of their joint output, over texts ``E (sum_t g_t'
    W_R x_tR)^2``: ``x_t`` are the context vectors of token ``t``, ``W`` is the output projection, and ``g_t`` the
    gradient at the attention output, by which layers compare. A language model has few windows with many predictions
    each, so there context vectors and gradients are averaged apart: ``tr(M W_R H_RR W_R')`` with ``H = E x x'`` and ``M
    = E g g'`` over tokens. In each layer the head that adds least is removed first; of all layers, the cheapest goes
    next. The score is the place in that order, so a larger budget keeps all heads of a smaller one, except those kept
    by the per-layer minimum. Source: ours; the block-diagonal Fisher information of Kwon et al., NeurIPS 2022 (arXiv
    2204.09656), averaged apart as by Martens and Grosse, ICML 2015 (arXiv 1503.05671). Cost: a forward and a backward
    pass of every text, 3 forward passes each. Labels: none. Randomness: the evidence's seed draws the signs that
    estimate the Fisher information.
    """

    name = "fisher-output"
    passes = 3

    def score(self, evidence: Evidence) -> Floats:
        """The place of each head in the order of removal, shape ``(L, H)``."""
        return _eliminate(evidence)[1].scores


@register
class FisherLayers(Scored):
    """Remove layer after layer, first those whose heads change the predictions least together.

    Removing all heads of a layer costs what ``fisher-output`` says for them. The cheapest layer goes first, each of its
    heads as there, and so on; the last layer may lose only a part of its heads. It tells whether single heads have to
    be chosen, or whole layers do. With ``min_per_layer=0`` layers lose all heads. Source: ours; He et al. 2024 (arXiv
    2406.15786) remove whole attention layers by the similarity of what enters and leaves them. Cost: a forward and a
    backward pass of every text, 3 forward passes each. Labels: none. Randomness: the evidence's seed draws the signs
    that estimate the Fisher information.
    """

    name = "fisher-layers"
    passes = 3

    def score(self, evidence: Evidence) -> Floats:
        """The place of each layer in the order of removal, and below 1 that of the head in it, shape ``(L, H)``."""
        costs, removed = _eliminate(evidence)
        layers = costs.sum(axis=(1, 2)).argsort(kind="stable").argsort()
        return np.asarray(layers[:, None] + removed.order.argsort(axis=1) / costs.shape[1])


def _eliminate(evidence: Evidence) -> tuple[Floats, Elimination]:
    """The costs ``(L, H, H)`` of pairs of heads of a layer, and the order in which heads are removed by them."""
    moments = evidence.moments
    costs = moments.products
    if evidence.card.task.predicts_often:
        costs = joint_costs(moments)
    return costs, eliminate_jointly(costs)
