"""What the tab of the replacement head says, without a page."""

from __future__ import annotations

import numpy as np
import pytest

from cahp.stages.replacement import Replaceability
from cahp.ui.budget.details import describe_replaceability
from cahp.values import HeadMask
from cahp.values.statistics import Moments


@pytest.fixture
def found() -> Replaceability:
    """Of one layer whose head 3 is three times head 0, once head 1 and twice head 2."""
    mixing = np.vstack([np.eye(3), [3.0, 1.0, 2.0]])
    gram = (mixing @ mixing.T)[None].astype(np.float32)
    return Replaceability(
        Moments(gram, np.eye(4, dtype=np.float32)[None], np.eye(4)[None], heads=4, tokens=100), ridge=1e-9
    )


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (
            [0, 1, 2],
            "**Heads 0 and 2 of this layer can reproduce 93 % of what it contributes;** all 3 other kept heads of the "
            "layer 100 %.",
        ),
        ([1, 2, 3], "**Heads 1 and 2 of this layer can reproduce 36 % of what it contributes.**"),
        ([1], "**Head 1 of this layer can reproduce 7 % of what it contributes.**"),
        ([3], "No other head of its layer is kept, so none can reproduce what it contributes."),
    ],
)
def test_the_kept_heads_that_reproduce_most_are_named(found: Replaceability, kept: list[int], sentence: str) -> None:
    mask = HeadMask(np.isin(np.arange(4), kept)[None])
    assert describe_replaceability(found, mask, 3) == sentence


def test_a_head_without_effect_needs_no_replacement() -> None:
    still = np.zeros((1, 2, 2), dtype=np.float32)
    found = Replaceability(Moments(still, still, np.zeros((1, 2, 2)), heads=2, tokens=100))
    assert "no effect" in describe_replaceability(found, HeadMask.full(1, 2), 0)
