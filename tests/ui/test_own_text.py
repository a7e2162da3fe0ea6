"""A person's own text: before and after on the Budget page, which heads matter for it, and on the first screen."""

import json
from typing import Any, NoReturn

import pytest
from apps import PATIENCE, explorer_of, open_app, read_stored, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp import recoveries
from cahp.features.attribution.panel import ATTRIBUTE
from cahp.features.own_text.on_board import CURVE, OWN_TEXT
from cahp.run.recoveries import Recoveries
from cahp.ui.session.work import FIGURE, REFIT, Kind
from cahp.values import CahpError

SECRET = "xyzzyplugh"
ODD = f'<img src=x onerror="document.title={SECRET}"> <script>alert(1)</script> profit & shares $x$'


def read(app: AppTest, kind: Kind[Any, Any] = OWN_TEXT) -> AppTest:
    """Run until the text is read."""
    job = explorer_of(rerun(app)).work.job(kind)
    assert job is None or job.wait(PATIENCE)
    return rerun(app)


def check_odd(app: AppTest, kind: Kind[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    """A text is never markup, and reaches no file, no address and no log."""
    app.text_area(key="own-text-text-11").set_value(ODD)
    read(app, kind)
    assert not app.error
    shown = text_of(app, "subheader", "markdown")
    assert not any(trap in shown for trap in ("onerror", "<script>alert", "<img"))
    assert not any("<script>al" in str(chart.proto) for chart in app.get("plotly_chart"))
    assert SECRET not in str(dict(app.query_params))
    assert SECRET not in caplog.text
    assert not any(SECRET.encode() in content for content in read_stored(app))


def test_a_text_shows_predictions_before_and_after_pruning_without_interval(caplog: pytest.LogCaptureFixture) -> None:
    app = read(open_app("budget", budget="12", panel="text", recover="none"))
    assert "all 72 heads" in text_of(app, "subheader")
    assert "12 as pruned" in text_of(app, "subheader")
    assert "The prediction stays" in text_of(app, "markdown")
    assert any("has no interval" in caption.value and "311 texts" in caption.value for caption in app.caption)
    check_odd(app, OWN_TEXT, caplog)


def test_the_heads_that_matter_for_a_text_are_shown_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    app = read(open_app("budget", budget="12", panel="heads", recover="none"), ATTRIBUTE)
    assert 'answer "sports"' in text_of(app, "markdown")
    assert len(app.table[0].value) == 10
    assert "Without the top 10 of 72 heads" in text_of(app, "markdown")
    assert "in 10 sets" in text_of(app, "markdown")
    app.button(key="attribution-keep").click()
    explorer = explorer_of(rerun(app))
    assert explorer.board.by_hand
    assert explorer.mask.sha256 == explorer.memory["attribution.text"].result.needed.mask.sha256
    assert explorer.mask.count < 72
    # Each layer keeps one, as the board's settings say.
    assert explorer.mask.empty_layers == ()
    app.selectbox(key="attribution-class").set_value("business")
    read(app, ATTRIBUTE)
    assert 'answer "business"' in text_of(app, "markdown")
    assert "no heads are enough" in text_of(app, "caption")
    app.selectbox(key="attribution-class").set_value(None)
    check_odd(app, ATTRIBUTE, caplog)
    # The other tab has the same text.
    explorer.detail = "My text"
    assert rerun(app).text_area(key="own-text-text-11").value == ODD


def sentence_of(app: AppTest) -> dict[str, Any]:
    """What the board of the first screen shows of the text."""
    (board,) = (one for one in app.get("bidi_component") if "cahp_budget_board" in str(one.proto))
    return dict(json.loads(board.proto.json)["first"]["sentence"])


def test_the_first_screen_answers_its_example_and_then_a_text_of_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app("home")
    explorer = explorer_of(app)
    assert explorer.work.job(OWN_TEXT) is None
    sentence = sentence_of(app)
    assert sentence["maps"]["words"][:3] == ["The", "captain", "signed"]
    assert (sentence["full"][0], sentence["kept"][0], sentence["state"]) == ("sports", "sports", "after refit")
    assert sentence["waits"] == ""
    explorer.chosen_recovery = "none"
    app.text_input(key="own-text-text-11").set_value("Shares in the club rose.")
    read(app)
    sentence = sentence_of(app)
    assert sentence["maps"]["words"] == ["Shares", "in", "the", "club", "rose"]
    assert len(sentence["maps"]["arcs"]) == 72
    # The first row of a card is the same text.
    explorer.card_head = 40
    (card,) = (one for one in rerun(app).get("bidi_component") if '"sentences"' in one.proto.json)
    assert json.loads(card.proto.json)["sentences"]["own"]["words"] == sentence["maps"]["words"]
    explorer.card_head = None
    assert len(sentence["answers"]) == 67
    # All heads are the last budget.
    assert sentence["full"] == [sentence["answers"][-1][0], pytest.approx(sentence["answers"][-1][1], abs=1e-5)]
    assert sentence["state"] == "as pruned"
    assert sentence["kept"] == [sentence["answers"][7][0], pytest.approx(sentence["answers"][7][1], abs=1e-5)]

    monkeypatch.setattr(recoveries, "REFIT_TEXTS", 64)
    monkeypatch.setattr(recoveries, "_REFIT_SHARE", 0.01)
    # After a refit all of it is of the recovered model: first of the quick one, and then of that of the figures.
    explorer.chosen_recovery = "refit"
    read(app)
    assert sentence_of(app)["state"] == "after quick refit"
    read(app, REFIT)
    read(app)
    sentence = sentence_of(app)
    assert (sentence["state"], sentence["budgets"]) == ("after refit", [])
    assert explorer.work.job(CURVE) is not None
    explorer.work.drop(CURVE)
    # An empty text brings the example back.
    app.text_input(key="own-text-text-11").set_value("").run()
    assert sentence_of(app)["maps"]["words"][:2] == ["The", "captain"]


def test_a_click_leaves_the_sentence_in_the_state_of_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app("home")
    explorer = explorer_of(app)
    explorer.board.toggle(int(explorer.mask.keep.ravel().argmax()))
    read(read(app, FIGURE))
    assert explorer.recovery.shown == "quick-refit"
    assert sentence_of(app)["state"] == "after quick refit"
    assert sentence_of(app)["kept"][0] == "sports"

    def refit(*_: Any, **__: Any) -> NoReturn:
        raise CahpError("the memory is full")

    monkeypatch.setattr(Recoveries, "refit", refit)
    explorer.work.drop(REFIT)
    explorer.board.toggle(int(explorer.mask.keep.ravel().argmax()))
    read(app, FIGURE)
    assert "The memory is full" in text_of(app, "error")
