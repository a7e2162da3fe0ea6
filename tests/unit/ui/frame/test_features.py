"""Panels and colourings of a feature appear on the pages, by its row in the table alone."""

from __future__ import annotations

import numpy as np
import pytest

from cahp import features
from cahp.board.colourings import Colouring, Painted
from cahp.features.feature import Feature
from cahp.ui.budget import page as budget
from cahp.ui.frame import board
from cahp.ui.frame.panels import BoardColouring, Panel
from cahp.ui.session.explorer import Explorer
from cahp.values import HeadMask


def paint(count: int, mask: HeadMask) -> Painted:
    groups = np.zeros(mask.keep.size, dtype=np.int64)
    return Painted(groups, groups, (str(count),), (f"{count} heads",), "How many")


def draw(explorer: Explorer) -> None:
    """Draw nothing."""


PANEL = Panel("Budget", "How many", draw, place=25)
COLOURING: BoardColouring[int] = BoardColouring(
    Colouring("count", "count", paint), lambda explorer: explorer.mask.count, lambda _: None, lambda _: None
)


def test_a_panel_and_a_colouring_stand_where_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [panel.label for panel in budget.list_panels()]
    feature = Feature("count", panels=lambda: (PANEL,), colourings=lambda: (COLOURING,))
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, feature))
    after = [panel.label for panel in budget.list_panels()]
    assert after == [*before[:2], "How many", *before[2:]]
    assert board.list_colourings()[-1] is COLOURING
