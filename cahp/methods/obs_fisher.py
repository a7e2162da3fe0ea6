"""Optimal brain surgeon in the Fisher metric: what removing heads costs after the others have replaced them."""

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Scored
from cahp.stages.replacement import RIDGE, eliminate_replaced
from cahp.values import Floats


@register
class ObsFisher(Scored):
    """Remove the heads whose work the kept heads of their layer can take over.

    Removing head ``p`` and giving the other heads of its layer the best linear replacement costs ``tr(M W_p
    [(H^-1)_pp]^-1 W_p')``, in the terms of ``fisher-output``; then ``W`` and ``H^-1`` are updated, so that heads that
    replace each other do not go together. In each layer the cheapest head is removed first; of all layers, the cheapest
    goes next. The score is the place in that order, so a larger budget keeps all heads of a smaller one, except those
    kept by the per-layer minimum. Source: ours; optimal brain surgeon (Hassibi and Stork, NIPS 1992) for blocks of a
    layer as by ZipLM (NeurIPS 2023), SlimGPT (NeurIPS 2024), OSSCAR (ICML 2024) and SlimLLM (ICML 2025), with a metric
    by which heads of different layers compare. Cost: a forward and a backward pass of every text, 3 forward passes
    each. Labels: none. Randomness: the evidence's seed draws the signs that estimate the Fisher metric.
    """

    name = "obs-fisher"
    passes = 3

    def score(self, evidence: Evidence) -> Floats:
        """The place of each head in the order of removal, shape ``(L, H)``; cached."""
        return evidence.cached(
            f"{self.name} 1, ridge {RIDGE}", lambda: eliminate_replaced(evidence.moments, ridge=RIDGE).scores
        )
