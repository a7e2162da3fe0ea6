"""The widget in the hands of a kernel; that it is drawn and dragged is tested in JupyterLab."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

pytest.importorskip("anywidget", reason="the extra `notebook` is not installed")

import cahp
from cahp.board import budget_sweep
from cahp.notebook.widget import BudgetBoard
from cahp.run.bench import Bench
from cahp.store import Store
from cahp.values import BudgetError, HeadMask, MaskError

PATIENCE = 120
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cahp.PruneResult:
    place = tmp_path_factory.mktemp("tiny")
    return cahp.prune(fakes.quick_task(place, budget="5"), progress=False, store=Store(place / "store"))


@pytest.fixture
def board(run: cahp.PruneResult) -> Iterator[BudgetBoard]:
    run.__dict__.pop("board", None)
    yield run.board
    run.board.stop()
    assert run.board.wait(PATIENCE)


def press(board: BudgetBoard, **said: object) -> None:
    """What the board's script tells."""
    board._handle(board, said, [])


def test_a_budget_or_a_mask_is_measured_as_the_command_measures_it(run: cahp.PruneResult, board: BudgetBoard) -> None:
    press(board, kind="budget", budget=7)
    assert board.budget == board.mask.count == 7
    assert board.wait(PATIENCE)
    found = budget_sweep.evaluate_mask(run.bench, board.mask)
    assert board.outcomes == found
    assert board.data["rows"][7 - 3]["values"]["accuracy"][0] == found["accuracy"].value
    kl = found["kl"]
    assert board.data["current"]["values"]["kl"] == pytest.approx([kl.value, kl.low, kl.high, kl.n], rel=1e-4)
    assert board.doing == {"stage": "", "done": 0, "total": 0, "error": ""}
    board.budget = 12
    assert board.mask.count == 12
    keep = board.mask.keep.copy()
    keep[0, 0] = keep[1, 2] = False
    board.mask = HeadMask(keep)
    assert board.budget == 10
    assert board.data["current"]["origin"] == "hand"
    assert board.wait(PATIENCE)
    assert board.outcomes == budget_sweep.evaluate_mask(run.bench, HeadMask(keep))
    press(board, kind="undo")
    assert board.budget == 12


def test_what_cannot_be_is_refused_in_a_sentence_and_the_board_stays(board: BudgetBoard) -> None:
    with pytest.raises(BudgetError, match="impossible"):
        board.budget = 99
    with pytest.raises(MaskError, match="2 x 2 heads"):
        board.mask = HeadMask.full(2, 2)
    assert board.budget == board.mask.count == 5
    alone = next(heads[0] + 4 * layer for layer, heads in enumerate(board.mask.by_layer) if len(heads) == 1)
    press(board, kind="toggle", head=alone)
    assert "would keep no head" in board.doing["error"]
    assert board.budget == 5
    # The script drew the pressed head at once; other data make it draw the mask.
    assert board.data["refused"] == 1
    press(board, kind="toggle", head=alone)
    assert board.data["refused"] == 2


def test_what_is_stopped_ends_at_once_and_is_no_failure(board: BudgetBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def measure(bench: Bench, *_: object, **__: object) -> None:
        while True:
            bench.resources.progress("evaluation", 0, 1)
            begun.set()

    monkeypatch.setattr(budget_sweep, "evaluate_mask", measure)
    board.budget = 9
    assert begun.wait(PATIENCE)
    assert board.doing["stage"]
    # A new request stops the one before, too.
    begun.clear()
    board.budget = 10
    assert begun.wait(PATIENCE)
    board.stop()
    assert board.wait(PATIENCE)
    assert not any(board.doing.values())
    assert board.outcomes is None


def test_changed_models_are_refused(run: cahp.PruneResult, board: BudgetBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(run.bench, card=replace(run.bench.card, origin="of other weights"))
    monkeypatch.setattr("cahp.notebook.widget.open_bench", lambda *_, **__: other)
    board.budget = 8
    assert board.wait(PATIENCE)
    assert "is no longer the model of this run" in board.doing["error"]
    assert board.outcomes is None


def test_a_sweep_measures_every_budget_and_reports_know_them(
    run: cahp.PruneResult, board: BudgetBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Timing takes a process of its own, and is tested where it is done.
    monkeypatch.setattr(budget_sweep, "TIMED", 0)
    board.sweep()
    assert board.wait(PATIENCE)
    assert board.table.measured() == (10, 10)
    assert "10 of 10 budgets were measured" in run.report(tmp_path / "report.html").read_text(encoding="utf-8")


def test_without_a_board_it_is_a_picture_that_says_why(run: cahp.PruneResult, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = cahp.Settings(**{**vars(run.settings), "method": "random"})
    other = cahp.prune(settings, store=run.bench.resources.store, progress=False)
    assert "application/vnd.jupyter.widget-view+json" not in other._repr_mimebundle_()
    with pytest.raises(cahp.CahpError, match="by random"):
        _ = other.board
    monkeypatch.delitem(vars(run), "board", raising=False)
    monkeypatch.delitem(sys.modules, "cahp.notebook.widget")
    monkeypatch.setitem(sys.modules, "anywidget", None)
    assert run._repr_mimebundle_().keys() == {"text/plain", "text/html"}
    with pytest.raises(cahp.CahpError, match=r'pip install "cahp-explorer\[notebook\]"'):
        _ = run.board
