"""The page of the course, without a browser."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import fakes
import pytest
from apps import done, explorer_with_run, has_button, open_app, rerun, text_of

from cahp.features.learn import page
from cahp.features.learn.page import SCENE
from cahp.ui.session.work import TABLE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.usefixtures("quiet_machine")
def test_the_last_step_offers_to_measure_again_what_was_cancelled_and_waits_for_no_other_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process of its own for the timings takes longer to start than the table.
    monkeypatch.setattr("cahp.board.budget_sweep.LatencyWorker", fakes.LatencyWorkerHere)
    monkeypatch.setattr("cahp.ui.frame.running._PATIENCE_S", 0.0)
    with explorer_with_run("learner", fakes.quick_task(tmp_path, budget="6")) as explorer:
        # The Budget page measures after a refit.
        explorer.work.start(TABLE, explorer.board_state("refit")).cancel()
        app = open_app("learn", explorer)
        done(explorer.work.job(SCENE))
        rerun(app)
        last = [str(button.key) for button in app.button if str(button.key).startswith("learn-go-")][-1]
        app.button(key=last).click().run()
        job = explorer.work.job(TABLE, explorer.board_state("none"))
        assert job is not None
        job.cancel()
        rerun(app)
        assert has_button(app, "learn-turn-again")
        app.button(key="learn-turn-again").click().run()
        done(explorer.work.job(TABLE, explorer.board_state("none")))
        rerun(app)
        assert not app.button(key="learn-see-turn").disabled


def test_the_last_step_has_no_slider_where_only_one_number_is_possible(tmp_path: Path) -> None:
    with explorer_with_run("learner", fakes.quick_task(tmp_path, budget="6")) as explorer:
        explorer.change(min_per_layer=explorer.card.heads)
        table = explorer.table()
        assert table is not None
        assert len(table.budgets) == 1
        app = open_app("learn", explorer)
        done(explorer.work.job(SCENE))
        rerun(app)
        last = [str(button.key) for button in app.button if str(button.key).startswith("learn-go-")][-1]
        app.button(key=last).click().run()
        assert not app.exception
        assert "The only possible number of heads here is 12." in text_of(app, "caption")


def test_guesses_about_another_model_leave_the_address_and_those_of_a_link_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    monkeypatch.setattr("cahp.features.learn.page.address.put", lambda _, value: written.append(value))
    course = [SimpleNamespace(guess=None), SimpleNamespace(guess=None)]
    page._link_guesses(course, page._Learner(guesses={}))  # type: ignore[arg-type]
    assert written == []
    page._link_guesses(course, page._Learner(guesses={"random-of-another": 5}))  # type: ignore[arg-type]
    assert written == [""]
