"""What visitors must be shown: the checks can fail."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")

from cahp import bundled
from cahp.ui.crowd.truth import Truth

pytestmark = pytest.mark.skipif(bundled.read() is None, reason="no bundled run")


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.bundled()


def test_every_budget_has_figures_of_its_own(truth: Truth) -> None:
    shipped = bundled.read()
    assert shipped is not None
    card = shipped.document.model
    assert sorted(truth.boards) == list(range(card.layers, card.layers * card.heads + 1))
    assert all(board["n"] == 311 for board in truth.boards.values())
    assert len({board["kept"] for board in truth.boards.values()}) == len(truth.boards)


def test_what_was_asked_for_is_right_whatever_is_said_beside_it(truth: Truth) -> None:
    shown = {**truth.boards[20], "origin": "budget", "note": "a remark"}
    assert truth.board(shown, 20, [20, 30]) == "right"


@pytest.mark.parametrize("changed", [{"accuracy": 0.5}, {"kept": ""}, {"budget": 21}, {"n": 310}])
def test_a_changed_figure_is_wrong(truth: Truth, changed: dict[str, object]) -> None:
    assert truth.board({**truth.boards[20], **changed}, 20, [20, 30]) == "wrong"
    assert truth.board({}, 20, [20, 30]) == "wrong"


def test_what_another_asked_for_is_told_apart_from_what_nobody_did(truth: Truth) -> None:
    assert truth.board(truth.boards[30], 20, [20, 30]) == "another's"
    assert truth.board(truth.boards[31], 20, [20, 30]) == "wrong"


def test_the_compare_page_is_known_by_the_heads_it_was_asked_for(truth: Truth) -> None:
    asked, other, *_ = sorted(truth.headings)
    page = f"<h3>{truth.headings[asked]}</h3>"
    assert truth.compared(page, asked, [asked, other]) == "right"
    assert truth.compared(page, other, [asked, other]) == "another's"
    assert truth.compared("<h3></h3>", asked, [asked, other]) == "wrong"
