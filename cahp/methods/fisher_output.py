"""Fisher metric of attention outputs: what removing heads together changes in the predictions, as pruned."""

from __future__ import annotations

from cahp.methods.shared.scored import Scored
from cahp.registry import Evidence, register
from cahp.stages.replacement import eliminate_jointly, joint_costs
from cahp.values import Floats


@register
class FisherOutput(Scored):
    """Remove the heads whose joint output changes the predictions least, one by one.

    Removing the heads ``R`` of a layer costs the Fisher information of their joint output, over texts
    ``E (sum_t g_t' W_R x_tR)^2``: ``x_t`` are the context vectors of token ``t``, ``W`` is the output projection, and
    ``g_t`` the gradient at the attention output, by which layers compare. A language model has few windows with many
    predictions each, so there context vectors and gradients are averaged apart: ``tr(M W_R H_RR W_R')`` with
    ``H = E x x'`` and ``M = E g g'`` over tokens. In each layer the head that adds least is removed first; of all
    layers, the cheapest goes next. The score is the place in that order, so a larger budget keeps all heads of a
    smaller one, except those kept by the per-layer minimum. Source: our own, from the block-diagonal Fisher information
    of Kwon et al. 2022; averaged apart as by Martens and Grosse 2015. Cost: a forward and a backward pass of every
    text, 3 forward passes each. Labels: none. Randomness: the evidence's seed draws the signs that estimate the Fisher
    information.
    """

    name, passes = "fisher-output", 3

    def score(self, evidence: Evidence) -> Floats:
        """The place of each head in the order of removal, shape ``(L, H)``."""
        moments = evidence.moments
        costs = joint_costs(moments) if evidence.card.predicts_tokens else moments.products
        return eliminate_jointly(costs).scores
