from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator

import pytest

pytest.importorskip("streamlit")

from cahp.ui.session import jobs
from cahp.values import DataError, Progress

SESSION, OTHER = "one person", "another person"
PATIENCE = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Work that waits for it holds the worker; it is opened at the end whatever happens."""
    event = threading.Event()
    yield event
    event.set()


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


def test_a_job_brings_its_result() -> None:
    job = jobs.submit(SESSION, "sum", lambda _: 2 + 3)
    assert job.wait(PATIENCE)
    assert (job.state, job.result, job.error) == ("done", 5, None)


def test_an_error_a_person_can_do_something_about_is_a_sentence_and_any_other_names_only_its_kind() -> None:
    def refuse(_: Progress) -> None:
        raise DataError("the file is empty; give another")

    def break_down(_: Progress) -> None:
        raise KeyError("something that somebody typed")

    refused, broken = jobs.submit(SESSION, "refuse", refuse), jobs.submit(SESSION, "break", break_down)
    assert refused.wait(PATIENCE)
    assert broken.wait(PATIENCE)
    assert (refused.state, refused.error) == ("failed", "the file is empty; give another")
    assert broken.state == "failed"
    assert broken.error is not None
    assert "KeyError" in broken.error
    assert "typed" not in broken.error


def test_what_somebody_typed_does_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    typed = "-".join(("a", "secret"))

    def break_down(_: Progress) -> None:
        raise ValueError(typed)

    assert jobs.submit(SESSION, typed, break_down).wait(PATIENCE)
    assert "ValueError" in caplog.text
    assert typed not in caplog.text


def test_the_same_work_of_a_session_is_not_queued_twice_but_that_of_two_sessions_is(gate: threading.Event) -> None:
    first = jobs.submit(SESSION, "run", holding(gate))
    assert jobs.submit(SESSION, "run", holding(gate)) is first
    assert jobs.submit(OTHER, "run", holding(gate)) is not first
    gate.set()
    until(lambda: not jobs.unfinished(SESSION) and not jobs.unfinished(OTHER))
    again = jobs.submit(SESSION, "run", holding(gate))
    assert again is not first
    assert again.wait(PATIENCE)


def test_a_running_job_is_cancelled_within_a_second() -> None:
    never = threading.Event()
    job = jobs.submit(SESSION, "long", holding(never))
    until(lambda: job.state == "running")
    start = time.monotonic()
    job.cancel()
    assert job.wait(1.0)
    assert job.state == "cancelled"
    assert time.monotonic() - start < 1.0


def test_work_that_reports_nothing_is_left_at_once_and_what_it_finds_is_dropped(gate: threading.Event) -> None:
    found: list[str] = []

    def reading(_: Progress) -> str:
        gate.wait(PATIENCE)
        found.append("a model")
        return "a model"

    job = jobs.submit(SESSION, "read", reading)
    until(lambda: job.state == "running")
    job.cancel()
    assert job.ended
    assert jobs.unfinished(SESSION) == []
    again = jobs.submit(SESSION, "read", lambda _: "another")
    assert again is not job
    gate.set()
    assert again.wait(PATIENCE)
    assert (found, job.state, job.result, again.result) == (["a model"], "cancelled", None, "another")


def test_a_cancelled_generator_is_not_resumed(gate: threading.Event) -> None:
    steps: list[int] = []

    def work(_: Progress) -> Generator[None, None, None]:
        for step in range(3):
            steps.append(step)
            gate.wait(PATIENCE)
            yield

    job = jobs.submit(SESSION, "table", work)
    until(lambda: steps == [0])
    job.cancel()
    gate.set()
    assert jobs.submit(SESSION, "after", lambda _: None, rank=jobs.Rank.BACKGROUND).wait(PATIENCE)
    assert steps == [0]
    assert job.state == "cancelled"


def test_a_queued_job_is_cancelled_at_once_and_never_begins(gate: threading.Event) -> None:
    jobs.submit(SESSION, "in front", holding(gate))
    begun: list[int] = []
    job = jobs.submit(SESSION, "behind", lambda _: begun.append(1))
    job.cancel()
    assert job.state == "cancelled"
    gate.set()
    until(lambda: not jobs.unfinished(SESSION))
    assert begun == []


def test_what_a_person_waits_for_is_done_in_the_middle_of_a_run(gate: threading.Event) -> None:
    run = jobs.submit(SESSION, "run", holding(gate))
    until(lambda: run.state == "running")
    quick = jobs.submit(OTHER, "figure", lambda _: "here", rank=jobs.Rank.QUICK)
    assert quick.wait(PATIENCE)
    assert (quick.result, run.state) == ("here", "running")
    gate.set()
    assert run.wait(PATIENCE)
    assert run.result == "held"


def test_nothing_steps_in_while_a_model_is_read(gate: threading.Event) -> None:
    order: list[str] = []

    def reading(progress: Progress) -> None:
        gate.wait(PATIENCE)
        progress("load", 0, 1)
        order.append("read")

    run = jobs.submit(SESSION, "run", reading)
    until(lambda: run.state == "running")
    quick = jobs.submit(OTHER, "figure", lambda _: order.append("figure"), rank=jobs.Rank.QUICK)
    gate.set()
    assert quick.wait(PATIENCE)
    assert order == ["read", "figure"]


def test_two_people_s_background_work_takes_turns(gate: threading.Event) -> None:
    order: list[str] = []

    def steps(name: str) -> Callable[[Progress], Generator[None, None, str]]:
        def work(_: Progress) -> Generator[None, None, str]:
            for _step in range(3):
                order.append(name)
                yield
            return name

        return work

    jobs.submit(SESSION, "in front", holding(gate))
    ours = jobs.submit(SESSION, "table", steps("ours"), rank=jobs.Rank.BACKGROUND)
    theirs = jobs.submit(OTHER, "table", steps("theirs"), rank=jobs.Rank.BACKGROUND)
    gate.set()
    assert ours.wait(PATIENCE)
    assert theirs.wait(PATIENCE)
    assert order == ["ours", "theirs"] * 3
    assert (ours.result, theirs.result) == ("ours", "theirs")


def test_resources_that_outlive_their_jobs_report_to_whichever_is_at_work() -> None:
    job = jobs.submit(SESSION, "evaluate", lambda _: jobs.relay("evaluation", 3, 4))
    assert job.wait(PATIENCE)
    assert (job.stage, job.done, job.total) == ("evaluation", 3, 4)
    # Outside of any job it reports to nobody.
    jobs.relay("evaluation", 1, 1)


def test_with_a_headline_only_that_stage_is_shown(gate: threading.Event) -> None:
    def work(progress: Progress) -> None:
        progress("table", 3, 67)
        progress("evaluation", 100, 311)

    job = jobs.submit(SESSION, "table", work, headline="table")
    assert job.wait(PATIENCE)
    assert (job.stage, job.done, job.total) == ("table", 3, 67)
