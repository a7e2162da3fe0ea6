"""The receipt on the pages: measured on request, shown below the board and in a tab, and said where one exports."""

from collections.abc import Iterator
from dataclasses import replace

import fakes
import pytest
from apps import done, explorer_with_run, has_button, open_app, rerun, text_of

from cahp.features.abilities.section import RECEIPT, AbilityOptions
from cahp.ui.export.view import list_findings, on_board
from cahp.ui.frame.panels import find_record, kind_of
from cahp.ui.session.explorer import Explorer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def explorer(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    settings = fakes.quick_task(tmp_path_factory.mktemp("abilities"), budget="6", recover="refit")
    with explorer_with_run("abilities", settings) as made:
        yield made


def test_a_receipt_is_measured_on_request_and_said_on_every_page(explorer: Explorer) -> None:
    explorer.detail = RECEIPT.title
    app = open_app("budget", explorer)
    assert explorer.recovery.name == "refit"
    assert find_record(explorer, RECEIPT) is None
    assert has_button(app, "abilities-strip")
    app.button(key="abilities-tab").click().run()
    record = done(explorer.job(kind_of(RECEIPT, AbilityOptions())))
    rerun(app)
    assert find_record(explorer, RECEIPT) == record
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
    # What the mask was measured for reaches the card of a model also before the mask is evaluated.
    assert list_findings(explorer, replace(view, document=None), "refit") == (line,)
