import json
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from apps import PATIENCE, explorer_of, open_app, read_stored, rerun, text_of
from playwright.sync_api import BrowserContext, Page, expect
from streamlit.testing.v1 import AppTest

from cahp.api import bundled
from cahp.stages.similarity import head_graph
from cahp.ui.frame import running
from cahp.ui.session.opening import Source
from cahp.ui.similarity.graph import _draw, graph_html
from cahp.ui.similarity.page import compare_example

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


def settled(app: AppTest) -> AppTest:
    """Run until the heads are compared."""
    deadline = time.monotonic() + PATIENCE
    while any(button.label == "Cancel" for button in rerun(app).button) and time.monotonic() < deadline:
        time.sleep(0.2)
    return app


@pytest.fixture(scope="module")
def app() -> AppTest:
    """The page, with its first example compared."""
    return settled(open_app("similarity"))


def shown(app: AppTest) -> str:
    """The charts' findings."""
    return text_of(app, "subheader")


def typed(app: AppTest, text: str) -> None:
    app.text_input(key="own-text-text-11").set_value(text)
    settled(app)


def drawn(app: AppTest) -> str:
    """The graph's nodes and edges, without vis-network itself."""
    return str(app.get("iframe")[0].proto).rpartition("function drawGraph()")[2]


def test_the_first_example_is_compared_at_once_and_a_long_text_is_cut_where_a_person_can_see_it() -> None:
    explorer = explorer_of(open_app("home"))
    explorer.selected = 39
    app = settled(open_app("similarity", explorer))
    assert app.selectbox(key="similarity-head").value != 39
    assert app.title[0].value == "Which heads attend alike on your text?"
    # The chosen head, and those most alike; the other tabs are not drawn.
    assert len(app.get("plotly_chart")) == 3
    assert len(app.get("iframe")) == 1
    assert "on this text" in shown(app)
    # It begins with a head that does not rest on the first token, also after another one was removed.
    assert "first token" not in shown(app)
    assert "layer 0, head 1, community" in drawn(app)
    typed(app, "word " * 500)
    assert app.warning[0].value == (
        "This text is too long for the model: its first 128 tokens are compared, 374 more were truncated."
    )


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_are_texts(app: AppTest, text: str) -> None:
    typed(app, text)
    assert not app.exception
    # Too few tokens have no graph.
    assert len(app.get("plotly_chart")) == (0 if app.error else 3)
    # Nothing of the text is in the page's own HTML or in the graph; labels of charts are made harmless.
    for trap in ("owned", "onerror=", "alert(1)", "example.com", "etc/passwd"):
        assert trap not in shown(app)
        assert app.error or trap not in drawn(app)
    assert not any("<script>doc" in str(chart.proto) or "<img" in str(chart.proto) for chart in app.get("plotly_chart"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\U0001f600 \U0001f9e0", "knows too few tokens"),
        ("one", "knows too few tokens"),
        ("\u200b", "word"),
        ("\x00", "word"),
    ],
)
def test_a_text_of_which_the_model_reads_too_little_has_no_graph(app: AppTest, text: str, words: str) -> None:
    typed(app, text)
    assert any(words in message.value for message in (*app.info, *app.error))
    assert not app.get("plotly_chart")
    assert not app.get("iframe")
    # Nor tabs about the text.
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
    # It was compared.
    assert len(app.get("plotly_chart")) == 3
    assert secret not in str(dict(app.query_params))
    assert secret not in caplog.text
    assert not any(secret.encode() in content for content in read_stored(app))


