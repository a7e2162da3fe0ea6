"""How far rounding alone moves the logits of a model, for checks that two models are the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

#: So many times the rounding may logits differ that should be equal.
ALLOWED_ROUNDING = 4


def measure_rounding(model: HeadModel, batches: Iterable[Batch]) -> float:
    """Compare the logits of a model with fused attention and with attention step by step: both are right.

    Returns the largest ``relative_difference`` of a batch. Some processors round large sums more than others, and some
    language models turn rounding in float32 into differences above 1e-4 at single tokens.
    """
    differences = []
    for batch in batches:
        fused = model.logits(batch, vocabulary=True)
        in_steps = model.logits(batch, vocabulary=True, probe=lambda layer, weights: None)
        differences.append(relative_difference(fused, in_steps))
    return max(differences)


def relative_difference(expected: Tensor, found: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest expected number where that is above 1."""
    return float((expected - found).abs().max()) / max(1.0, float(expected.abs().max()))
