import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apps import PATIENCE, explorer_of, open_app, read_stored, rerun, text_of
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from cahp.board import pack_bytes, read_component
from cahp.figures.marks import ink
from cahp.stages.similarity import head_graph
from cahp.ui.frame import running
from cahp.ui.parts.inputs import load_examples
from cahp.ui.similarity import graph
from cahp.ui.similarity.graph import cut_groups, describe_groups, join_heads, write_network
from cahp.values import HeadMask

FOLDER = Path(graph.__file__).parent

#: Texts that are hostile to what shows them; each holds several traps.
ODD_TEXTS = [
    "x",
    "<script>document.title = 'owned'</script> <img src=x onerror=\"document.title=1\"> <b>bold</b> "
    '<a href="javascript:alert(1)">link</a> <br> &lt;b&gt; &amp;',
    "[link](https://example.com) ![image](https://example.com/x.png) **bold** `code` :smile: :red[red] $x^2$ $$ "
    '%{x} %{customdata[0]} {{7*7}} ${7*7} <%= 7 %> =HYPERLINK("https://example.com") \'; DROP TABLE heads; --',
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈 🇺🇳 مرحبا بالعالم שלום עולם \u202e desrever \u2066 x नमस्ते 世界 こんにちは 안녕하세요 สวัสดี "
    + "e\u0301" * 30
    + "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f \x00\x01\x1b[31m red \x7f \ufffe \ufeff",
    "a" * 5_000,
    "word " * 20_000,
    "\n\n\n one \t two \r\n three \u2028 four\n- item\n# heading\n> quote\n| a | b |\n|---|---|",
    "[CLS] [SEP] [PAD] [MASK] [UNK] <s> </s> ../../etc/passwd file:///etc/passwd C:\\Windows 0 -0 NaN null None "
    "undefined true 1e309 '\"`\\",
]
FEW = "knows too few tokens"
TOO_LITTLE = [("\U0001f600 \U0001f9e0", FEW), ("one", FEW), ("\u200b", "word"), ("\x00", "word")]


def settled(app: AppTest) -> AppTest:
    """Run until the heads are compared."""
    deadline = time.monotonic() + PATIENCE
    while any(button.label == "Cancel" for button in rerun(app).button) and time.monotonic() < deadline:
        time.sleep(0.2)
    return app


@pytest.fixture(scope="module")
def app() -> AppTest:
    """The page, with its first example compared, and its fold open."""
    return settled(open_app("similarity", view="text"))


def shown(app: AppTest) -> str:
    """The charts' findings."""
    return text_of(app, "subheader")


def typed(app: AppTest, text: str) -> None:
    app.text_input(key="own-text-text-11").set_value(text)
    settled(app)


def find_map(app: AppTest) -> list[Any]:
    """The data of the map (none: it is not drawn)."""
    return [json.loads(one.proto.json) for one in app.get("bidi_component") if '"merges"' in one.proto.json]


def test_the_first_example_is_compared_at_once_and_a_long_text_is_cut_where_a_person_can_see_it() -> None:
    explorer = explorer_of(open_app("home"))
    explorer.selected = 39
    app = settled(open_app("similarity", explorer))
    # It begins with a head that does not rest on the first token, also after another one was removed.
    assert app.query_params["shown"] != "3.3"
    assert app.title[0].value == "72 heads do six things with it; the 13 kept do five"
    (data,) = find_map(app)
    assert (data["tokens"][1:3], len(data["merges"]), data["groups"]) == (["the", "captain"], 71, 6)
    assert not app.get("plotly_chart")
    typed(app, "word " * 500)
    assert app.warning[0].value == (
        "This text is too long for the model: its first 128 tokens are compared, 374 more were truncated."
    )


def test_heads_are_joined_by_likeness_and_communities_last() -> None:
    # Heads 0 and 1 are most alike, but of two communities.
    apart = np.array([[0, 0.1, 0.3, 0.8], [0.1, 0, 0.7, 0.4], [0.3, 0.7, 0, 0.9], [0.8, 0.4, 0.9, 0]])
    steps = join_heads(apart, np.array([0, 1, 0, 1]))
    assert steps[:, :2].tolist() == [[0, 2], [1, 3], [4, 5]]
    assert [cut_groups(steps, count).tolist() for count in (1, 2, 3)] == [[0] * 4, [0, 1, 0, 1], [0, 1, 0, 2]]
    mask = HeadMask.of([0, 2], 1, 4)
    assert describe_groups(cut_groups(steps, 2), mask, "head") == "4 heads do two things with it; the 2 kept do one"
    assert describe_groups(cut_groups(steps, 1), mask.unpruned, "head") == "4 heads do one thing with it"


