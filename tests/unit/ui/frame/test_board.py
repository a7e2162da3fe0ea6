"""What the board says of a mask in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cahp.tasks.texts import Texts
from cahp.ui.frame.board import below_baseline
from cahp.values import Estimate


@pytest.mark.parametrize(
    ("accuracy", "said"), [(0.59, "below the majority-class baseline (60.0 %)"), (0.6, ""), (0.9, "")]
)
def test_an_accuracy_below_the_majority_class_baseline_is_said(accuracy: float, said: str) -> None:
    texts = Texts(tuple("abcde"), None, np.array([0, 0, 0, 1, 1]), ("x", "y"))
    explorer: Any = SimpleNamespace(bench=SimpleNamespace(evaluation=texts))
    outcomes = {"accuracy": Estimate(accuracy, (0.0, 1.0), 5, "share")}
    assert below_baseline(explorer, outcomes) == said
    assert below_baseline(explorer, {}) == ""
    unlabelled = Texts(texts.first, None, np.full(5, -1), texts.classes)
    explorer.bench.evaluation = unlabelled
    assert below_baseline(explorer, outcomes) == ""
