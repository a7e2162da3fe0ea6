"""The bundled language model on all seven pages: no page speaks of what only a classifier has."""

import json
import re
from collections.abc import Iterator

import pytest
from apps import open_app, text_of
from streamlit.testing.v1 import AppTest

from cahp.features.own_text.on_board import OWN_TEXT
from cahp.run.settings import Settings
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source

#: Words of a classifier; a class of people, which Learn invites to guess, is none.
CLASSIFIER = re.compile(r"accura|\bclass(es|if)|\bmacro-F1\b|\blabell?ed\b", re.IGNORECASE)
SCRIPT = re.compile("export default function|<script")
#: These say that labels are not needed, or are options of a command.
ALLOWED = re.compile(r"[Ww]ithout labels|need(s)? no labels|[Nn]either needs labels")


@pytest.fixture
def storyteller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Explorer]:
    """The bundled language model in a session whose jobs wait for ever: its weights are not needed."""
    idle = jobs.Worker()
    # Its threads end at once.
    idle._closing = True
    monkeypatch.setattr(jobs, "_worker", idle)
    explorer = Explorer("storyteller", Source.open(Settings(model="smollm2")))
    yield explorer
    explorer.close()


def everything_said(app: AppTest) -> list[str]:
    """The words of all elements of a page: labels, texts, explanations, options and charts, but no scripts."""
    quoted = (re.findall(r'"((?:[^"\\]|\\.)*)"', str(one.proto)) for part in (app.main, app.sidebar) for one in part)
    return [text for texts in quoted for text in texts if not SCRIPT.search(text)]


def opened(key: str, explorer: Explorer) -> AppTest:
    """A page, which speaks of this model and neither of accuracy nor of classes."""
    app = open_app(key, explorer)
    assert any("smollm2" in text for text in everything_said(app))
    check_words(app)
    return app


def check_words(app: AppTest) -> None:
    cleaned = [ALLOWED.sub("", text) for text in everything_said(app)]
    found = ((text, match.start()) for text in cleaned for match in CLASSIFIER.finditer(text))
    assert [text[max(0, at - 40) : at + 40] for text, at in found] == []


@pytest.mark.parametrize("key", ["budget", "compare", "stability", "export"])
def test_no_page_of_a_language_model_speaks_of_accuracy_or_classes(storyteller: Explorer, key: str) -> None:
    opened(key, storyteller)


def test_the_bundled_example_shows_its_graph_without_the_model(storyteller: Explorer) -> None:
    app = opened("similarity", storyteller)
    assert len(app.get("plotly_chart")) >= 2
    # Another text is run, and waits for the model.
    app.text_area(key="similarity-text-0").set_value("Nobody likes Monday mornings.").run()
    assert not app.get("plotly_chart")
    assert any("Compare heads" in str(bar.proto) for bar in app.get("progress"))


def test_the_first_screen_has_both_continuations_and_opens_by_roles_without_the_model(storyteller: Explorer) -> None:
    app = opened("home", storyteller)
    full, kept = (one.proto.body for one in app.get("html") if 'class="continued"' in one.proto.body)
    assert "All groups" in full
    assert "<u" not in full
    assert "Kept groups, after refit" in kept
    # Both begin with the same comma; all words after it differ.
    assert kept.count('class="written"') - kept.count("<u class") == 1
    assert storyteller.work.job(OWN_TEXT) is None
    (board,) = (one for one in app.get("bidi_component") if "cahp_budget_board" in str(one.proto))
    assert json.loads(board.proto.json)["first"]["colouring"] == "roles"


def test_all_six_guesses_have_bundled_answers_without_the_model(storyteller: Explorer) -> None:
    app = opened("learn", storyteller)
    for step in ("one-head", "induction", "random", "refit", "cache", "turn"):
        app.button(key="learn-next").click().run()
        app.slider[0].set_value(17).run()
        app.button(key=f"learn-see-{step}").click().run()
        assert not app.exception
        bundled = any(caption.value.startswith("Bundled: measured on") for caption in app.caption)
        assert bundled == (step != "turn")
        check_words(app)
    assert "87 groups are enough" in text_of(app, "markdown")
