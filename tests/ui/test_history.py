"""Back, Forward and reload: the page shows what its address says, and nothing of a person's work is lost."""

import re
from collections.abc import Callable
from functools import partial

import pytest
from apps import explorer_of, has_button, open_app, rerun, text_of
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from cahp.ui.frame import address

#: To files, which no link holds.
LINK = {"files": "00000000", "text_column": "kind", "label_column": "question", "budget": "17"}
TOPICS = ("business", "entertainment", "politics", "sports", "tech")


def texts(columns: str = "question,kind", rounds: int = 20) -> bytes:
    rows = [f"what was said of {topic} in report {row},{topic}" for row in range(rounds) for topic in TOPICS]
    return "\n".join([columns, *rows, ""]).encode()


opened = partial(open_app, "home")


def went(app: AppTest, params: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The next run, as Back or Forward asks for it."""
    app.query_params.clear()
    app.query_params.update(params)
    with monkeypatch.context() as patch:
        patch.setattr(address, "is_history_navigation", lambda: True)
        return rerun(app)


def test_going_back_to_other_data_brings_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(budget="20", recover="none")
    before = dict(app.query_params)
    bring(app, ("mine.csv", texts()))
    assert explorer_of(app).source.uploaded
    mine = dict(app.query_params)
    assert "mine.csv" not in str(mine)
    assert mine["text_column"] == "question"
    explorer = explorer_of(went(app, before, monkeypatch))
    assert (explorer.bench.dataset.id, explorer.board.budget, explorer.recovery.name) == ("bbc-news", 20, "none")
    explorer = explorer_of(went(app, mine, monkeypatch))
    assert explorer.bench.dataset.id == "mine.csv"
    # Other settings on the same data.
    explorer = explorer_of(went(app, {**before, "poly_degree": "3", "budget": "auto"}, monkeypatch))
    assert explorer.settings.poly_degree == 3
    assert explorer.board.auto
    assert explorer_of(went(app, before, monkeypatch)).settings.poly_degree == 6


def bring(app: AppTest, *files: tuple[str, bytes]) -> None:
    """Bring these files in the dialog, and use them."""
    app.button(key="change-source").click().run()
    (data,) = (box for box in app.selectbox if box.label == "Data")
    data.set_value("My files").run()
    upload(app, "source-file", "use-source", *files)


def upload(app: AppTest, box: str, button: str, *files: tuple[str, bytes]) -> None:
    """Upload files in a box, press a button, and wait until they are opened."""
    app.file_uploader(key=box).set_value([(name, content, "text/csv") for name, content in files]).run()
    assert not app.exception
    assert not app.error
    app.button(key=button).click().run()
    if "cahp_opening" in app.session_state:
        assert app.session_state["cahp_opening"].wait(60)
        rerun(app)


def test_a_reload_asks_for_the_files_again_and_the_view_waits_for_them() -> None:
    app = opened(**LINK, limit="77")
    link = dict(app.query_params)
    # The address stays the link's as long as its files are missing.
    assert not has_button(app, "open-wish")
    assert dict(app.run().query_params) == link
    upload(app, "wish-file", "open-wish", ("mine.csv", texts("kind,question")))
    explorer = explorer_of(app)
    assert explorer.source.uploaded
    assert (explorer.settings.text_column, explorer.settings.label_column) == ("kind", "question")
    assert (explorer.settings.limit, explorer.board.requested) == (77, 17)
    assert app.query_params["budget"] == "17"
    assert "not the files that the link was made with" in text_of(app, "error")
    again = opened(**{name: str(value) for name, value in app.query_params.items()})
    upload(again, "wish-file", "open-wish", ("renamed.csv", texts("kind,question")))
    assert not again.error


def test_the_splits_of_a_links_files_are_guessed_and_another_choice_does_not_take_its_board() -> None:
    app = opened(**LINK)
    mine = texts("kind,question")
    upload(app, "wish-file", "open-wish", ("my_train.csv", mine), ("my_dev.csv", mine))
    assert explorer_of(app).settings.splits == {"my_train.csv": "train", "my_dev.csv": "validation"}
    app = opened(data="/elsewhere", budget="17")
    assert has_button(app, "open-wish")
    bring(app, ("mine.csv", texts()))
    assert explorer_of(app).source.uploaded
    assert explorer_of(app).board.requested is None
    assert not has_button(app, "open-wish")


@pytest.mark.browser
def test_back_and_forward_lead_through_pages(open_page: Callable[[str], Page], settled: Callable[[Page], Page]) -> None:
    page = open_page("")
    at_home = page.url

    def to(name: str) -> None:
        page.locator(f".st-key-pages a[href*='{name}']").click()
        page.wait_for_url(re.compile(f"/{name}"))
        settled(page)

    def budget_is(heads: int) -> None:
        expect(page.locator(".cahp-board output")).to_contain_text(f"{heads} of 72")
        expect(page).to_have_url(re.compile(f"/Budget.*budget={heads}$"))

    to("Budget")
    entries = page.evaluate("history.length")
    for heads in (20, 30):
        slider = page.locator("input.slider")
        slider.fill(str(heads))
        slider.dispatch_event("change")
        budget_is(heads)
    # Moving on a page adds nothing to what Back leads through.
    assert page.evaluate("history.length") == entries
    to("Similarity")
    expect(page).to_have_url(re.compile("/Similarity.*budget=30"))
    page.go_back(wait_until="commit")
    budget_is(30)
    page.go_back(wait_until="commit")
    expect(page.get_by_text("Which heads does this model need?")).to_be_visible()
    expect(page).to_have_url(re.compile("budget=auto"))
    assert page.url.partition("?")[0] == at_home.partition("?")[0]
    page.go_forward(wait_until="commit")
    budget_is(30)
    page.go_forward(wait_until="commit")
    expect(page.get_by_text("Which heads attend alike on your text?")).to_be_visible()
    expect(page).to_have_url(re.compile("/Similarity.*budget=30"))
    assert page.evaluate("history.length") == entries + 1
    assert page.get_by_test_id("stException").count() == 0


@pytest.mark.browser
@pytest.mark.nightly
def test_a_text_survives_reloads_unaddressed(open_page: Callable[[str], Page], settled: Callable[[Page], Page]) -> None:
    def write(page: Page, field: str, place: str, text: str) -> None:
        box = page.locator(field)
        box.fill(text)
        box.press("Control+Enter")
        word = text.split()[1]
        page.wait_for_function(f"() => sessionStorage.getItem('{place}')?.includes('{word}')")
        assert word not in page.url
        page.reload(wait_until="domcontentloaded")
        expect(box).to_have_value(text)

    page = open_page("Similarity")
    text = "The xyzzyplugh flooded after the river bank gave way."
    write(page, ".st-key-own-text-text-11 input", "cahp-own-text", text)
    assert settled(page).get_by_test_id("stException").count() == 0
    page = open_page("Budget")
    page.locator(".st-key-board-detail").get_by_text("My text").click()
    text = "The plughxyzzy rose before the interest rate did."
    write(page, ".st-key-own-text-text-11 textarea", "cahp-own-text", text)
