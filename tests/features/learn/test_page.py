"""The course without a browser: its page, and the scene that its steps show."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import numpy as np
import pytest
from apps import PATIENCE, done, explorer_with_run, has_button, open_app, open_part, rerun

from assets.bundle import find_lessons
from cahp.api import bundled
from cahp.features.learn.classroom import CLASSES
from cahp.features.learn.page import ANSWER, SCENE
from cahp.features.learn.scene import HeadFamily, find_family, measure_scene
from cahp.features.learn.stage import describe_stage, draw_answer
from cahp.features.learn.steps import Step
from cahp.recoveries import QUICK
from cahp.run.bench import Bench
from cahp.run.resources import Resources
from cahp.ui.session import jobs
from cahp.ui.session.opening import Source
from cahp.ui.session.work import TABLE
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.usefixtures("quiet_machine")
def test_the_last_step_measures_again_what_was_cancelled_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.run.bench.Bench.costs", fakes.time_quickly)
    monkeypatch.setattr("cahp.ui.frame.running._PATIENCE_S", 0.0)
    with explorer_with_run("learner", fakes.quick_task(tmp_path, budget="6")) as explorer:
        # The Budget page measures after a refit.
        explorer.work.start(TABLE, explorer.board_state("refit")).cancel()
        app = open_app("learn", explorer)
        done(explorer.work.job(SCENE))
        rerun(app)
        last = [str(button.key) for button in app.button if str(button.key).startswith("learn-go-")][-1]
        app.button(key=last).click().run()
        app.slider(key="learn-guess-turn").set_value(7).run()
        app.button(key="learn-see-turn").click().run()
        job = explorer.work.job(TABLE, explorer.board_state("none"))
        job.cancel()
        rerun(app)
        assert has_button(app, "learn-turn-again")
        app.button(key="learn-turn-again").click().run()
        done(explorer.work.job(TABLE, explorer.board_state("none")))
        rerun(app)
        assert not app.exception
        assert not has_button(app, "learn-see-turn")


@pytest.mark.usefixtures("quiet_machine")
def test_an_answer_kept_nowhere_is_shown_and_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resources, "keep_record", lambda *_: None)
    with explorer_with_run("learner", fakes.quick_task(tmp_path, budget="6")) as explorer:
        app = open_app("learn", explorer, step="2")
        # Another test may have read the sentence already.
        assert all(job.wait(PATIENCE) for job in jobs.unfinished(explorer.id))
        rerun(app)
        app.slider(key="learn-guess-one-head").set_value(1).run()
        app.button(key="learn-see-one-head").click().run()
        first = explorer.work.job(ANSWER)
        done(first)
        rerun(app)
        assert not has_button(app, "learn-see-one-head")
        app.button(key="learn-here-one-head").click().run()
        again = explorer.work.job(ANSWER)
        done(again)
        assert again is not first
        rerun(app)
        assert not has_button(app, "learn-see-one-head")


@pytest.mark.usefixtures("quiet_machine")
def test_a_class_ends_when_its_last_step_is_after_a_refit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.run.bench.Bench.costs", fakes.time_quickly)
    with explorer_with_run("learner", fakes.quick_task(tmp_path, budget="6")) as explorer:
        app = open_app("learn", explorer)
        assert all(job.wait(PATIENCE) for job in jobs.unfinished(explorer.id))
        rerun(app)
        app.button(key="class-open").click().run()
        rerun(app)
        assert CLASSES.led_by(explorer.id) is not None
        done(explorer.work.start(TABLE, explorer.board_state(QUICK.name)))
        rerun(app)
        assert CLASSES.led_by(explorer.id) is None


BENCH = Source.open(bundled.SETTINGS).bench
FOUND, ANSWERS = find_lessons(BENCH)
SUBJECT = replace(FOUND, tints=(0,) * 72, names=("A",) * 72)
STEP = Step("refit", HeadMask.full(6, 12), (), 100, unit="answer", units="answers")


@pytest.mark.parametrize("name", list(ANSWERS))
def test_before_the_guess_only_the_full_model_has_a_bar_and_no_head_is_removed(name: str) -> None:
    mask = HeadMask.of(range(13), 6, 12)
    answer = ANSWERS[name]
    step = Step(name, mask, question="?")
    before = describe_stage(SUBJECT, step, answer, answered=False, mask=mask)
    after = describe_stage(SUBJECT, step, answer, answered=True, mask=mask)
    assert [bar["label"] for bar in before["bars"]] == ["all heads"]
    assert len(after["bars"]) > 1
    # A refit changes no head.
    assert bool(before["off"]) == (name == "refit")
    assert len(after["off"]) == 59


def test_the_names_of_classes_in_an_answer_are_no_markup() -> None:
    answer = replace(ANSWERS["refit"], meaning="rejected", words={"reason": "**odd**: [odd](there)"})
    app = open_part(draw_answer, SUBJECT, STEP, answer)
    shown = [one.value for one in app.markdown]
    assert any(r"\*\*odd\*\*" in words for words in shown)
    assert any(r"\[odd\]" in words for words in shown)
    # A measured whole number has no decimal place.
    answer = replace(ANSWERS["refit"], value=3.0, interval=None, n=0)
    app = open_part(draw_answer, SUBJECT, STEP, answer)
    assert any(one.value.endswith(" 3 answers.") for one in app.markdown)


MASK = HeadMask.of([0, 4, 5], 2, 4)
LABELS = np.array([0, 0, 0, 0, 1, 2, 1, 2])
SALIENCE = np.array([[0.9, 0.1, 0.2, 0.3], [1.0, 0.8, 0.4, 0.5]])


def test_the_family_is_the_largest_cluster_with_its_kept_head_or_all_heads_that_copy() -> None:
    assert find_family(LABELS, MASK, SALIENCE, None) == HeadFamily((0, 1, 2, 3), 0)
    copying: Any = SimpleNamespace(units=lambda role: {"induction": (2, 7)}[role], named_otherwise=lambda role: 1)
    family = find_family(LABELS, MASK, SALIENCE, copying)
    assert (family, family.leaving) == (HeadFamily((2, 7), named_otherwise=1), (2, 7))
    none: Any = SimpleNamespace(units=lambda role: ())
    assert find_family(LABELS, MASK, SALIENCE, none).leaving == (1, 2, 3)


def test_the_answers_are_named_as_the_labels_of_the_data(small_bench: Bench) -> None:
    named = replace(small_bench, reading={"poor": "bad", "fine": "good"})
    scene = measure_scene(named, HeadFamily((0, 1), 0))
    assert {scene.before.words, scene.after.words} <= {"poor", "fine"}
