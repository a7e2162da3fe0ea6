"""Fisher information of the gates: the rise of the loss without heads, to second order."""

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import MOST_BATCHED, Budgeted, batch_gradients
from cahp.stages.selection import Minimum, top
from cahp.values import Bools, Floats, HeadMask, Selection


@register
class Fisher(Budgeted):
    """Keep the heads whose gates carry the most Fisher information, then improve the choice by swaps in each layer.

    Score: ``F_h = sum_b (dL_b/dg_h)^2`` over batches of 32 texts at open gates, ``L_b`` the summed loss of a batch; the
    highest of all layers stay. Then, in each layer and with as many heads as that gave it, the pruned set starts as
    those of lowest ``F``; every other head, from the lowest ``F`` up, is put into it, and the member goes back whose
    return leaves the smallest ``sum_b (sum_{h pruned} dL_b/dg_h)^2``, so this never rises. Source: Kwon et al., NeurIPS
    2022 (arXiv 2204.09656); their rescaling of the kept heads is a recovery and left out. Cost: a forward and a
    backward pass of at most 2,048 texts, 3 forward passes each. Labels: of those texts. Randomness: the evidence's seed
    says which texts and which of them share a batch.
    """

    name = "fisher"
    labels = "or predictions"
    passes = 3
    most = MOST_BATCHED

    def keep(self, evidence: Evidence, budget: int, min_per_layer: Minimum) -> Selection:
        """Keep as many heads of each layer as their information says, and rearrange them."""
        batches = batch_gradients(evidence)
        diagonal = top(np.square(batches).sum(axis=0), budget=budget, min_per_layer=min_per_layer)
        keep = np.stack(
            [rearrange(batches[:, layer], kept=int(row.sum())) for layer, row in enumerate(diagonal.mask.keep)]
        )
        mask = HeadMask(keep)
        return Selection(mask, budget, rescued=tuple(head for head in diagonal.rescued if head in set(mask.flat)))


def rearrange(batches: Floats, *, kept: int) -> Bools:
    """Choose ``kept`` heads of a layer, as a mask ``(H,)``, by its gradients ``batches (batches, H)``."""
    heads = batches.shape[1]
    order = [int(head) for head in np.square(batches).sum(axis=0).argsort(kind="stable")]
    pruned = order[: heads - kept]
    for head in order[heads - kept :]:
        pruned.append(head)
        columns = batches[:, pruned]
        without = columns.sum(axis=1, keepdims=True) - columns
        del pruned[int(np.square(without).sum(axis=0).argmin())]
    keep = np.ones(heads, dtype=np.bool_)
    keep[pruned] = False
    return keep
