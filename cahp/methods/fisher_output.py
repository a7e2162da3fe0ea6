"""Fisher metric of attention outputs: what removing heads together changes in the predictions, as pruned."""

from __future__ import annotations

from cahp.methods.shared.scored import Scored
from cahp.registry import Evidence, register
from cahp.stages.replacement import eliminate_jointly, joint_costs
from cahp.values import Floats


@register
class FisherOutput(Scored):
    """Remove the heads whose joint output changes the predictions least, one by one.

    Removing the heads ``R`` of a layer costs ``tr(M W_R H_RR W_R')``: ``H`` is the second moment of the context
    vectors, ``W`` the output projection, and ``M`` the Fisher metric of the predictions at the layer's attention
    output, by which layers compare. In each layer the head that adds least is removed first; of all layers, the
    cheapest goes next. The score is the place in that order, so a larger budget keeps all heads of a smaller one,
    except those kept by the per-layer minimum. Source: our own, from the block-diagonal Fisher information of Kwon et
    al. 2022 and factored as by Martens and Grosse 2015. Cost: a forward and a backward pass of every text, 3 forward
    passes each. Labels: none. Randomness: the evidence's seed draws the signs that estimate the Fisher metric.
    """

    name, passes = "fisher-output", 3

    def score(self, evidence: Evidence) -> Floats:
        """The place of each head in the order of removal, shape ``(L, H)``."""
        return eliminate_jointly(joint_costs(evidence.moments)).scores
