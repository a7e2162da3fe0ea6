"""The queue of all jobs, and the threads that do them.

Streamlit runs each session in a thread of its own, and all share this process. Two models that compute at once slow
each other down more than waiting does, so one thread does all the work. Jobs have three ranks: a figure that a person
waits for, a run, and background work; a job of a lower rank lets higher ones pass between two batches. Within a rank,
sessions take turns, so that one session's many jobs delay no other session.

Jobs that mostly wait for a disk or the network, such as downloads, have a few threads of their own.
"""

from __future__ import annotations

import atexit
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from copy import copy
from time import monotonic
from typing import Any, TypeVar

from cahp.ui.session.job import Job, Place, Rank, relay
from cahp.values import Progress

__all__ = ["Job", "Place", "Rank", "cancel_abandoned", "relay", "submit", "unfinished"]

T = TypeVar("T")

#: Threads for jobs that wait for a disk or the network.
_IO_THREADS = 4
#: Seconds that the end of the process waits for the threads: loading a model cannot be interrupted.
_EXIT_S = 30.0
#: Sessions whose last turn is remembered, also while they have nothing in the queue.
_REMEMBERED = 1000


class Turns:
    """The queue of one rank: sessions take turns, the one served longest ago first, each with its oldest job."""

    def __init__(self) -> None:
        self._waiting: list[Job[Any]] = []
        #: The number of each session's last turn, the oldest first.
        self._served: dict[str, int] = {}
        self._turn = 0

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(self._waiting)

    def add(self, job: Job[Any]) -> None:
        """Add a new job, or one that was interrupted: as the oldest of its session it is next in it again."""
        self._waiting.append(job)

    def remove(self, job: Job[Any]) -> None:
        """Remove a job, if it is here."""
        if job in self._waiting:
            self._waiting.remove(job)

    def forget_served(self) -> None:
        """Forget earlier turns: the queue was empty, so no session is owed one."""
        self._served.clear()

    def take(self, *, busy: Collection[str] = ()) -> Job[Any] | None:
        """Remove and return the next job of a session that is not ``busy`` (None: there is none)."""
        ready = [job for job in self._waiting if job.session_id not in busy]
        job = min(ready, key=lambda job: (self._served.get(job.session_id, 0), job.id), default=None)
        if job is not None:
            self._waiting.remove(job)
            self._turn += 1
            self._served.pop(job.session_id, None)
            self._served[job.session_id] = self._turn
            if len(self._served) > _REMEMBERED:
                del self._served[next(iter(self._served))]
        return job

    def order(self) -> list[Job[Any]]:
        """Return all jobs in the order in which they are taken if none is added or removed and no session is busy."""
        rehearsal = copy(self)
        rehearsal._waiting, rehearsal._served = self._waiting.copy(), self._served.copy()
        return list(iter(rehearsal.take, None))


