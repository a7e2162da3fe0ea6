"""The price of an even selection: how much more it changes the model than a free one of as many heads."""

from __future__ import annotations

from dataclasses import dataclass

from cahp.outcomes import OUTCOMES, estimate_mean
from cahp.tasks.answers import Evaluation
from cahp.values import Estimate
from cahp.words import too_close


@dataclass(frozen=True)
class Evenness:
    """KL divergence from the full model of an ``even`` selection and of a ``free`` one of as many heads, as pruned.

    The ``difference`` is paired over texts or documents; above 0 the even selection changes the model more.
    """

    even: Estimate
    free: Estimate
    difference: Estimate

    @classmethod
    def of(cls, even: Evaluation, free: Evaluation, *, full: Evaluation, seed: int) -> Evenness:
        """Compare the answers of both pruned models to the same texts."""
        divergence = OUTCOMES["kl"].estimate
        difference = even.divergences(full) - free.divergences(full)
        return cls(
            divergence(even, full, seed),
            divergence(free, full, seed),
            estimate_mean(difference, seed, units=even.units),
        )

    @property
    def finding(self) -> str:
        """The price in a sentence."""
        change = self.difference
        verdict = too_close(change.n)
        if change.excludes(0):
            verdict = f"{change.text} ({change.span})"
        return (
            f"price of the same number of heads in every layer: {verdict} (KL divergence {self.even.text} as pruned, "
            f"of a free selection of as many heads {self.free.text}, n = {change.n:,})"
        )