@pytest.mark.browser
def test_the_network_is_a_page_that_loads_nothing_and_draws(page: Page, tmp_path: Path) -> None:
    apart = np.array([[0, 0.1, 0.9], [0.1, 0, 0.8], [0.9, 0.8, 0]])
    drawn, asked, file = head_graph(apart, threshold=0.5), [], tmp_path / "heads.html"
    file.write_bytes(write_network(drawn, np.array([0, 0, 1]), HeadMask.of([2], 1, 3), "head"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert page.evaluate("[nodes.get().map(node => node.size), edges.length]") == [[10, 10, 20], 1]
    assert asked == [page.url]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_are_texts(app: AppTest, text: str) -> None:
    typed(app, text)
    assert not app.exception
    assert len(app.get("plotly_chart")) == (0 if app.error else 3)
    # Nothing of the text is in the page's own HTML; labels of charts are made harmless.
    for trap in ("owned", "onerror=", "alert(1)", "example.com", "etc/passwd"):
        assert trap not in shown(app)
    assert not any("<script>doc" in str(chart.proto) or "<img" in str(chart.proto) for chart in app.get("plotly_chart"))


@pytest.mark.parametrize(("text", "words"), TOO_LITTLE)
def test_a_text_of_which_the_model_reads_too_little_has_no_graph(app: AppTest, text: str, words: str) -> None:
    typed(app, text)
    assert any(words in message.value for message in (*app.info, *app.error))
    assert not app.get("plotly_chart")
    assert not find_map(app)
    assert not app.get("button_group")


@pytest.mark.nightly
def test_one_head_over_all_texts_has_a_link_of_its_own_and_needs_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    # However busy this machine is.
    monkeypatch.setattr(running, "_UNASKED_S", float("inf"))
    other = open_app("similarity", view="head", shown="3.7")
    for _ in range(3):
        settled(other)
    assert other.selectbox(key="similarity-head").value == 43
    assert "over 300 texts" in shown(other)
    assert any("**Role:**" in text.value for text in other.markdown)


def test_a_link_that_is_followed_later_in_the_session_wins_over_what_was_chosen(app: AppTest) -> None:
    app.query_params["shown"] = "2.3"
    typed(app, "The river bank gave way.")
    assert app.selectbox(key="similarity-head").value == 27
    app.selectbox(key="similarity-head").set_value(4)
    settled(app)
    assert app.query_params["shown"] == "0.4"


def test_no_text_reaches_the_store_the_address_or_the_log(app: AppTest, caplog: pytest.LogCaptureFixture) -> None:
    secret = "xyzzyplugh"
    typed(app, f"The password is {secret} and nothing else.")
    assert len(app.get("plotly_chart")) == 3
    assert secret not in str(dict(app.query_params))
    assert secret not in caplog.text
    assert not any(secret.encode() in content for content in read_stored(app))


@pytest.fixture
def bare(page: Page) -> Page:
    """The script of the map alone, with made maps of six tokens; ``told`` are its events."""
    js, css = read_component(FOLDER / "map.css", FOLDER / "map.js")
    tokens = {"tokens": ["[CLS]", "one", "two", "one", "three", "[SEP]"], "length": 6, "tops": [1.0] * 5, "number": 1}
    before, after, start = np.eye(6, k=-1), np.eye(6, k=1), np.eye(6)[[0] * 6]
    maps = pack_bytes((np.stack([before, before, after, after, start]) * 255).astype(np.uint8))
    places = [[-1, -1], [-0.9, -0.8], [1, -1], [0.9, -0.8], [0, 1]]
    graph = {"edges": [[0, 1], [2, 3]], "weights": [0.9, 0.8], "merges": [[0, 1], [2, 3], [5, 6], [4, 7]]}
    look = {"colours": ["#0072B2"] * 5, "scale": ink(dark=False).scale, "kept": [True, False, False, False, True]}
    facts = {"removals": {"0": {"value": 0.9, "n": 10}, "1": {"value": 1.0, "n": 10}}}
    words = {"unit": "head", "layer": 5, "facts": facts, "answers": "answers", "cards": True, "head": 1, "groups": 3}
    data = {**tokens, "items": "texts", "suggested": 3, "maps": maps, "places": places, **graph, **look, **words}
    page.set_content(f"<style>{css}</style><body><div id=place></div><script>told = []</script></body>")
    script = "const { default: draw } = await import(URL.createObjectURL(new Blob([js], { type: 'text/javascript' })));"
    mount = "draw({ data, parentElement: place, setTriggerValue: (_, { turn, ...event }) => told.push(event) });"
    page.evaluate(f"async ([js, data]) => {{ {script} {mount} }}", [js, data])
    return page


@pytest.mark.browser
class TestMap:
    def test_groups_are_named_by_what_their_heads_do_more_than_all(self, bare: Page) -> None:
        names = bare.locator(".labels .name")
        deeds = {"Look at the word before", "Look at the next word", "Rests at the start"}
        assert set(names.all_text_contents()) == deeds
        labels = bare.locator(".labels text").all_text_contents()
        assert {"2 heads · 100 %, two → one", "2 heads · 100 %, one → two · none kept"} < set(labels)
        panel = bare.locator(".panel")
        expect(panel.locator("h3")).to_have_text("Look at the word before")
        expect(panel).to_contain_text("Kept: 0.0. Without one of them alone, 0 to 1 of 10 answers change.")
        expect(panel.locator(".sentence g")).to_have_count(3)
        bare.get_by_role("slider").press("Home")
        expect(names).to_have_text("Half at the word before")

    def test_heads_are_chosen_and_groups_removed(self, bare: Page) -> None:
        bare.locator("[data-head='2']").click()
        expect(bare.locator(".panel h3")).to_have_text("Look at the next word")
        bare.get_by_role("button", name="Restore all two").click()
        bare.locator("[data-head='4']").hover()
        expect(bare.locator(".says")).to_have_text("Head 0.4, kept. Here: rests at the start, 100 %.")
        bare.get_by_role("slider").press("End")
        bare.locator("[data-head='0']").press("Enter")
        bare.get_by_role("button", name="Open card of 0.0").click()
        told = [(event["kind"], event["head"]) for event in bare.evaluate("told")]
        assert told == [("head", 2), ("group", 2), ("groups", 2), ("head", 0), ("card", 0)]
        bare.locator("[data-head='3']").hover()
        view = bare.locator("svg.map > g")
        before = view.get_attribute("transform")
        bare.mouse.wheel(0, -300)
        expect(view).not_to_have_attribute("transform", str(before))
        bare.locator("[data-head='1']").press("Escape")
        expect(view).to_have_attribute("transform", str(before))


@pytest.mark.browser
class TestBrowser:
    def ready(self, page: Page) -> Page:
        # The first one waits for the model, which a busy machine takes its time to read.
        page.wait_for_selector(".head-map .panel h3", timeout=180_000)
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        return page

    def test_heads_are_chosen_on_the_map_and_have_links(self, new_person: Callable[..., Page]) -> None:
        page = self.ready(new_person("Similarity?shown=30", viewport={"width": 1280, "height": 900}))
        for part in ("similarity-input", "similarity-map"):
            box = page.locator(f".st-key-{part}").bounding_box()
            assert box["y"] + box["height"] <= 900, part
        expect(page.locator(".head.chosen")).to_have_attribute("data-head", "30")
        page.locator("[data-head='7']").click()
        expect(page).to_have_url(re.compile("shown=0.7"))
        page.get_by_role("slider", name="Groups").press("Home")
        expect(page.get_by_role("heading", level=1)).to_have_text("72 heads do one thing with it; the 13 kept do one")
        expect(page.locator(".head.chosen")).to_have_attribute("data-head", "7")
        page.get_by_text("Most alike · All distances").click()
        expect(page.locator(".st-key-figure-attention h3")).to_contain_text("Layer 0, head 7")
        expect(page).to_have_url(re.compile("view=text"))

    @pytest.mark.nightly
    def test_the_map_is_whole_with_every_example_at_every_number(self, new_person: Callable[..., Page]) -> None:
        page, errors = self.ready(new_person("Similarity", reduced_motion="reduce")), []
        page.on("pageerror", lambda error: errors.append(error.message))
        for place in range(len(load_examples("single"))):
            page.locator(".st-key-own-text-example-11 input").click()
            page.get_by_role("option").nth(place).click()
            expect(page.get_by_label("Your text", exact=True)).to_have_value(load_examples("single")[place]["text"])
            self.ready(page)
            counts = page.get_by_role("slider", name="Groups").evaluate(
                "slider => [...Array(+slider.max + 1).keys()].map(at => (slider.value = at, slider.oninput(), ['.head',"
                " '.hull'].map(part => slider.getRootNode().querySelectorAll(part).length)))"
            )
            assert [counts[0], counts[-1], {heads for heads, _ in counts}] == [[72, 1], [72, 72], {72}]
        assert errors == []

    @pytest.mark.nightly
    def test_on_a_phone_islands_lie_inside_and_taps_dim_nothing(self, new_person: Callable[..., Page]) -> None:
        phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
        page = self.ready(new_person("Similarity?shown=30", **phone))
        page.wait_for_function("!document.querySelector('.labels.waits')")
        left, right = page.locator(".head, .labels text").evaluate_all(
            "parts => [Math.min, Math.max].map((most, side) => most(...parts.map(part => part.getBoundingClientRect())"
            ".map(({ left, right }) => [left, right][side])))"
        )
        assert 0 < left < right < 390
        page.locator("[data-head='7']").tap()
        expect(page.locator(".head.chosen")).to_have_attribute("data-head", "7")
        assert page.locator(".dim").count() == 0

    def test_markup_in_a_text_is_shown_and_never_run(self, open_page: Callable[[str], Page]) -> None:
        page = self.ready(open_page("Similarity"))
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        box = page.get_by_label("Your text", exact=True)
        box.fill(
            "<img src=x onerror=alert(1)> <script>alert(2)</script> <b>bold</b> <a href='javascript:alert(3)'>x</a> "
            "![x](https://elsewhere.invalid/x.png)"
        )
        box.press("Control+Enter")
        words = page.locator(".head-map .words")
        expect(words).to_contain_text(re.compile("img.*src.*alert.*script.*bold"))
        assert self.ready(page).locator("[data-testid=stException]").count() == 0
        assert words.locator("img, script, b, a").count() == 0
        assert dialogs == []
