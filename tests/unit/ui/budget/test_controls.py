"""What the controls above the board do, without a page."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest

from cahp import methods
from cahp.ui.budget.page import collect_choice
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import CHOICE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_another_method_puts_as_many_heads_on_the_board(tmp_path: Path) -> None:
    explorer = Explorer("chooser", Source.open(fakes.quick_task(tmp_path)))
    assert explorer.work.start(CHOICE, (explorer.bench, "fisher-output", 5)).wait(120.0)
    collect_choice(explorer)
    expected = methods.get("fisher-output").choose(explorer.bench.evidence, budget=5).mask
    assert explorer.mask.flat == expected.flat
    assert explorer.board.by_hand
    # It is not put there again after another change.
    explorer.board.undo()
    collect_choice(explorer)
    assert explorer.mask.is_full
