"""Threads that do jobs, and the queue before them: ranks first, and within a rank sessions take turns."""

from __future__ import annotations

import atexit
import threading
from collections import Counter
from time import monotonic
from typing import Any

from cahp.ui.session.job import Job, Place, Rank
from cahp.ui.session.turns import Turns

#: Seconds that the end of the process waits for the threads: reading a model cannot be interrupted.
_LEAVE_S = 30.0


class Worker:
    """Threads and their queue. With ``steps_aside``, work of a lower rank lets that of a higher one pass."""

    def __init__(self, name: str, *, threads: int = 1, steps_aside: bool = True) -> None:
        self._name, self._most, self._steps_aside = name, threads, steps_aside
        self._turns: dict[Rank, Turns[Job[Any]]] = {rank: Turns() for rank in Rank}
        self._working: list[Job[Any]] = []
        #: About how many seconds a job of each kind takes.
        self._usual: dict[str, float] = {}
        self._change = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._left = False

    def submit(self, job: Job[Any]) -> Job[Any]:
        """Let a job wait for its turn; the one of the same key that has not ended, if there is one."""
        with self._change:
            for other in self._unfinished():
                if other.key != job.key or other.shared != job.shared:
                    continue
                if other.is_of(job.session_id) or (job.shared and other.join(job.session_id)):
                    return other
            turns = self._turns[job.rank]
            if not any(other.rank == job.rank for other in self._unfinished()):
                turns.begin_anew()
            turns.add(job)
            if len(self._threads) < self._most:
                if not self._threads:
                    atexit.register(self._leave)
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._change.notify()
        return job

    def drop(self, job: Job[Any]) -> None:
        """Take a job that nobody works on out of the queue."""
        with self._change:
            self._turns[job.rank].remove(job)

    def of(self, session_id: str) -> list[Job[Any]]:
        """A session's jobs that have not ended."""
        with self._change:
            return [job for job in self._unfinished() if job.is_of(session_id)]

    def forget_gone(self) -> None:
        """Cancel what waits for sessions that are gone."""
        with self._change:
            waiting = [job for turns in self._turns.values() for job in turns]
        for job in waiting:
            if not job.wanted():
                job.cancel()

    def place(self, job: Job[Any]) -> Place | None:
        """Where a job stands in the queue, if it has not begun."""
        with self._change:
            line = self._turns[job.rank].order()
            if job not in line:
                return None
            # Lower ranks step aside.
            under_way = [other for other in self._working if other.rank <= job.rank and not other.ended]
            ahead = [other for rank in Rank if rank < job.rank for other in self._turns[rank]]
            ahead += line[: line.index(job)]
        waits = [other.seconds_left for other in (*under_way, *ahead)]
        said = [seconds for seconds in waits if seconds is not None]
        return Place(len(ahead) + 1, sum(said) / self._most if len(said) == len(waits) else None)

    def usual(self, kind: str) -> float | None:
        """About how long jobs of a kind took so far."""
        return self._usual.get(kind)

    def let_pass(self, rank: Rank) -> None:
        """Do all work of a higher rank that waits, on top of the job that called."""
        while self._steps_aside and (job := self._next(below=rank)) is not None:
            self._turn(job)

    def _unfinished(self) -> list[Job[Any]]:
        jobs = (*self._working, *(job for turns in self._turns.values() for job in turns))
        return [job for job in jobs if not job.ended]

    def _leave(self) -> None:
        """Stop before the interpreter does: a thread that is inside of PyTorch then takes the process down."""
        with self._change:
            waiting = self._unfinished()
            self._left = True
            self._change.notify_all()
        for job in waiting:
            job.cancel()
        until = monotonic() + _LEAVE_S
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))

    def _run(self) -> None:
        while True:
            with self._change:
                while (job := self._next()) is None and not self._left:
                    self._change.wait()
                if self._left or job is None:
                    return
            self._turn(job)

    def _next(self, below: int = len(Rank)) -> Job[Any] | None:
        with self._change:
            for rank, turns in self._turns.items():
                # One at a time: who has one in hand leaves the other threads to others. One that was cancelled and does
                # not return keeps its thread; a second such does not get another.
                mine = Counter(one.session_id for one in self._working if one.rank == rank)
                busy = {
                    one.session_id
                    for one in self._working
                    if (one.rank == rank and not one.ended) or mine[one.session_id] > 1
                }
                while rank < below and (job := turns.take(busy=busy)) is not None:
                    if job.wanted():
                        self._working.append(job)
                        return job
                    job.cancel()
        return None

    def _turn(self, job: Job[Any]) -> None:
        started = monotonic()
        more = job.advance()
        with self._change:
            self._working.remove(job)
            if more:
                # Behind those of others, so that two people's tables grow side by side.
                self._turns[job.rank].put_back(job)
            elif job.state == "done":
                took, before = monotonic() - started, self._usual.get(job.kind)
                self._usual[job.kind] = took if before is None else (took + before) / 2
            # Another thread may have left this session's next job to it.
            self._change.notify()