class Worker:
    """Threads and their queue. With ``preemptive``, a job lets jobs of a better rank pass between its batches."""

    def __init__(self, name: str, *, threads: int = 1, preemptive: bool = True) -> None:
        self._name, self._most, self._preemptive = name, threads, preemptive
        self._turns: dict[Rank, Turns] = {rank: Turns() for rank in Rank}
        self._working: list[Job[Any]] = []
        self.typical_seconds: dict[str, float] = {}
        self._change = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closing = False

    def submit(self, job: Job[Any]) -> Job[Any]:
        """Queue a job and return it; if an unfinished one has the same key, return that instead."""
        with self._change:
            for other in self._unfinished():
                if other.key != job.key or other.shared != job.shared:
                    continue
                if other.belongs_to(job.session_id) or (job.shared and other.join(job.session_id)):
                    return other
            turns = self._turns[job.rank]
            if not any(other.rank == job.rank for other in self._unfinished()):
                turns.forget_served()
            turns.add(job)
            if len(self._threads) < self._most:
                if not self._threads:
                    atexit.register(self._close)
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._change.notify()
        return job

    def drop(self, job: Job[Any]) -> None:
        """Remove a job that has not started from the queue."""
        with self._change:
            self._turns[job.rank].remove(job)

    def unfinished(self, session_id: str) -> list[Job[Any]]:
        """Return a session's jobs that have not ended."""
        with self._change:
            return [job for job in self._unfinished() if job.belongs_to(session_id)]

    def cancel_abandoned(self) -> None:
        """Cancel waiting jobs of closed sessions."""
        with self._change:
            waiting = [job for turns in self._turns.values() for job in turns]
        for job in waiting:
            if not job.is_wanted():
                job.cancel()

    def place(self, job: Job[Any]) -> Place | None:
        """Return a job's place in the queue, if it has not started."""
        with self._change:
            line = self._turns[job.rank].order()
            if job not in line:
                return None
            # Jobs of lower ranks let it pass.
            running = [other for other in self._working if other.rank <= job.rank and not other.ended]
            ahead = [other for rank in Rank if rank < job.rank for other in self._turns[rank]]
            ahead += line[: line.index(job)]
        waits = [other.seconds_left for other in (*running, *ahead)]
        known = [seconds for seconds in waits if seconds is not None]
        return Place(len(ahead) + 1, sum(known) / self._most if len(known) == len(waits) else None)

    def run_above(self, rank: Rank) -> None:
        """Run all waiting jobs of a better rank in the calling thread."""
        while self._preemptive and (job := self._take_next(below=rank)) is not None:
            self._advance(job)

    def _unfinished(self) -> list[Job[Any]]:
        jobs = (*self._working, *(job for turns in self._turns.values() for job in turns))
        return [job for job in jobs if not job.ended]

    def _close(self) -> None:
        """Stop before the interpreter does: a thread that is inside of PyTorch then takes the process down."""
        with self._change:
            unfinished = self._unfinished()
            self._closing = True
            self._change.notify_all()
        for job in unfinished:
            job.cancel()
        until = monotonic() + _EXIT_S
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))

    def _run(self) -> None:
        while True:
            with self._change:
                while (job := self._take_next()) is None and not self._closing:
                    self._change.wait()
                if self._closing or job is None:
                    return
            self._advance(job)

    def _take_next(self, below: int = len(Rank)) -> Job[Any] | None:
        with self._change:
            for rank, turns in self._turns.items():
                # A session has one thread at a time. A cancelled job that does not return keeps its thread, and a
                # session with two such jobs gets no other.
                working = Counter(job.session_id for job in self._working if job.rank == rank)
                busy = {
                    job.session_id
                    for job in self._working
                    if (job.rank == rank and not job.ended) or working[job.session_id] > 1
                }
                while rank < below and (job := turns.take(busy=busy)) is not None:
                    if job.is_wanted():
                        self._working.append(job)
                        return job
                    job.cancel()
        return None

    def _advance(self, job: Job[Any]) -> None:
        started = monotonic()
        more = job.advance()
        with self._change:
            self._working.remove(job)
            if more:
                # Behind the jobs of other sessions, so that two sessions' tables grow side by side.
                self._turns[job.rank].add(job)
            elif job.state == "done":
                seconds = monotonic() - started
                self.typical_seconds[job.kind] = (seconds + self.typical_seconds.get(job.kind, seconds)) / 2
            # Another thread may have skipped this session's next job.
            self._change.notify()


_worker = Worker("cahp-worker")
_io_worker = Worker("cahp-io", threads=_IO_THREADS, preemptive=False)


def submit(
    session_id: str,
    key: str,
    work: Callable[[Progress], T] | Callable[[Progress], Generator[None, None, T]],
    *,
    rank: Rank = Rank.RUN,
    expected: float | None = None,
    headline: str | None = None,
    shared: bool = False,
    io: bool = False,
) -> Job[T]:
    """Queue ``work`` and return its job; an unfinished job with the same key of the same session is returned instead.

    Args:
        session_id: The session that waits for it.
        key: Identifies the work; its first word, up to "-", is its kind.
        work: Gets a progress callback that raises ``Cancelled`` when it should stop. A generator is interrupted at
            every ``yield``, and jobs of other sessions take turns with it.
        rank: Its priority.
        expected: Seconds that it may take.
        headline: The only stage whose progress is shown (None: all stages).
        shared: Whether all sessions share one job with this key, which goes on as long as one of them is open.
        io: Whether it waits for the network or a disk: such jobs have threads of their own, one job per session at a
            time.
    """
    worker = _io_worker if io else _worker
    return worker.submit(
        Job(session_id, key, work, rank=rank, expected=expected, headline=headline, shared=shared, queue=worker)
    )


def cancel_abandoned() -> None:
    """Cancel waiting jobs of closed sessions, so that their texts are freed."""
    for worker in (_worker, _io_worker):
        worker.cancel_abandoned()


def unfinished(session_id: str) -> list[Job[Any]]:
    """Return a session's jobs that are queued or running."""
    return _worker.unfinished(session_id) + _io_worker.unfinished(session_id)
