"""What is read of a person's own text, without a page."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest

from cahp.features.own_text.on_board import KnownText, TextOnBoard, measure
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN
from cahp.values import HeadMask, silent

PATIENCE = 120.0
TEXT = "the film was very good"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def explorer(tmp_path: Path) -> Explorer:
    """An explorer that has made a run, with a mask made by hand on its board."""
    made = Explorer("reader", Source.open(fakes.quick_task(tmp_path)))
    run(made)
    made.board.set_mask(HeadMask.of([0, 2, 4, 8], made.card.layers, made.card.heads))
    return made


def run(explorer: Explorer) -> None:
    assert explorer.work.start(RUN, explorer.bench).wait(PATIENCE)
    explorer.collect()
    assert explorer.results.run is not None


def asked(explorer: Explorer, memory: KnownText) -> TextOnBoard:
    return TextOnBoard(explorer.board_state(), memory)


def read(explorer: Explorer, memory: KnownText) -> TextOnBoard:
    made = asked(explorer, memory)
    list(measure(made, made.missing, silent))
    assert not made.missing
    if made.lacks_recovered:
        list(measure(made, ["recovered"], silent, compute=True))
        assert not made.lacks_recovered
    return made


def test_a_refitted_model_is_the_one_of_the_texts_on_screen(explorer: Explorer) -> None:
    explorer.chosen_recovery, memory = "refit", KnownText(explorer.card.sha256, TEXT)
    first = read(explorer, memory).read("recovered")
    explorer.change(limit=20)
    run(explorer)
    then = read(explorer, memory).read("recovered")
    anew = read(explorer, KnownText(explorer.card.sha256, TEXT)).read("recovered")
    assert first is not None
    assert then is not None
    assert anew is not None
    assert not np.array_equal(first.probabilities, anew.probabilities)
    np.testing.assert_array_equal(then.probabilities, anew.probabilities)
    explorer.close()


@pytest.mark.parametrize("recover", ["refit", "distill"])
def test_only_what_depends_on_the_texts_that_changed_is_read_again(explorer: Explorer, recover: str) -> None:
    explorer.chosen_recovery, memory = recover, KnownText(explorer.card.sha256, TEXT)
    table = read(explorer, memory).table_name
    explorer.change(eval_limit=20)
    run(explorer)
    assert asked(explorer, memory).table_name == table
    assert not asked(explorer, memory).missing
    explorer.change(limit=20)
    run(explorer)
    again = asked(explorer, memory)
    assert again.read("full") is not None
    assert again.read("pruned") is not None
    # The recovered model, and the budgets of another table.
    assert len(again.missing) == 1 + (again.table_name != table)
    explorer.close()
