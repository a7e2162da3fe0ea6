"""Which heads matter for a person's own text, on the Budget page."""

from __future__ import annotations

import pytest
from apps import PATIENCE, explorer_of, open_app, read_stored, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.features.attribution.panel import ATTRIBUTE

SECRET = "xyzzyplugh"
ODD = f'<img src=x onerror="document.title={SECRET}"> <script>alert(1)</script> profit & shares $x$'


def measure(app: AppTest) -> AppTest:
    """Run until the text is attributed."""
    job = explorer_of(rerun(app)).work.job(ATTRIBUTE)
    assert job is None or job.wait(PATIENCE)
    return rerun(app)


@pytest.fixture(scope="module")
def app() -> AppTest:
    """The page with the tab open, and its example attributed."""
    return measure(open_app("budget", budget="12", panel="heads", recover="none"))


def test_the_tab_shows_all_heads_the_top_ten_and_random_sets(app: AppTest) -> None:
    found = text_of(app, "subheader")
    assert 'supports "sports" most' in found
    assert len(app.table[0].value) == 10
    assert "Without the top 10 of 72 heads" in text_of(app, "markdown")
    assert "in 10 sets" in text_of(app, "markdown")


def test_the_board_keeps_only_what_the_text_needs(app: AppTest) -> None:
    app.button(key="attribution-keep").click()
    explorer = explorer_of(rerun(app))
    asked = explorer.memory["attribution.text"]
    assert explorer.board.by_hand
    assert explorer.mask.sha256 == asked.result.needed.mask.sha256
    assert explorer.mask.count < 72
    # Each layer keeps one, as the board's settings say.
    assert explorer.mask.empty_layers == ()


@pytest.mark.nightly
def test_another_class_can_be_explained_and_needs_no_heads(app: AppTest) -> None:
    app.selectbox(key="attribution-class").set_value("business")
    measure(app)
    assert 'supports "business" most' in text_of(app, "subheader")
    assert any("no heads are enough" in caption.value for caption in app.caption)
    app.selectbox(key="attribution-class").set_value(None)


def test_a_text_is_never_markup_and_reaches_no_file_no_address_and_no_log(
    app: AppTest, caplog: pytest.LogCaptureFixture
) -> None:
    app.text_area(key="own-text-text-11").set_value(ODD)
    measure(app)
    assert not app.error
    shown = text_of(app, "subheader") + text_of(app, "markdown")
    assert not any(trap in shown for trap in ("onerror", "<script>alert", "<img"))
    assert SECRET not in str(dict(app.query_params))
    assert SECRET not in caplog.text
    assert not any(SECRET.encode() in content for content in read_stored(app))


def test_a_text_that_is_typed_in_one_tab_stands_in_the_other(app: AppTest) -> None:
    app.text_area(key="own-text-text-11").set_value("Shares in the club rose.")
    rerun(app)
    explorer_of(app).detail = "Your own text"
    assert rerun(app).text_area(key="own-text-text-11").value == "Shares in the club rose."
