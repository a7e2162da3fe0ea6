"""HIES: gradients combined with the entropy of attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Scored, average_rows, mean_sensitivity
from cahp.values import Floats

if TYPE_CHECKING:
    from torch import Tensor


@register
class ImportanceEntropy(Scored):
    """Keep the heads that affect the loss most and attend to few tokens.

    Score: ``alpha * minmax(I) + (1 - alpha) * (1 - minmax(E))`` with ``I`` the score of the method ``gradient`` and
    ``E`` the mean over all real query tokens of ``-sum_t a_t ln a_t / ln n``, ``n`` the real tokens of the text (0
    where ``n = 1``); minmax over all heads. Source: Choi et al. 2025 (HIES, arXiv 2510.13832). Cost: a forward and a
    backward pass of every text for the gradients and a forward pass for the entropies, 4 forward passes each. Labels:
    of all calibration texts. Randomness: none. Validation data may choose among the alphas 0.5, 0.25 and 0.75.
    """

    name = "hies"
    labels = "or predictions"
    passes = 4
    tries = ({"alpha": 0.5}, {"alpha": 0.25}, {"alpha": 0.75})

    def __init__(self, *, alpha: float = 0.5) -> None:
        self._alpha = alpha

    def score(self, evidence: Evidence) -> Floats:
        """The weighted sum, shape ``(L, H)``."""
        importance = _minmax(mean_sensitivity(evidence))
        spread = _minmax(entropies(evidence))
        return self._alpha * importance + (1 - self._alpha) * (1 - spread)


def entropies(evidence: Evidence) -> Floats:
    """Mean entropy of each head's attention rows, 0..1, shape ``(L, H)``."""
    return evidence.cached("entropies of attention", lambda: average_rows(evidence, entropy))


def entropy(weights: Tensor, counted: Tensor) -> Tensor:
    """Entropy of each row ``(b, H, tokens)``, relative to the maximum for the ``counted`` tokens."""
    import torch

    # The entropy of a text of one token is 0, whatever the divisor.
    longest = counted.sum(dim=1).clamp(min=2).log()
    return -torch.xlogy(weights, weights).sum(dim=-1) / longest[:, None, None]


def _minmax(scores: Floats) -> Floats:
    low = scores.min()
    width = scores.max() - low
    if width == 0:
        width = 1.0
    return np.asarray((scores - low) / width)
