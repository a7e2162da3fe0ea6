"""Gradient: how much the loss depends on the gate of a head."""

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Eliminating, Scored, mean_sensitivity, normalise_layers, round_sizes
from cahp.values import Floats, HeadMask, Progress


@register
class Gradient(Scored):
    """Keep the heads whose gates have the largest gradient of the loss.

    Score: ``I_h = mean_x |dL_x/dg_h|`` at open gates, one absolute value per text, then divided by the layer's L2 norm.
    Source: Michel et al., NeurIPS 2019 (arXiv 1905.10650). Cost: a forward and a backward pass of every text, 3 forward
    passes each. Labels: of all calibration texts. Randomness: none.
    """

    name = "gradient"
    labels = "or predictions"
    passes = 3

    def score(self, evidence: Evidence) -> Floats:
        """Mean absolute gradients, relative to the layer, shape ``(L, H)``."""
        return mean_sensitivity(evidence)


@register
class IteratedGradient(Eliminating):
    """Keep the heads that are left after rounds that each remove 10 % of all heads and measure gradients again.

    Each round removes the 10 % of all heads with the lowest ``mean_x |dL_x/dg_h|``, measured with the gates of removed
    heads at 0 and divided by the L2 norm of the remaining heads of the layer; the last round may remove fewer. Source:
    Michel et al., NeurIPS 2019 (arXiv 1905.10650), iterative pruning. Cost: a forward and a backward pass of every text
    for each round, 3 forward passes each. Labels: of all calibration texts. Randomness: none.
    """

    name = "gradient-iterated"
    labels = "or predictions"
    share = 0.1

    def score_under(self, evidence: Evidence, mask: HeadMask, progress: Progress) -> Floats:
        """Mean absolute gradients, relative to the layer; cached by mask, so that budgets share their first rounds."""

        def make() -> Floats:
            from cahp.stages.signatures import example_gradients

            gradients = example_gradients(evidence.model, evidence.texts, mask=mask, progress=progress)
            return np.asarray(np.abs(gradients).mean(axis=0))

        if mask.is_full:
            return mean_sensitivity(evidence)
        gradients = evidence.cached(f"mean absolute gate gradients under {mask.sha256}", make)
        return normalise_layers(np.where(mask.keep, gradients, 0.0))

    def count_passes(self, evidence: Evidence, budget: int) -> float:
        """A forward and a backward pass in each round."""
        return 3 * len(round_sizes(evidence.card.total, budget, share=self.share))