@pytest.mark.browser
class TestBrowser:
    def ready(self, page: Page) -> Page:
        # The first one waits for the model, which a busy machine takes its time to read.
        page.wait_for_selector(".st-key-chart-nearest-0 .js-plotly-plot", timeout=180_000)
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        return page

    def graph(self, page: Page) -> Any:
        page.locator(".st-key-head-graph").scroll_into_view_if_needed()
        frame = page.locator(".st-key-head-graph iframe").element_handle().content_frame()
        return self.until(frame, "typeof network !== 'undefined' && network.getSelectedNodes().length === 1")

    def until(self, frame: Any, true: str) -> Any:
        """Wait until something is true in the graph's frame, whose own policy forbids what asks again inside of it."""
        deadline = time.monotonic() + 60
        while not frame.evaluate(true):
            assert time.monotonic() < deadline, true
            time.sleep(0.1)
        return frame

    def test_heads_are_chosen_in_the_graph_and_move_with_the_threshold(self, new_person: Callable[..., Page]) -> None:
        page = self.ready(new_person("Similarity?shown=30", viewport={"width": 1280, "height": 900}))
        for part in ("similarity-input", "head-graph", "chart-attention"):
            box = page.locator(f".st-key-{part}").bounding_box()
            assert box["y"] + box["height"] <= 900, part
        graph = self.graph(page)
        assert graph.evaluate("network.getSelectedNodes()") == [30]
        place = graph.evaluate("network.canvasToDOM(network.getPosition(7))")
        page.locator(".st-key-head-graph iframe").click(position={"x": place["x"], "y": place["y"]})
        expect(page.locator(".st-key-figure-attention h3")).to_contain_text("Layer 0, head 7")
        page.wait_for_function("new URLSearchParams(location.search).get('shown') === '0.7'")
        graph = self.until(self.graph(self.ready(page)), "network.getSelectedNodes()[0] === 7")
        edges = graph.evaluate("(window.kept = true) && edges.length")
        page.get_by_role("slider", name="Link heads").focus()
        # Each of them interrupts the run of the page that the last one began.
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
        self.ready(page)
        # Heads move to their new places in the same frame, which is not built anew.
        self.until(
            graph,
            f"edges.length !== {edges} && moved === 1 && placed(JSON.parse(sent).nodes).every(({{ id, x, y }}) => "
            "network.getPosition(id).x === x && network.getPosition(id).y === y)",
        )
        assert graph.evaluate("window.kept")
        assert graph.evaluate("network.getSelectedNodes()") == [7]
        assert page.locator("[data-testid=stException]").count() == 0

    @pytest.mark.nightly
    def test_the_graph_is_drawn_whole_at_every_threshold(self, new_context: Callable[..., BrowserContext]) -> None:
        """The frame alone, which is given all graphs as one text: the driver takes minutes for as many numbers."""
        compared, run = compare_example(Source.open(bundled.SETTINGS).card), bundled.read_run()
        mask = run.document.mask
        rising = [head_graph(compared.distances, threshold=step / 20) for step in range(21)]
        graphs = [*rising, *reversed(rising)]
        page, errors = new_context(reduced_motion="reduce").new_page(), []
        page.on("pageerror", lambda error: errors.append(error.message))
        page.set_content("<iframe width=700 height=490></iframe>")
        page.evaluate("html => document.querySelector('iframe').srcdoc = html", graph_html(graphs[0], mask))
        frame = page.locator("iframe").element_handle().content_frame()
        self.until(frame, "typeof sent === 'string'")
        walk = "text => JSON.parse(text).forEach((graph) => { show(graph); network.redraw(); })"
        frame.evaluate(walk, json.dumps([_draw(graph, mask, "head", dark=False)[1] for graph in graphs]))
        assert errors == []
        counts = "[nodes.length, edges.length, drawing.communities.length, drawing.areas.length, drawing.signs.length]"
        last = graphs[-1]
        groups = len(np.unique(last.communities))
        assert frame.evaluate(counts) == [len(last.communities), len(last.edges), groups, groups, groups]

    @pytest.mark.nightly
    def test_on_a_phone_names_of_heads_are_readable_and_taps_dim_nothing(self, new_person: Callable[..., Page]) -> None:
        phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
        page = self.ready(new_person("Similarity?shown=30", **phone))
        graph = self.graph(page)
        size = graph.evaluate("network.getScale() * nodes.get(7).font.size")
        assert size >= 10 - 1e-9
        width = graph.evaluate("document.documentElement.clientWidth")
        across = graph.evaluate("nodes.getIds().map(id => network.canvasToDOM(network.getPosition(id)).x)")
        assert min(across) > 13
        assert max(across) < width - 13
        place = graph.evaluate("network.canvasToDOM(network.getPosition(7))")
        page.locator(".st-key-head-graph iframe").tap(position={"x": place["x"], "y": place["y"]})
        self.until(graph, "network.getSelectedNodes()[0] === 7")
        assert graph.evaluate("nodes.get().every(({ opacity = 1 }) => opacity === 1)")

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
        # Where a page is drawn anew, the last drawing stays beside it for a moment.
        # Only as many tokens are written as there is room for.
        chart = page.locator(".st-key-chart-attention")
        expect(chart.filter(has_text=re.compile("img|src|alert|script|bold|java"))).to_have_count(1)
        assert self.ready(page).locator("[data-testid=stException]").count() == 0
        assert chart.locator("img, script, svg a").count() == 0
        assert dialogs == []
