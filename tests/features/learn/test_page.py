"""The page of the course, without a browser."""

from pathlib import Path

import fakes
import pytest
from apps import PATIENCE, done, explorer_with_run, has_button, open_app, rerun

from cahp.features.learn.classroom import CLASSES
from cahp.features.learn.page import ANSWER, SCENE
from cahp.recoveries import QUICK
from cahp.run.resources import Resources
from cahp.ui.session import jobs
from cahp.ui.session.work import TABLE

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
