"""Panels and colourings of a feature appear on the pages, by its row in the table alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from apps import open_app, text_of

from cahp import features
from cahp.board.colourings import Colouring
from cahp.features import Feature, versus
from cahp.show.blocks import Marks
from cahp.ui.budget import page as budget
from cahp.ui.frame import board
from cahp.ui.frame.panels import BoardColouring, Panel
from cahp.ui.session.explorer import Explorer
from cahp.values import HeadMask


def paint(count: int, mask: HeadMask) -> Marks:
    groups = np.zeros(mask.keep.shape, dtype=np.int64)
    return Marks("count", "count", groups, [str(count)], [f"{count} heads"], "How many")


def draw(explorer: Explorer) -> None:
    """Draw nothing."""


PANEL = Panel("How many", draw, place=25)
COLOURING: BoardColouring[int] = BoardColouring(
    Colouring("count", "count", paint), lambda explorer: explorer.mask.count
)


def test_a_panel_and_a_colouring_stand_where_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [panel.label for panel in budget.list_panels()]
    monkeypatch.setattr(versus, "COUNT", PANEL, raising=False)
    feature = Feature("count", panels={"Budget": ("versus:COUNT",)}, colourings=lambda: (COLOURING,))
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, feature))
    monkeypatch.setattr(board, "list_colourings", board.list_colourings.__wrapped__)
    after = [panel.label for panel in budget.list_panels()]
    assert after == [*before[:3], "How many", *before[3:]]
    assert board.list_colourings()[-1] is COLOURING


def fail() -> list[Any]:
    """Fail as an import does."""
    raise ModuleNotFoundError("No module named 'elsewhere'")


def test_a_part_that_cannot_be_imported_is_named_where_it_stands_and_takes_no_page_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages = ("Board", "Budget", "Budget note", "Similarity", "Card", "Every page")
    panels = dict.fromkeys(pages, ("neutral.missing:TAB",))
    broken = Feature("word_order", panels=panels, experiments=fail, colourings=fail, first_texts=fail)
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, broken))
    monkeypatch.setattr(board, "list_colourings", board.list_colourings.__wrapped__)
    words = "Word order cannot be shown: ModuleNotFoundError: No module named 'cahp.features.neutral.missing'."
    for page in ("home", "similarity", "budget", "compare", "export"):
        app = open_app(page)
        assert words in text_of(app, "error").replace("\\", "")
    assert "Word order" in [panel.label for panel in budget.list_panels()]
