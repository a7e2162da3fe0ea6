"""Removal of heads in rounds: what is left is scored again after each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cahp.methods.shared.texts import part
from cahp.registry import Evidence
from cahp.stages.selection import top
from cahp.values import Floats, HeadMask, Progress, Selection


def rounds(total: int, budget: int, *, share: float) -> list[int]:
    """Heads left after each round that removes ``share`` of ``total``; the last one removes what is left to remove."""
    size = max(1, round(share * total))
    return [max(total - size * number, budget) for number in range(1, -(-(total - budget) // size) + 1)]


def eliminated(
    evidence: Evidence,
    *,
    budget: int,
    min_per_layer: int,
    share: float,
    score: Callable[[HeadMask, Progress], Floats],
) -> Selection:
    """Remove ``share`` of all heads at a time, those of the lowest score, and score what is left again.

    ``score`` gets the mask so far, and gives ``(L, H)``; what it says of removed heads does not matter.

    Raises:
        BudgetError, OptionError: As ``cahp.stages.selection.top``, before anything is measured.
    """
    layers, heads = evidence.card.layers, evidence.card.heads
    selection = top(np.zeros((layers, heads)), budget=budget, min_per_layer=min_per_layer)
    mask = HeadMask.full(layers, heads)
    sizes = rounds(layers * heads, budget, share=share)
    for index, left in enumerate(sizes):
        scores = np.where(mask.keep, score(mask, part(evidence.progress, index, len(sizes))), -np.inf)
        selection = top(scores, budget=left, min_per_layer=min_per_layer)
        mask = selection.mask
    return selection
