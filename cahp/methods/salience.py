"""Salience: the heads on which the loss depends, without clusters."""

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Scored
from cahp.models.cards import SelectionCost
from cahp.values import Floats


@register
class Salience(Scored):
    """Keep the heads of the highest salience, whichever cluster they are in: what do the clusters add?

    Score: CAHP's salience, ``mean_b |dL_b/dg_h|`` over batches of 32 (see ``cahp.stages.signatures``). Source: ours, a
    control for CAHP (arXiv 2606.19150, 2026). Cost: a forward and a backward pass of a quarter of the texts, 3 forward
    passes each. Labels: of these texts. Randomness: none.
    """

    name = "salience"
    labels = "or predictions"

    def score(self, evidence: Evidence) -> Floats:
        """Salience, shape ``(L, H)``."""
        return evidence.salience

    def estimate_cost(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """A forward and a backward pass of a quarter of the texts."""
        from cahp.stages.signatures import examples_used

        texts = examples_used(evidence.texts)
        return SelectionCost(3 * texts, texts)
