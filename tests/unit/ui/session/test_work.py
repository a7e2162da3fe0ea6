from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from clusters import on_a_line, outcomes

from cahp.board.budget_sweep import BudgetTable
from cahp.outcomes import Outcomes
from cahp.recoveries import DistillReport
from cahp.run.bench import Bench
from cahp.run.recoveries import RecoveryStep
from cahp.run.settings import Settings
from cahp.tasks.texts import Texts
from cahp.ui.session import work
from cahp.ui.session.results import Results
from cahp.ui.session.work import (
    DISTIL,
    FIGURE,
    FLIPS,
    WARM,
    BoardState,
    Kind,
    Work,
)
from cahp.values import HeadMask, Progress

PATIENCE = 10.0
MASK, OTHER = HeadMask.of([0, 5], 2, 3), HeadMask.of([1, 5], 2, 3)
#: A bench of which only the texts are known, by their digests.
TEXTS = cast(
    Bench,
    SimpleNamespace(
        card=SimpleNamespace(sha256="a model"),
        calibration=SimpleNamespace(sha256="chose"),
        evaluation=SimpleNamespace(sha256="evaluated"),
        settings=Settings(),
    ),
)


@pytest.fixture
def mine() -> Iterator[Work]:
    made = Work("one person")
    yield made
    made.close()


def waiting(gate: threading.Event, **options: Any) -> Kind[str, str]:
    """A kind of job that repeats its subject when the gate opens."""

    def wait(subject: str, progress: Progress) -> str:
        while not gate.wait(0.01):
            progress("evaluation", 0, 1)
        return subject

    return Kind(wait, lambda subject: f"wait-{subject}", **options)


def on_board(mask: HeadMask = MASK, **more: Any) -> BoardState:
    return BoardState(TEXTS, Results(), mask, **more)


# --- which job is whose


def test_the_job_of_a_kind_is_the_one_that_was_asked_for_last(mine: Work, gate: threading.Event) -> None:
    kind = waiting(gate)
    assert mine.job(kind) is None
    first = mine.start(kind, "a")
    assert mine.start(kind, "a") is first
    second = mine.start(kind, "b")
    assert mine.job(kind) is second
    assert mine.job(kind, "b") is second
    assert mine.job(kind, "a") is None
    gate.set()
    assert first.wait(PATIENCE)
    assert second.wait(PATIENCE)
    assert (first.result, second.result) == ("a", "b")


def test_nobody_waits_for_an_older_job_of_a_kind_whose_newest_counts(mine: Work, gate: threading.Event) -> None:
    kind = waiting(gate, newest=True)
    first = mine.start(kind, "a")
    assert mine.start(kind, "a") is first
    assert first.state != "cancelled"
    mine.start(kind, "b")
    assert first.state == "cancelled"


def test_pages_wait_for_awaited_kinds_only(mine: Work, gate: threading.Event) -> None:
    mine.start(waiting(gate, awaited=False), "behind the scenes")
    assert mine.pulse is None
    job = mine.start(waiting(gate), "on the page")
    often = mine.pulse
    assert often is not None
    # Drawing the page would slow the loading of a model.
    job.stage = "load"
    assert mine.pulse is not None
    assert mine.pulse > often
    gate.set()
    assert job.wait(PATIENCE)
    assert mine.pulse is None


def test_one_person_s_work_is_not_another_s(mine: Work, gate: threading.Event) -> None:
    theirs, kind = Work("another person"), waiting(gate)
    job, other = mine.start(kind, "a"), theirs.start(kind, "a")
    assert other is not job
    mine.close()
    assert job.state == "cancelled"
    assert not other.ended
    theirs.close()


# --- the kinds


@pytest.mark.parametrize("kind", [FIGURE, FLIPS])
def test_a_figure_is_that_of_a_mask_a_recovery_and_texts(kind: Kind[BoardState, Any]) -> None:
    keys = [kind.key(on_board(mask, recover=how)) for mask in (MASK, OTHER) for how in ("none", "refit")]
    for name, other in (("evaluation", "other texts"), ("card", "a model that reads fewer tokens")):
        others = SimpleNamespace(**{**vars(TEXTS), name: SimpleNamespace(sha256=other)})
        keys.append(kind.key(BoardState(cast(Bench, others), Results(), MASK)))
    assert len(set(keys)) == 6
    assert kind.key(on_board()) == keys[0]


