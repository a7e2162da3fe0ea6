"""Magnitude: the size of a head's weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Scored, normalise_layers
from cahp.values import Floats

if TYPE_CHECKING:
    from torch import Tensor


@register
class Magnitude(Scored):
    """Keep the heads with the largest weights relative to the other heads of their layer.

    Score: ``w_lh / sqrt(sum_h w_lh^2)`` with ``w = sqrt(|Wq|^2 + |Wk|^2 + |Wv|^2 + |Wo|^2)`` over the slices of the
    head (Frobenius norms, biases left out). Source: magnitude pruning (Han et al., NeurIPS 2015, arXiv 1506.02626) on
    whole heads. Cost: no forward passes. Labels: none. Randomness: none.
    """

    name = "magnitude"

    def score(self, evidence: Evidence) -> Floats:
        """Norms relative to the layer, shape ``(L, H)``."""
        return normalise_layers(_norms(evidence))


@register
class RawMagnitude(Scored):
    """Keep the heads with the largest weights of all layers.

    Score: ``sqrt(|Wq|^2 + |Wk|^2 + |Wv|^2 + |Wo|^2)`` over the slices of the head (Frobenius norms, biases left out).
    Source: magnitude pruning (Han et al., NeurIPS 2015, arXiv 1506.02626) on whole heads. Cost: no forward passes.
    Labels: none. Randomness: none.
    """

    name = "magnitude-raw"

    def score(self, evidence: Evidence) -> Floats:
        """Norms, shape ``(L, H)``."""
        return _norms(evidence)


def _sum_squares(parts: Iterable[Tensor]) -> Floats:
    """The sum of squares of a layer's head weights, by head ``(H,)``; each part has a row for each head."""
    squares = [part.detach().double().square().flatten(1).sum(dim=1) for part in parts]
    return sum(squares[1:], start=squares[0]).cpu().numpy()


def _norms(evidence: Evidence) -> Floats:
    def make() -> Floats:
        model = evidence.model
        return np.sqrt([_sum_squares(model.head_weights(layer)) for layer in range(model.layers)])

    return evidence.cached("norms of weights", make)
