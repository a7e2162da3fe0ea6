"""Long work outside the sessions: one worker thread, a queue in three ranks, progress, and a way out.

Streamlit's sessions each run in a thread of their own and share this process. Two models computing at once would slow
each other down more than waiting does, so one thread does all the work. What a person waits for goes before a run, a
run before what is filled in behind the scenes; the lower rank steps aside between two batches. Within a rank, sessions
take turns: who asks for much waits for it longer, and others do not.

What computes little and cannot say how far it is, downloads and opening a model and data, is done aside, by a few
threads of their own.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic
from typing import Any, Generic, Literal, TypeVar

from streamlit.runtime import Runtime

from cahp.ui.session.turns import Turns
from cahp.values import CahpError, Cancelled, Progress, silent

T = TypeVar("T")
State = Literal["queued", "running", "done", "failed", "cancelled"]

#: Seconds after which a session that nobody is connected to has ended.
_PATIENCE_S = 60.0

#: Sessions whose last sign of life is remembered.
_REMEMBERED = 1000

#: Threads for what is done aside: downloads mostly wait for the network.
_ASIDE = 4

#: Seconds that the end of the process waits for the worker: reading a model cannot be interrupted.
_LEAVE_S = 30.0


class Rank(IntEnum):
    """Who goes first."""

    QUICK = 0
    RUN = 1
    BACKGROUND = 2


@dataclass(frozen=True)
class Place:
    """Where a job stands in the queue: ``number`` 1 is the next; ``seconds`` until it begins, if one can say."""

    number: int
    seconds: float | None


class Job(Generic[T]):
    """Some work of one session: where it stands, and what came of it."""

    _ids = itertools.count(1)

    def __init__(
        self,
        session_id: str,
        key: str,
        work: Callable[[Progress], Any],
        *,
        rank: Rank,
        expected: float | None,
        headline: str | None,
        worker: _Worker,
    ):
        self.id = next(self._ids)
        self.session_id, self.key, self.rank = session_id, key, rank
        self.state: State = "queued"
        self.stage, self.done, self.total = "", 0, 0
        self.result: T | None = None
        self.error: str | None = None
        self._work, self._expected, self._headline = work, expected, headline
        self._worker = worker
        self._steps: Generator[None, None, T] | None = None
        self._started: float | None = None
        self._turned, self._base = monotonic(), 0
        self._stop, self._end, self._ending = threading.Event(), threading.Event(), threading.Lock()

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.key!r}, {self.state})"

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self._end.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the end; whether it came."""
        return self._end.wait(seconds)

    def cancel(self) -> None:
        """End at once for whoever waits; work that has begun stops at its next batch, and what it finds is dropped."""
        self._stop.set()
        self._worker.drop(self)
        # Reading a model reports nothing for seconds: nobody who wants to leave should wait for it.
        self._finish("cancelled")

    @property
    def kind(self) -> str:
        """The first word of its key: jobs of a kind take about as long."""
        return self.key.partition("-")[0]

    @property
    def place(self) -> Place | None:
        """Where it stands in the queue, or None once it has begun."""
        return self._worker.place(self)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace of the current stage, or None while there is too little to go by."""
        if self._started is None:
            return self._expected if self._expected is not None else self._worker.usual(self.kind)
        rest = [] if self._expected is None else [self._expected - (monotonic() - self._started)]
        spent = monotonic() - self._turned
        if self.done > self._base and spent > 0.5:
            rest.append(spent * (self.total - self.done) / (self.done - self._base))
        return max(0.0, *rest) if rest else None

    def _report(self, stage: str, done: int, total: int) -> None:
        self._check()
        if self._headline in (None, stage):
            if stage != self.stage or done < self.done:
                self._turned, self._base = monotonic(), done
            self.stage, self.done, self.total = stage, done, total
        # Reading a model holds a lock, which the other work might want.
        if stage != "load":
            self._worker.let_pass(self.rank)
            self._check()

    def _check(self) -> None:
        if self._stop.is_set() or not _alive(self.session_id):
            raise Cancelled

    def advance(self) -> bool:
        """Work until the end or the next pause; whether there is more to do."""
        with self._ending:
            if self.ended:
                return False
            if self._started is None:
                self._started, self.state = monotonic(), "running"
            work, steps = self._work, self._steps
        token = _progress.set(self._report)
        try:
            if steps is None:
                made = work(self._report)
                if not isinstance(made, Generator):
                    self._finish("done", result=made)
                    return False
                steps = made
            next(steps)
        except StopIteration as stop:
            self._finish("done", result=stop.value)
        except Cancelled:
            self._finish("cancelled")
        except CahpError as error:
            self._finish("failed", error=str(error))
        except BaseException as error:
            # Only where it happened: the message of an unforeseen error may quote somebody's text.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logging.getLogger(__name__).error(  # noqa: TRY400
                "job %d failed: %s\n%s", self.id, type(error).__name__, frames
            )
            self._finish(
                "failed", error=f"This failed unexpectedly ({type(error).__name__}); the server's log says where."
            )
        else:
            with self._ending:
                if not self.ended:
                    self._steps = steps
                return not self.ended
        finally:
            _progress.reset(token)
        return False

    def _finish(self, state: State, *, result: T | None = None, error: str | None = None) -> None:
        """End the job, unless it has ended before."""
        with self._ending:
            if self.ended:
                return
            self.state, self.result, self.error = state, result, error
            # What the work holds on to (texts, a model) must not live as long as somebody remembers the job.
            self._work, self._steps = _nothing, None
            self._end.set()


def _nothing(progress: Progress) -> None:
    return None


#: The progress of the job that this thread is working on.
_progress: ContextVar[Progress] = ContextVar("cahp_progress", default=silent)


def relay(stage: str, done: int, total: int) -> None:
    """Report to whichever job the calling thread works on: what resources that outlive a job are given."""
    _progress.get()(stage, done, total)


class _Worker:
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
        with self._change:
            for other in self._unfinished():
                if (other.session_id, other.key) == (job.session_id, job.key):
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
            return [job for job in self._unfinished() if job.session_id == session_id]

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
                    if _alive(job.session_id):
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


_worker = _Worker("cahp-worker")
_aside = _Worker("cahp-aside", threads=_ASIDE, steps_aside=False)


#: When each session was last seen, on the clock of ``monotonic``.
_seen: dict[str, float] = {}


def _alive(session_id: str) -> bool:
    """Whether anybody still looks: a closed tab ends its work, a connection that breaks for a moment does not."""
    now = monotonic()
    if not Runtime.exists() or Runtime.instance().is_active_session(session_id):
        _seen[session_id] = now
        return True
    alive = now - _seen.setdefault(session_id, now) < _PATIENCE_S
    if len(_seen) > _REMEMBERED:
        for gone in [other for other, at in _seen.copy().items() if now - at > 2 * _PATIENCE_S]:
            _seen.pop(gone, None)
    return alive


def submit(
    session_id: str,
    key: str,
    work: Callable[[Progress], T] | Callable[[Progress], Generator[None, None, T]],
    *,
    rank: Rank = Rank.RUN,
    expected: float | None = None,
    headline: str | None = None,
) -> Job[T]:
    """Let the worker do ``work``; the same key of the same session that has not ended is the same job.

    ``work`` gets a progress callback that raises ``Cancelled`` when it should stop. It may be a generator: it is then
    interrupted at every ``yield``, and others of its rank take turns. ``expected`` are the seconds it may take; with a
    ``headline`` only the progress of that stage is shown.
    """
    return _worker.submit(Job(session_id, key, work, rank=rank, expected=expected, headline=headline, worker=_worker))


def submit_aside(session_id: str, key: str, work: Callable[[Progress], T]) -> Job[T]:
    """Have ``work`` done beside the worker: it waits for the network or a disk, and says nothing of how far it is.

    One at a time for a session. Whoever cancels goes on at once; the thread is free again when the work returns.
    """
    return _aside.submit(Job(session_id, key, work, rank=Rank.QUICK, expected=None, headline=None, worker=_aside))


def unfinished(session_id: str) -> list[Job[Any]]:
    """A session's jobs that are queued or running."""
    return _worker.of(session_id) + _aside.of(session_id)
