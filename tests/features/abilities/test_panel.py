"""The receipt on the pages: measured on request, shown below the board and in a tab, and said where one exports."""

from __future__ import annotations

from collections.abc import Iterator

import fakes
import pytest
from apps import done, explorer_with_run, has_button, open_app, rerun, text_of

from cahp.features.abilities.record import AbilitiesRecord
from cahp.features.abilities.section import RECEIPT, AbilityOptions
from cahp.ui.export.view import list_findings, on_board
from cahp.ui.frame.panels import find_record, kind_of
from cahp.ui.session.explorer import Explorer

pytestmark = pytest.mark.usefixtures("one_thread")

LABEL = RECEIPT.title
MEASURE = kind_of(RECEIPT, AbilityOptions())


def find_receipt(explorer: Explorer) -> AbilitiesRecord | None:
    return find_record(explorer, RECEIPT)


@pytest.fixture
def explorer(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    settings = fakes.quick_task(tmp_path_factory.mktemp("abilities"), budget="6", recover="refit")
    with explorer_with_run("abilities", settings) as made:
        yield made


def test_a_receipt_is_measured_on_request_and_said_on_every_page(explorer: Explorer) -> None:
    explorer.detail = LABEL
    app = open_app("budget", explorer)
    assert explorer.recovery.name == "refit"
    assert find_receipt(explorer) is None
    assert has_button(app, "abilities-strip")
    app.button(key="abilities-tab").click().run()
    record = done(explorer.job(MEASURE))
    rerun(app)
    assert find_receipt(explorer) == record
    assert record.states == ("pruned", "recovered")
    assert not has_button(app, "abilities-strip")
    assert record.summarise("recovered").replace(" ", "") in text_of(app, "markdown").replace("\\", "").replace(" ", "")
    assert len(app.table[0].value) == len(record.rows)
    line = f"abilities after refit: {record.summarise('recovered')}"
    assert line in text_of(open_app("export", explorer), "caption").replace("\\", "")
    view = on_board(explorer)
    assert view.document is not None
    assert RECEIPT.read_run(view.document) == record
    assert list_findings(explorer, view, "refit") == (line,)
    assert list_findings(explorer, view, "distill") == ()


def test_another_mask_has_a_receipt_of_its_own_and_all_heads_have_none(explorer: Explorer) -> None:
    done(explorer.start(MEASURE))
    first = find_receipt(explorer)
    assert first is not None
    explorer.chosen_recovery = "none"
    # What was measured after a recovery tells what the pruned model can do.
    assert find_receipt(explorer) == RECEIPT.as_pruned(first)
    explorer.board.toggle(explorer.mask.flat[0])
    assert find_receipt(explorer) is None
    assert has_button(open_app("home", explorer), "abilities-strip")
    explorer.board.undo()
    assert find_receipt(explorer) == RECEIPT.as_pruned(first)
    explorer.board.set_budget(12)
    assert not has_button(open_app("home", explorer), "abilities-strip")


def test_a_run_that_holds_a_receipt_shows_it_at_once(
    one_thread: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = fakes.quick_task(tmp_path_factory.mktemp("held"), budget="6", recover="refit", abilities=True)
    with explorer_with_run("held", settings) as explorer:
        assert explorer.results.run is not None
        assert find_receipt(explorer) == RECEIPT.read_run(explorer.results.run)
        assert not has_button(open_app("home", explorer), "abilities-strip")


def test_a_receipt_that_ends_while_another_mask_is_on_the_board_is_there_when_the_mask_comes_back(
    explorer: Explorer,
) -> None:
    explorer.chosen_recovery = "refit"
    measured = explorer.start(MEASURE)
    explorer.board.set_budget(7)
    other = explorer.start(MEASURE)
    first = done(measured)
    second = done(other)
    assert find_receipt(explorer) == second
    explorer.board.set_budget(6)
    assert find_receipt(explorer) == first
