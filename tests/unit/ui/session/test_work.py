import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cahp.api import bundled, preflight
from cahp.run.bench import Bench
from cahp.run.settings import Settings
from cahp.tasks.texts import Texts
from cahp.ui.session import work
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job, Worker
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN, WARM, Kind, Work, recovery_seconds
from cahp.values import Progress

PATIENCE = 60.0
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


def test_nobody_waits_for_an_older_job_of_a_kind_whose_newest_counts(mine: Work, gate: threading.Event) -> None:
    kind = waiting(gate, newest=True)
    first = mine.start(kind, "a")
    assert mine.start(kind, "a") is first
    assert first.state != "cancelled"
    mine.start(kind, "b")
    assert first.state == "cancelled"


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
        recoveries = SimpleNamespace(prepare=read.append)

    quiet = [False]
    monkeypatch.setattr(work, "is_quiet", lambda: quiet[0])
    job = mine.start(WARM, cast(Bench, Opened()))
    assert not job.wait(0.3)
    assert read == []
    quiet[0] = True
    assert job.wait(PATIENCE)
    assert job.state == "done"
    assert read == ["full", "compared with", "quick-refit", "quick-bypass"]


class Queue(Worker):
    """A queue without threads."""

    def __init__(self, sessions: str = "") -> None:
        super().__init__()
        for session in sessions:
            self.add(session)

    def add(self, session: str) -> Job[Any]:
        job: Job[Any] = Job(self, session, "work", lambda _: None)
        self.put(job)
        return job

    def put(self, job: Job[Any]) -> None:
        with self._change:
            self._enter(job)

    def serve(self) -> str:
        """Take the next job and end it; return its session (empty: there is none)."""
        job = self._take()
        if job is None:
            return ""
        job.cancel()
        self._working.remove(job)
        return job.session_id


def serve_all(queue: Queue) -> str:
    return "".join(iter(queue.serve, ""))


@pytest.mark.parametrize(("came", "goes"), [("", ""), ("aaa", "aaa"), ("aaab", "abaa"), ("aaabbc", "abcaba")])
def test_sessions_take_turns(came: str, goes: str) -> None:
    assert serve_all(Queue(came)) == goes


@given(st.text("abcd", max_size=12), st.integers(0, 6))
def test_the_places_that_are_told_are_the_order_that_comes(came: str, before: int) -> None:
    queue = Queue(came)
    for _ in range(before):
        queue.serve()
    places = {job.place: job.session_id for job in queue.unfinished() if job.place is not None}
    assert "".join(places[number] for number in sorted(places)) == serve_all(queue)


@given(st.text("abcd", min_size=1, max_size=12))
def test_nobody_waits_for_two_turns_of_another(came: str) -> None:
    goes = serve_all(Queue(came))
    for session in set(came):
        first = goes.index(session)
        assert all(goes[:first].count(other) <= 1 for other in set(came))


#: Seconds before the end in which rounding and polling are a large part of what is left.
LAST_S = 5.0


def bench(settings: Settings) -> Bench:
    return Source.open(settings).bench


def test_a_timed_recovery_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "estimate_seconds", lambda card, *, tokens: 1000.0)
    monkeypatch.setattr(work, "estimate_seconds", lambda card, *, tokens: 1000.0)
    monkeypatch.setattr(work, "is_loaded", lambda card, *, device: True)
    limited = bench(replace(bundled.RUNS["minilm-bbc"], recover="auto", recover_time="90s"))
    # A refit, the full model's predictions, a training of 90 s, and the evaluation.
    assert recovery_seconds(limited, "auto") == 1000 + 1000 + 90 + 1000


@pytest.mark.nightly
@pytest.mark.slow
def test_the_time_left_of_a_run_is_within_a_factor_of_one_and_a_half_of_the_truth() -> None:
    explorer = Explorer("one person", Source.open(bundled.RUNS["minilm-bbc"]))
    explorer.work.start(RUN, explorer.bench)
    job = explorer.work.job(RUN)
    told = []
    while not job.ended:
        told.append((time.monotonic(), job.seconds_left))
        time.sleep(0.5)
    end = time.monotonic()
    assert (job.state, job.error) == ("done", None)
    ratios = [left / (end - now) for now, left in told if left is not None and end - now > LAST_S]
    assert ratios
    print(f"a run of {end - told[0][0]:.0f} s: announced {min(ratios):.2f} to {max(ratios):.2f} of the true time left")
    assert min(ratios) > 1 / 1.5
    assert max(ratios) < 1.5