def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every mask is right half of the time; remembers which were asked for."""
    asked: list[str] = []

    def fake(bench: Bench, mask: HeadMask, *, recover: str, on_part: Callable[[Outcomes], None]) -> Any:
        on_part(outcomes(0.4, 10))
        asked.append(f"{mask.sha256}-{recover}")
        return outcomes(0.5)

    monkeypatch.setattr(work, "evaluate_mask", fake)
    return asked


@pytest.mark.parametrize("recover", ["none", "refit"])
def test_a_figure_ends_up_in_the_results_under_its_mask(
    mine: Work, monkeypatch: pytest.MonkeyPatch, recover: Any
) -> None:
    asked, subject = measured(monkeypatch), on_board(recover=recover)
    job = mine.start(FIGURE, subject)
    assert job.wait(PATIENCE)
    assert job.result == outcomes(0.5)
    assert asked == [f"{MASK.sha256}-{recover}"]
    assert subject.results.outcomes(MASK, recover) == outcomes(0.5)
    assert not subject.results.glimpses


def test_a_figure_of_a_budget_s_own_mask_is_a_row_of_its_table_too(mine: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch)
    results, told = Results(), list[tuple[HeadMask, Any]]()
    table = BudgetTable(on_a_line().selections(Settings()), listener=lambda mask, found: told.append((mask, found)))
    own = table.selection(3).mask
    by_hand = HeadMask.of([0, 2, 4], 2, 3)
    for mask in (own, by_hand):
        assert mine.start(FIGURE, BoardState(TEXTS, results, mask, table=table)).wait(PATIENCE)
    assert table.row(3).outcomes == outcomes(0.5)
    assert told == [(own, outcomes(0.5))]
    assert results.outcomes(by_hand) == outcomes(0.5)


STEPS = (RecoveryStep("pruned", None, None, None, outcomes(0.3), None),)
REPORT = DistillReport(False, "no more of them: the refit stays", 40, False, 10, 0.8, 0.7, ())


class Distilling:
    """A bench whose only recovery is a distillation that counts how often it trains."""

    def __init__(self) -> None:
        self.trained, self.measurements, self.recoveries = 0, self, self
        self.card = TEXTS.card
        self.calibration, self.evaluation, self.settings = TEXTS.calibration, TEXTS.evaluation, Settings()
        self.known: Any = None

    def read_distilled(self, mask: HeadMask) -> Any:
        return self.known

    def distill(self, mask: HeadMask) -> Any:
        self.trained += 1
        self.known = SimpleNamespace(distill=REPORT)
        return self.known


def test_only_an_explicit_request_distils_and_its_result_is_cached(mine: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "measure_recovered", lambda bench, mask, recovered: outcomes(0.6))
    monkeypatch.setattr(work, "measure_steps", lambda measurements, texts, mask, made, *, seed: STEPS)
    monkeypatch.setattr(work, "recovery_seconds", lambda bench, recover: 90.0)
    bench, table = Distilling(), BudgetTable(on_a_line().selections(Settings()), recover="distill")
    mask = table.selection(3).mask
    subject = BoardState(cast(Bench, bench), Results(), mask, "distill", table)
    look = mine.start(FIGURE, subject)
    assert look.wait(PATIENCE)
    assert (look.state, look.result, bench.trained) == ("done", None, 0)
    assert table.row(3).values == {}
    made = mine.start(DISTIL, subject)
    assert made.wait(PATIENCE)
    assert (made.result, bench.trained) == (outcomes(0.6), 1)
    assert table.row(3).outcomes == outcomes(0.6)
    assert subject.results.distilled[mask.sha256] == (REPORT, STEPS)
    # Another session, whose results are its own.
    later = BoardState(cast(Bench, bench), Results(), mask, "distill")
    assert mine.start(FIGURE, later).wait(PATIENCE)
    assert later.results.outcomes(mask, "distill") == outcomes(0.6)
    assert later.results.distilled[mask.sha256] == (REPORT, STEPS)
    assert bench.trained == 1


def test_a_model_is_read_ahead_but_not_while_pages_are_drawn(mine: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Opened:
        card = SimpleNamespace(sha256="a model")
        settings = SimpleNamespace(device="cpu")
        evaluation = Texts((), None, np.zeros(0, dtype=np.int64), ("a", "b"))

        @property
        def full(self) -> list[str]:
            read.append("full")
            return []

        model = SimpleNamespace(layers=1)
        measurements = SimpleNamespace(prepare=lambda _: read.append("compared with"))
        recoveries = SimpleNamespace(no_refit=None, prepare_quick_refits=lambda: read.append("quick refits"))

    quiet = [False]
    monkeypatch.setattr(work, "is_quiet", lambda: quiet[0])
    job = mine.start(WARM, cast(Bench, Opened()))
    assert not job.wait(0.3)
    assert read == []
    quiet[0] = True
    assert job.wait(PATIENCE)
    assert job.state == "done"
    assert read == ["full", "compared with", "quick refits"]
