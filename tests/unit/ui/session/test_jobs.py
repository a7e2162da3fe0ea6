import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from cahp.run.resources import PREPARATIONS
from cahp.ui.session import jobs
from cahp.values import DataError, Progress

SESSION, OTHER = "one person", "another person"
PATIENCE = 10.0


def holding(gate: threading.Event) -> Callable[[Progress], str]:
    def work(progress: Progress) -> str:
        done = 0
        while not gate.wait(0.01):
            progress("evaluation", done, done + 2)
            done += 1
        return "held"

    return work


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def start(session: str, name: str, work: Callable[[Progress], Any], **options: Any) -> jobs.Job[Any]:
    """Submit work, and wait until it runs."""
    job = jobs.submit(session, name, work, **options)
    until(lambda: job.state == "running")
    return job


def test_a_person_s_error_is_a_sentence_and_any_other_names_its_kind(caplog: pytest.LogCaptureFixture) -> None:
    # Put together here, as a log quotes lines of code.
    typed = "-".join(("a", "secret"))

    def refuse(_: Progress) -> None:
        raise DataError("the file is empty; give another")

    def break_down(_: Progress) -> None:
        raise KeyError(typed)

    refused = jobs.submit(SESSION, "refuse", refuse)
    broken = jobs.submit(SESSION, typed, break_down)
    assert all(job.wait(PATIENCE) for job in (refused, broken))
    assert (refused.state, refused.error) == ("failed", "the file is empty; give another")
    assert broken.state == "failed"
    for words in (broken.error, caplog.text):
        assert "KeyError" in words
        assert typed not in words


def test_the_same_work_of_a_session_is_not_queued_twice_but_that_of_two_sessions_is(gate: threading.Event) -> None:
    first = jobs.submit(SESSION, "run", holding(gate))
    assert jobs.submit(SESSION, "run", holding(gate)) is first
    assert jobs.submit(OTHER, "run", holding(gate)) is not first
    gate.set()
    until(lambda: not jobs.unfinished(SESSION) and not jobs.unfinished(OTHER))
    again = jobs.submit(SESSION, "run", holding(gate))
    assert again is not first
    assert again.wait(PATIENCE)


def test_work_that_reports_nothing_is_left_at_once_and_what_it_finds_is_dropped(gate: threading.Event) -> None:
    found: list[str] = []

    def reading(_: Progress) -> str:
        gate.wait(PATIENCE)
        found.append("a model")
        return "a model"

    job = start(SESSION, "read", reading)
    job.cancel()
    assert job.ended
    assert jobs.unfinished(SESSION) == []
    again = jobs.submit(SESSION, "read", lambda _: "another")
    assert again is not job
    gate.set()
    assert again.wait(PATIENCE)
    assert (found, job.state, job.result, again.result) == (["a model"], "cancelled", None, "another")


@pytest.mark.parametrize("stage", sorted(PREPARATIONS))
def test_nothing_steps_in_while_a_model_is_brought_into_memory(gate: threading.Event, stage: str) -> None:
    order: list[str] = []

    def reading(progress: Progress) -> None:
        gate.wait(PATIENCE)
        progress(stage, 0, 1)
        order.append("read")

    start(SESSION, "run", reading)
    quick = jobs.submit(OTHER, "figure", lambda _: order.append("figure"), rank=jobs.Rank.QUICK)
    gate.set()
    assert quick.wait(PATIENCE)
    assert order == ["read", "figure"]


def test_what_passes_a_job_that_computes_without_gradients_has_its_own() -> None:
    import torch

    passing = threading.Event()

    def choose(progress: Progress) -> bool:
        with torch.inference_mode():
            progress("scores", 0, 1)
            passing.set()
            until(lambda: quick is not None)
            progress("scores", 1, 1)
            return torch.is_inference_mode_enabled()

    def attribute(_: Progress) -> float:
        gate = torch.ones(1, requires_grad=True)
        (slope,) = torch.autograd.grad((2 * gate).sum(), gate)
        return float(slope)

    quick: jobs.Job[float] | None = None
    below = start(SESSION, "choice", choose, rank=jobs.Rank.RUN)
    assert passing.wait(PATIENCE)
    quick = jobs.submit(OTHER, "attribution", attribute, rank=jobs.Rank.QUICK)
    assert quick.wait(PATIENCE)
    assert (quick.result, quick.error) == (2.0, None)
    assert below.wait(PATIENCE)
    assert below.result is True


def steps(order: list[str], name: str, gate: threading.Event) -> Callable[[Progress], Generator[None, None, str]]:
    """A sweep of three steps that write ``name``, the second of which waits for the gate."""

    def work(progress: Progress) -> Generator[None, None, str]:
        for step in range(3):
            progress("table", step, 3)
            order.append(f"{name} {step}")
            if step == 1:
                gate.wait(PATIENCE)
            yield
        return name

    return work


def test_what_a_person_asked_for_goes_before_a_sweep_and_minutes_after_figures_and_runs(gate: threading.Event) -> None:
    order: list[str] = []
    table = jobs.submit(SESSION, "table", steps(order, "table", gate), rank=jobs.Rank.BACKGROUND)
    until(lambda: "table 1" in order)
    asked = [
        jobs.submit(SESSION, rank.name, lambda _, rank=rank: order.append(rank.name), rank=rank)
        for rank in (jobs.Rank.LONG, jobs.Rank.RUN, jobs.Rank.QUICK)
    ]
    gate.set()
    assert table.wait(PATIENCE)
    assert all(job.wait(PATIENCE) for job in asked)
    assert order == ["table 0", "table 1", "QUICK", "RUN", "LONG", "table 2"]


