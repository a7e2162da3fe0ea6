"""Panels and colourings of a feature appear on the pages, by its row in the table alone."""

import pytest
from apps import open_app, text_of

from cahp import features
from cahp.features import Feature
from cahp.ui.budget import page as budget
from cahp.ui.frame import board


def test_a_part_that_cannot_be_imported_is_named_and_takes_no_page_down(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = ("Board", "Budget", "Budget note", "Similarity", "Card", "Every page")
    missing = ("neutral.missing:TAB",)
    panels = dict.fromkeys(pages, missing)
    broken = Feature("word_order", panels=panels, experiments=missing, colourings=missing, first_texts=missing)
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, broken))
    monkeypatch.setattr(board, "list_colourings", board.list_colourings.__wrapped__)
    words = "Word order cannot be shown: ModuleNotFoundError: No module named 'cahp.features.neutral.missing'."
    for page in ("home", "similarity", "budget", "compare", "export"):
        app = open_app(page)
        assert words in text_of(app, "error").replace("\\", "")
    assert "Word order" in [panel.label for panel in budget.list_panels()]
