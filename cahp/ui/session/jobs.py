"""Long work outside the sessions: one worker thread, a queue in three ranks, progress, and a way out.

Streamlit's sessions each run in a thread of their own and share this process. Two models computing at once would slow
each other down more than waiting does, so one thread does all the work. What a person waits for goes before a run, a
run before what is filled in behind the scenes; the lower rank steps aside between two batches.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
import traceback
from collections.abc import Callable, Generator
from contextvars import ContextVar
from enum import IntEnum
from time import monotonic
from typing import Any, Generic, Literal, TypeVar

from streamlit.runtime import Runtime

from cahp.values import CahpError, Cancelled, Progress, silent

T = TypeVar("T")
State = Literal["queued", "running", "done", "failed", "cancelled"]

#: Seconds after which a session that nobody is connected to has ended.
_PATIENCE_S = 60.0

#: Seconds that the end of the process waits for the worker: reading a model cannot be interrupted.
_LEAVE_S = 30.0


class Rank(IntEnum):
    """Who goes first."""

    QUICK = 0
    RUN = 1
    BACKGROUND = 2


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
    ):
        self.id = next(self._ids)
        self.session_id, self.key, self.rank = session_id, key, rank
        self.state: State = "queued"
        self.stage, self.done, self.total = "", 0, 0
        self.result: T | None = None
        self.error: str | None = None
        self._work, self._expected, self._headline = work, expected, headline
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
        _worker.drop(self)
        # Reading a model reports nothing for seconds: nobody who wants to leave should wait for it.
        self._finish("cancelled")

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace of the current stage, or None while there is too little to go by."""
        if self._started is None:
            return self._expected
        rest = [] if self._expected is None else [self._expected - (monotonic() - self._started)]
        spent = monotonic() - self._turned
        if self.done > self._base and spent > 0.5:
            rest.append(spent * (self.total - self.done) / (self.done - self._base))
        return max(0.0, *rest) if rest else None

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._stop.is_set() or not _alive(self.session_id):
            raise Cancelled
        if self._headline in (None, stage):
            if stage != self.stage or done < self.done:
                self._turned, self._base = monotonic(), done
            self.stage, self.done, self.total = stage, done, total
        # Reading a model holds a lock, which the other work might want.
        if stage != "load":
            _worker.let_pass(self.rank)

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
    """The thread and its queue."""

    def __init__(self) -> None:
        self._queues: dict[Rank, list[Job[Any]]] = {rank: [] for rank in Rank}
        self._working: list[Job[Any]] = []
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._left = False

    def submit(self, job: Job[Any]) -> Job[Any]:
        with self._change:
            for other in (*self._working, *(queued for queue in self._queues.values() for queued in queue)):
                if (other.session_id, other.key) == (job.session_id, job.key) and not other.ended:
                    return other
            self._queues[job.rank].append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cahp-worker", daemon=True)
                self._thread.start()
                atexit.register(self._leave)
            self._change.notify()
        return job

    def drop(self, job: Job[Any]) -> None:
        """Take a job that nobody works on out of the queue."""
        with self._change:
            queue = self._queues[job.rank]
            if job in queue and job not in self._working:
                queue.remove(job)

    def of(self, session_id: str) -> list[Job[Any]]:
        """A session's jobs that have not ended."""
        with self._change:
            jobs = {
                job.id: job
                for job in (*self._working, *(queued for queue in self._queues.values() for queued in queue))
            }
        return [job for job in jobs.values() if job.session_id == session_id and not job.ended]

    def let_pass(self, rank: Rank) -> None:
        """Do all work of a higher rank that waits, on top of the job that called."""
        while (job := self._next(below=rank)) is not None:
            self._turn(job)

    def _leave(self) -> None:
        """Stop before the interpreter does: a thread that is inside of PyTorch then takes the process down."""
        with self._change:
            waiting = [*self._working, *(job for queue in self._queues.values() for job in queue)]
            self._left = True
            self._change.notify()
        for job in waiting:
            job.cancel()
        if self._thread is not None:
            self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._left or any(self._queues.values()))
                if self._left:
                    return
            job = self._next()
            if job is not None:
                self._turn(job)

    def _next(self, below: int = len(Rank)) -> Job[Any] | None:
        with self._change:
            for rank, queue in self._queues.items():
                if rank < below and queue:
                    job = queue.pop(0)
                    self._working.append(job)
                    return job
        return None

    def _turn(self, job: Job[Any]) -> None:
        more = job.advance()
        with self._change:
            self._working.remove(job)
            if more:
                # To the end, so that two people's tables grow side by side.
                self._queues[job.rank].append(job)


_worker = _Worker()


#: When each session was last seen, on the clock of ``monotonic``.
_seen: dict[str, float] = {}


def _alive(session_id: str) -> bool:
    """Whether anybody still looks: a closed tab ends its work, a connection that breaks for a moment does not."""
    if not Runtime.exists() or Runtime.instance().is_active_session(session_id):
        _seen[session_id] = monotonic()
        return True
    return monotonic() - _seen.setdefault(session_id, monotonic()) < _PATIENCE_S


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
    return _worker.submit(Job(session_id, key, work, rank=rank, expected=expected, headline=headline))


def unfinished(session_id: str) -> list[Job[Any]]:
    """A session's jobs that are queued or running."""
    return _worker.of(session_id)