def test_the_time_of_a_job_that_let_pass_is_not_counted(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    now, begun = [100.0], threading.Event()
    monkeypatch.setattr(jobs, "monotonic", lambda: now[0])

    def work(progress: Progress) -> None:
        progress("table", 0, 10)
        begun.set()
        gate.wait(PATIENCE)
        now[0] += 6.0
        # The other job runs here.
        progress("table", 4, 10)
        seen.append((job.paused, job.seconds_left))

    def other(_: Progress) -> None:
        seen.append((job.paused, None))
        now[0] += 50.0

    seen: list[tuple[bool, float | None]] = []
    job = jobs.submit(SESSION, "table", work, rank=jobs.Rank.BACKGROUND)
    assert begun.wait(PATIENCE)
    passing = jobs.submit(SESSION, "distil", other, rank=jobs.Rank.LONG)
    gate.set()
    assert all(job.wait(PATIENCE) for job in (passing, job))
    # Four of ten steps took 6 s, so six take 9 s more.
    assert seen == [(True, None), (False, pytest.approx(9.0))]


def test_a_download_is_done_aside_and_keeps_nobody_waiting(gate: threading.Event) -> None:
    download = start(SESSION, "open", lambda _: gate.wait(PATIENCE), aside=True)
    assert jobs.unfinished(SESSION) == [download]
    assert jobs.submit(SESSION, "open", lambda _: False, aside=True) is download
    assert jobs.submit(OTHER, "figure", lambda _: "here").wait(PATIENCE)
    assert jobs.submit(OTHER, "open", lambda _: "theirs", aside=True).wait(PATIENCE)
    assert not download.ended
    gate.set()
    assert download.wait(PATIENCE)
    assert download.result is True


def test_a_quick_job_lets_all_that_a_person_waits_for_pass_while_it_refits(gate: threading.Event) -> None:
    order: list[str] = []

    def refitting(progress: Progress) -> None:
        while not gate.wait(0.01):
            progress("refit", 0, 2)
        order.append("own text")

    # That it interrupted a sweep changes nothing.
    table = start(SESSION, "table", holding(gate), rank=jobs.Rank.BACKGROUND)
    own = start(SESSION, "own text", refitting, rank=jobs.Rank.QUICK)
    for who, rank in ((OTHER, jobs.Rank.RUN), (SESSION, jobs.Rank.QUICK), (OTHER, jobs.Rank.QUICK)):
        passing = jobs.submit(who, f"{rank}", lambda _, rank=rank: order.append(rank.name), rank=rank)
        assert passing.wait(PATIENCE)
    gate.set()
    assert own.wait(PATIENCE)
    assert table.wait(PATIENCE)
    assert order == ["RUN", "QUICK", "QUICK", "own text"]


def test_runs_that_let_each_other_pass_do_not_pile_up(gate: threading.Event) -> None:
    order: list[int] = []

    def work(number: int) -> Callable[[Progress], None]:
        def run(progress: Progress) -> None:
            if number == 0:
                gate.wait(PATIENCE)
            progress("refit", 0, 1)
            order.append(number)

        return run

    people = [jobs.submit(f"person {number}", "run", work(number), rank=jobs.Rank.RUN) for number in range(5)]
    gate.set()
    assert all(job.wait(PATIENCE) for job in people)
    # The first one lets the others pass, and these do not pass each other.
    assert order == [1, 2, 3, 4, 0]


def test_a_time_left_is_told_in_every_stage_and_never_rises_above_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(jobs, "monotonic", lambda: now[0])
    told: list[float | None] = []

    def work(progress: Progress) -> None:
        stages = (("teacher", 0, 0), ("teacher", 5, 10), ("teacher", 10, 10), ("distill", 0, 0), ("distill", 1, 9))
        for stage, done, seconds in stages:
            now[0] += seconds
            progress(stage, done, 10)
            told.append(job.seconds_left)

    job = jobs.Job(jobs._worker, SESSION, "work", work)
    job.advance()
    # One step of distilling took 9 s, so nine take 81 s; 10 s were told first.
    assert told == [None, 10.0, 0.0, None, 10.0]


def test_a_time_left_that_was_expected_never_rises(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(jobs, "monotonic", lambda: now[0])
    told: list[float | None] = []

    def work(progress: Progress) -> None:
        for done, seconds in ((0, 10), (1, 8), (5, 2), (10, 5)):
            now[0] += seconds
            progress("refit", done, 10)
            told.append(job.seconds_left)

    job = jobs.Job(jobs._worker, SESSION, "work", work, expected=30.0)
    job.advance()
    # The first of ten steps took 8 s, but nine more in 72 s were not expected.
    assert told == [20.0, 20.0, 10.0, 5.0]


def test_what_earlier_stages_took_says_nothing_of_those_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(jobs, "monotonic", lambda: now[0])
    told: list[float | None] = []

    def work(progress: Progress) -> None:
        for stage, seconds in (("load", 0), ("features", 2), ("refit", 1), ("latency", 14), ("evaluation", 3)):
            now[0] += seconds
            progress(stage, 0, 1)
            told.append(job.seconds_left)
            shares.append(job.share)

    shares: list[float] = []
    stages = {"load": 7.0, "refit": 10.0, "latency": 5.0, "evaluation": 8.0}
    job = jobs.Job(jobs._worker, SESSION, "work", work, expected=30.0, stages=stages)
    job.advance()
    # Loading took 3 s instead of 7, the refit 14 s instead of 10, and latency 3 s instead of 5.
    assert told == pytest.approx([30.0, 28.0, 23.0, 13 * 14 / 10, 8 * 17 / 15])
    assert shares == sorted(shares)
