"""A causal language model on the pages: its cache takes the place of the time, and tokens that of texts."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fakes
import pytest
from apps import PATIENCE, done, explorer_with_run, has_button, open_app, read_stored, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.features.own_text.on_board import OWN_TEXT
from cahp.run.settings import Settings
from cahp.ui.parts import display
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import FIGURE, FLIPS, REFIT


@pytest.fixture(scope="module")
def teller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """A language model without a prompt, with a run."""
    place = tmp_path_factory.mktemp("teller")
    settings = fakes.quick(
        fakes.save_language_model(place / "model", "causal", "llama"),
        fakes.write_data(place / "data", train=60, validation=60, test=40),
        budget="6",
        window=16,
        tokens=320,
        eval_tokens=128,
        recover="refit",
    )
    with explorer_with_run("teller", settings) as made:
        yield made


def continued(app: AppTest) -> list[str]:
    """What the model and its pruned ones make of a text."""
    return [one.proto.body for one in app.get("html") if 'class="continued"' in one.proto.body]


def test_the_cache_is_shown_and_can_be_a_goal(teller: Explorer) -> None:
    app = open_app("budget", teller)
    assert "50 % less memory per token" in text_of(app, "subheader")
    assert not has_button(app, "time")
    goals = app.radio(key="budget-goal")
    assert "Time saved of at least (%)" not in goals.options
    goals.set_value("kv-cache").run()
    app.button(key="goal-apply").click().run()
    # 3 layers of 4 groups: 8 of 12 are the most that are at most 70 %.
    assert teller.mask.count == 8
    assert "8 groups that save at least 30 % of the KV cache: 0.67 ×. They are the most of " in text_of(app, "info")
    teller.board.set_budget(6)
    app = open_app("export", teller)
    (cost,) = (table.value.set_index("") for table in app.table if "change" in table.value)
    assert cost.loc["KV cache per token"].tolist() == ["384 bytes", "192 bytes", r"−50\.0 %"]
    assert has_button(app, "export-even")


def test_the_first_screen_continues_a_text_pruned_and_refit(teller: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app("home", teller, {"own-text-text-10": "the film was very bad"})
    assert "Heads are chosen on 20 windows of tokens and evaluated on 8 others." in text_of(app, "caption", "markdown")
    assert [box.label for box in app.number_input] == ["Calibration tokens", "Evaluation tokens"]
    for kind in (OWN_TEXT, FIGURE, REFIT, OWN_TEXT):
        job = teller.work.job(kind)
        assert job is None or job.wait(PATIENCE)
        rerun(app)
    full, kept = continued(app)
    assert "All groups" in full
    assert "Kept groups, after refit" in kept
    assert full.count('class="written"') > 0
    assert kept.count('class="written"') > 0
    # An address may name fewer tokens than a window has.
    few = replace(teller.source, settings=replace(teller.settings, window=32, eval_tokens=16))
    monkeypatch.setattr(teller, "source", few)
    assert [box.value for box in rerun(app).number_input] == [320, 16]


def test_windows_that_change_most_are_listed_and_in_no_file(teller: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    teller.detail = "Changed answers"
    files: dict[str, Any] = {}
    monkeypatch.setattr(display, "download_csv", lambda data, name, **_: files.update({name: data}))
    app = open_app("budget", teller)
    app.button(key="show-flips").click().run()
    done(teller.job(FLIPS))
    rerun(app)
    assert "of 128 predictions changed" in text_of(app, "subheader", "markdown", "caption")
    (table,) = (one.value for one in app.dataframe)
    assert list(table.columns) == ["tokens that differ", "text"]
    assert [*files["changed-answers"]] == ["tokens that differ"]
    counts = [int(value.split()[0]) for value in table["tokens that differ"]]
    assert 0 < len(counts) <= 8
    assert counts == sorted(counts, reverse=True)
    teller.detail = "Where heads lie"


def test_a_text_shows_the_next_tokens_of_the_full_and_the_pruned_model_and_is_in_no_file(teller: Explorer) -> None:
    text = "the film was very good"
    teller.detail = "My text"
    app = open_app("budget", teller, {"own-text-text-10": text})
    done(teller.work.job(OWN_TEXT))
    rerun(app)
    assert "with 6 as pruned" in text_of(app, "subheader", "markdown", "caption")
    titles = zip(("All", "as pruned", "after refit"), continued(app), strict=True)
    assert all(title in body for title, body in titles)
    # The first token that each of the three writes is the most probable one of its reading.
    readings = app.session_state["own-text-memory"].readings.values()
    assert len(readings) == 3
    assert all(reading.ids[0] == reading.answer for reading in readings)
    assert text not in str(dict(app.query_params))
    assert not any(text.encode() in content for content in read_stored(app))


def test_the_budget_on_screen_is_refitted_in_the_background(teller: Explorer) -> None:
    teller.board.set_budget(5)
    app = open_app("budget", teller)
    figure = teller.job(FIGURE)
    assert figure is None or figure.wait(PATIENCE)
    app.run()
    refitted = done(teller.work.job(REFIT, teller.board_state("refit")))
    assert teller.outcomes("refit") == refitted
    # No recovery was chosen, so the board shows the refit.
    assert teller.recovery.name == "refit"
    # Asked for, it is there; and with all heads there is nothing to refit.
    teller.chosen_recovery = "refit"
    app.run()
    assert teller.work.job(REFIT) is None
    teller.chosen_recovery = "none"
    teller.board.set_budget(12)
    app.run()
    assert teller.work.job(REFIT) is None
    teller.board.set_budget(6)


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


def test_the_bundled_example_needs_no_model(storyteller: Explorer) -> None:
    app = opened("similarity", storyteller)
    assert "groups do nine things with it" in app.title[0].value
    # Another text is run, and waits for the model.
    app.text_input(key="own-text-text-10").set_value("Nobody likes Monday mornings.").run()
    assert app.title[0].value == "Which groups attend alike on your text?"
    assert any("Compare heads" in str(bar.proto) for bar in app.get("progress"))
    # The first screen has both continuations, and opens by roles.
    app = opened("home", storyteller)
    full, kept = (one.proto.body for one in app.get("html") if 'class="continued"' in one.proto.body)
    assert "All groups" in full
    assert "<u" not in full
    assert "Kept groups, after refit" in kept
    # Both have a comma as their first and as their ninth word; all other words differ.
    assert kept.count('class="written"') - kept.count("<u class") == 2
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
    assert "68 groups are enough, after quick refit" in text_of(app, "markdown")
