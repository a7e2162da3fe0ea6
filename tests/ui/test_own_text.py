"""A person's own text on the Budget page, before and after."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
from apps import PATIENCE, explorer_of, has_button, open_app, read_stored, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.features.own_text import on_board
from cahp.features.own_text.on_board import OWN_TEXT
from cahp.run.recoveries import Recoveries
from cahp.values import CahpError

SECRET = "xyzzyplugh"
ODD = f'<img src=x onerror="document.title={SECRET}"> <script>alert(1)</script> profit & shares $x$'


def read(app: AppTest) -> AppTest:
    """Run until the text is read."""
    job = explorer_of(rerun(app)).work.job(OWN_TEXT)
    assert job is None or job.wait(PATIENCE)
    return rerun(app)


def shown(app: AppTest) -> str:
    """The charts' findings."""
    return text_of(app, "subheader")


@pytest.fixture(scope="module")
def app() -> AppTest:
    """The page with the tab open, and its example read."""
    return read(open_app("budget", budget="12", panel="text", recover="none"))


def test_the_tab_is_closed_at_first_and_then_reads_nothing() -> None:
    app = open_app("budget")
    assert explorer_of(app).work.job(OWN_TEXT) is None
    assert "own-text-memory" not in app.session_state


def test_a_text_shows_predictions_before_and_after_pruning_without_interval(app: AppTest) -> None:
    assert "all 72 heads" in shown(app)
    assert "12 as pruned" in shown(app)
    assert "The prediction stays" in text_of(app, "markdown")
    assert any("has no interval" in caption.value and "311 texts" in caption.value for caption in app.caption)


def test_a_text_is_never_markup_and_reaches_no_file_no_address_and_no_log(
    app: AppTest, caplog: pytest.LogCaptureFixture
) -> None:
    app.text_area(key="own-text-text-11").set_value(ODD)
    read(app)
    assert not app.error
    for trap in ("onerror", "<script>alert", "<img"):
        assert trap not in shown(app)
    assert not any("<script>al" in str(chart.proto) for chart in app.get("plotly_chart"))
    assert SECRET not in str(dict(app.query_params))
    assert SECRET not in caplog.text
    assert not any(SECRET.encode() in content for content in read_stored(app))


def sentence_of(app: AppTest) -> dict[str, Any]:
    """What the board of the first screen shows of the text."""
    (board,) = (one for one in app.get("bidi_component") if "cahp_budget_board" in str(one.proto))
    return dict(json.loads(board.proto.json)["first"]["sentence"])


def test_the_example_of_the_first_screen_is_answered_without_a_model() -> None:
    app = open_app("home")
    assert explorer_of(app).work.job(OWN_TEXT) is None
    sentence = sentence_of(app)
    assert sentence["maps"]["words"][:3] == ["The", "captain", "signed"]
    assert (sentence["full"][0], sentence["kept"][0], sentence["state"]) == ("sports", "sports", "after refit")
    assert sentence["waits"] == ""


def test_a_text_of_a_person_is_answered_on_the_first_screen_and_is_that_of_the_tab() -> None:
    app = open_app("home", recover="none")
    app.text_input(key="own-text-text-11").set_value("Shares in the club rose.")
    read(app)
    sentence = sentence_of(app)
    assert sentence["maps"]["words"] == ["Shares", "in", "the", "club", "rose"]
    assert len(sentence["maps"]["arcs"]) == 72
    assert len(sentence["answers"]) == 67
    # All heads are the last budget.
    assert sentence["full"] == [sentence["answers"][-1][0], pytest.approx(sentence["answers"][-1][1], abs=1e-5)]
    assert sentence["state"] == "as pruned"
    assert sentence["kept"] == [sentence["answers"][7][0], pytest.approx(sentence["answers"][7][1], abs=1e-5)]
    # An empty text brings the example back.
    app.text_input(key="own-text-text-11").set_value("").run()
    assert sentence_of(app)["maps"]["words"][:2] == ["The", "captain"]


def test_a_refit_that_fails_for_a_text_says_why_on_the_first_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refit(*_: Any) -> NoReturn:
        raise CahpError("the memory is full")

    monkeypatch.setattr(Recoveries, "refit", refit)
    monkeypatch.setattr(on_board, "expect_seconds", lambda _: 1.0)
    app = open_app("home")
    app.text_input(key="own-text-text-11").set_value("Shares in the club rose.")
    read(app)
    job = explorer_of(app).work.job(on_board.RECOVERED)
    assert job is not None
    assert job.wait(PATIENCE)
    rerun(app)
    assert "The memory is full" in text_of(app, "error")
    assert has_button(app, "own-text-recovered-again")
