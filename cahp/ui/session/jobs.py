"""Jobs, their queue, and the threads that do them.

Streamlit runs each session in a thread of its own, and all share this process. Two models that compute at once slow
each other down more than waiting does, so one thread does all the work. Jobs have five ranks: a figure that a person
waits for, a run, minutes of work that a person asked for, such work that nobody asked for, and what fills idle time; a
job of a lower rank lets higher ones pass between two batches. A quick job or a run that comes to minutes of work, such
as a refit, has the rank of such work meanwhile. Within a rank, sessions take turns, so that one session's many jobs
delay no other session.

Jobs that mostly wait for a disk or the network, such as downloads, have a few threads of their own.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import logging
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic, sleep
from typing import Any, Generic, Literal, TypeVar

from streamlit.runtime import Runtime

from cahp.run.resources import LONG, PREPARATIONS
from cahp.ui.session.time_left import TimedWork
from cahp.values import CahpError, Cancelled, Progress, silent

T = TypeVar("T")
State = Literal["queued", "running", "done", "failed", "cancelled"]

_log = logging.getLogger(__name__)
#: Seconds after which a quick job lets other quick ones pass.
QUICK_S = 2.0
#: Seconds that the end of the process waits for the threads: loading a model cannot be interrupted.
_EXIT_S = 30.0


@contextmanager
def _usual_gradients() -> Iterator[None]:
    """Record gradients inside the block as PyTorch does by default, whatever the surrounding code has switched off."""
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "inference_mode"):
        # It is not loaded, or another thread is still loading it.
        yield
        return
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


class Rank(IntEnum):
    """The priority of a job; lower values go first."""

    QUICK = 0
    RUN = 1
    LONG = 2
    UNASKED = 3
    BACKGROUND = 4


@dataclass(frozen=True)
class Place:
    """A job's place in the queue: ``number`` 1 is the next; ``seconds`` until it starts (None: unknown).

    ``passable``: whether work that takes minutes is before it, which ``start_now`` lets it pass.
    """

    number: int
    seconds: float | None
    passable: bool


class Job(TimedWork, Generic[T]):
    """Work of one session; ``state`` and ``result`` change when it ends.

    Args:
        worker: The queue that it waits in, with its threads.
        session_id: The session that waits for it.
        key: Identifies the work.
        work: Gets a progress callback that raises ``Cancelled`` when it should stop. A generator is interrupted at
            every ``yield``, and jobs of other sessions take turns with it.
        rank: Its priority.
        expected: The seconds that it may take (None: unknown).
        headline: The only stage whose progress is shown (None: all stages).
        title: Names the work (empty: its stages do).
    """

    _ids = itertools.count(1)

    def __init__(
        self,
        worker: Worker,
        session_id: str,
        key: str,
        work: Callable[[Progress], Any],
        *,
        rank: Rank = Rank.RUN,
        expected: float | None = None,
        headline: str | None = None,
        title: str = "",
    ):
        super().__init__(expected)
        self.id = next(self._ids)
        self.session_id = session_id
        self.key = key
        self.title = title
        self.rank = rank
        #: The rank of the work that it does at the moment: that of minutes of work during a refit, and of other work
        #: once quick work has taken ``QUICK_S``.
        self.present_rank = rank
        #: Its turn among the jobs of its rank; see ``Worker``.
        self.turn = 0
        self.state: State = "queued"
        #: Whether it lets another job pass.
        self.paused = False
        self.result: T | None = None
        self.error: str | None = None
        self._worker = worker
        self._headline = headline
        self._steps: Iterator[None] = self._run(work)
        self._end = threading.Event()
        self._ending = threading.Lock()

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self._end.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the end; return whether it has ended."""
        return self._end.wait(seconds)

    def cancel(self) -> None:
        """End the job at once; work that has started stops at its next batch, and its result is dropped."""
        # Loading a model reports nothing for seconds: cancelling does not wait for it.
        self._finish("cancelled")

    def start_now(self) -> None:
        """Let a queued job pass all that takes minutes."""
        self._worker.promote(self, Rank.RUN)

    @property
    def place(self) -> Place | None:
        """Its place in the queue, or None once it has started."""
        if self.began:
            return None
        return self._worker.place(self)

    def _report(self, stage: str, done: int, total: int) -> None:
        self._raise_if_unwanted()
        if self._headline in (None, stage):
            self.report(stage, done, total)
        # A job that loads a model holds a lock, for which the other job would wait forever.
        self.present_rank = self.rank
        if stage in LONG:
            self.present_rank = max(self.rank, Rank.LONG)
        elif self.spent > QUICK_S:
            # It was thought to be quick: what others ask for does not wait for the rest of it.
            self.present_rank = max(self.rank, Rank.RUN)
        if stage not in PREPARATIONS:
            # The time of the jobs that pass is not that of this one.
            before = self.spent
            self.paused = True
            try:
                self._worker.let_pass(self)
            finally:
                self.paused = False
            self.skip(self.spent - before)
            self._raise_if_unwanted()

    def _raise_if_unwanted(self) -> None:
        if self.ended or not is_alive(self.session_id):
            raise Cancelled

    def _run(self, work: Callable[[Progress], Any]) -> Generator[None, None, Any]:
        result = work(self._report)
        if isinstance(result, Generator):
            result = yield from result
        return result

    def advance(self) -> bool:
        """Work until the end or the next pause; return whether there is more to do."""
        with self._ending:
            if self.ended:
                return False
            if not self.began:
                self.begin()
                self.state = "running"
            steps = self._steps
        token = _progress.set(self._report)
        try:
            # A job that lets this one pass may compute without gradients.
            with _usual_gradients():
                next(steps)
        except StopIteration as stop:
            self._finish("done", result=stop.value)
        except Cancelled:
            self._finish("cancelled")
        except CahpError as error:
            self._finish("failed", error=str(error))
        except BaseException as error:
            # The message of an unexpected error may quote a person's text, so only its place is logged.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("job %d failed: %s\n%s", self.id, type(error).__name__, frames)
            self._finish("failed", error=f"Unexpected error ({type(error).__name__}); see the server's log.")
        finally:
            _progress.reset(token)
        return not self.ended

    def _finish(self, state: State, *, result: T | None = None, error: str | None = None) -> None:
        """End the job, unless it has ended before."""
        with self._ending:
            if self.ended:
                return
            self.state = state
            self.result = result
            self.error = error
            # The work refers to texts and a model, which must not live as long as a page remembers the job.
            self._steps = iter(())
            self._end.set()


#: The progress callback of the job that this thread works on.
_progress: ContextVar[Progress] = ContextVar("cahp_progress", default=silent)


def relay(stage: str, done: int, total: int) -> None:
    """Report progress to the job that the calling thread works on: for resources that outlive a job."""
    _progress.get()(stage, done, total)


def _order(job: Job[Any]) -> tuple[int, int, int]:
    return job.rank, job.turn, job.id


class Worker:
    """Threads and their queue. With one thread, a job lets jobs of a better rank pass between its batches.

    A job's turn is one after that of the job that its session queued before it, but no earlier than the turn that the
    rank is at: the order of the queue is that of rank, turn and number.
    """

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._name = name
        self._most = threads
        self._waiting: list[Job[Any]] = []
        self._working: list[Job[Any]] = []
        #: The turn that each rank is at, and the last turn that each session has in it.
        self._present: Counter[Rank] = Counter()
        self._last: dict[tuple[Rank, str], int] = {}
        self._change = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closing = False

    def submit(self, job: Job[Any]) -> Job[Any]:
        """Queue a job and return it; if an unfinished one of its session has the same key, return that instead."""
        with self._change:
            unfinished = self.unfinished()
            for other in unfinished:
                if (other.key, other.session_id) == (job.key, job.session_id):
                    return other
            if not unfinished:
                # No session is owed a turn.
                self._present.clear()
                self._last.clear()
            self._enter(job)
            if not self._threads:
                atexit.register(self._close)
                for _ in range(self._most):
                    self._threads.append(threading.Thread(target=self._run, name=self._name, daemon=True))
                    self._threads[-1].start()
        return job

    def _enter(self, job: Job[Any]) -> None:
        """Put a job into the queue, behind the earlier ones of its session."""
        own = (job.rank, job.session_id)
        job.turn = max(self._present[job.rank], self._last.get(own, -1) + 1)
        self._last[own] = job.turn
        self._waiting.append(job)
        self._change.notify()

    def promote(self, job: Job[Any], rank: Rank) -> None:
        """Move a job that has not started to a better rank."""
        with self._change:
            if rank < job.rank and job in self._waiting:
                self._waiting.remove(job)
                job.rank = rank
                self._enter(job)

    def place(self, job: Job[Any]) -> Place | None:
        """Return a job's place in the queue, if it has not started."""
        with self._change:
            if job.ended or job not in self._waiting:
                return None
            ahead = [other for other in self._waiting if not other.ended and _order(other) < _order(job)]
            # Running jobs of lower ranks let it pass.
            working = (other for other in self._working if other.present_rank <= job.rank and not other.ended)
            before = [*ahead, *working]
        waits = [other.seconds_left for other in before]
        seconds = None
        if None not in waits:
            seconds = sum(filter(None, waits)) / self._most
        return Place(len(ahead) + 1, seconds, any(other.present_rank > Rank.RUN for other in before))

    def let_pass(self, job: Job[Any]) -> None:
        """Run all waiting jobs of a better rank than ``job`` has now in the calling thread.

        Where it runs above a paused job of the same present rank, the rank that it began with counts: otherwise such
        jobs would pile up on one stack, and the first one would end last.
        """
        if self._most > 1:
            return
        rank = job.present_rank
        with self._change:
            if any(other.present_rank <= rank for other in self._working if other is not job):
                rank = job.rank
        while (following := self._take(below=rank)) is not None:
            self._work_on(following)

    def unfinished(self) -> list[Job[Any]]:
        """Return the jobs that are queued or running."""
        with self._change:
            return [job for job in (*self._working, *self._waiting) if not job.ended]

    def _close(self) -> None:
        """Stop before the interpreter does: a thread that is inside of PyTorch then takes the process down."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        for job in self.unfinished():
            job.cancel()
        until = monotonic() + _EXIT_S
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))

    def _run(self) -> None:
        while True:
            with self._change:
                while (job := self._take()) is None and not self._closing:
                    self._change.wait()
                if self._closing or job is None:
                    return
            self._work_on(job)

    def _take(self, below: int = len(Rank)) -> Job[Any] | None:
        """Take the next job of a better rank than ``below`` from the queue (None: there is none)."""
        with self._change:
            for job in sorted(self._waiting, key=_order):
                if job.rank >= below:
                    break
                if not job.ended:
                    if self._is_busy(job):
                        continue
                    if not is_alive(job.session_id):
                        job.cancel()
                self._waiting.remove(job)
                if not job.ended:
                    self._present[job.rank] = max(job.turn, self._present[job.rank])
                    self._working.append(job)
                    return job
        return None

    def _is_busy(self, job: Job[Any]) -> bool:
        """Return whether the session of a waiting job gets no thread for it now.

        A session has one thread at a time. A cancelled job that does not return keeps its thread, and a session with
        two such jobs gets no other.
        """
        own = [
            other for other in self._working if other.session_id == job.session_id and other.present_rank == job.rank
        ]
        return len(own) > 1 or any(not other.ended for other in own)

    def _work_on(self, job: Job[Any]) -> None:
        more = job.advance()
        with self._change:
            self._working.remove(job)
            if more:
                # Behind the jobs of other sessions, so that two sessions' tables grow side by side.
                self._enter(job)
            # Another thread may have skipped this session's next job.
            self._change.notify()


_worker = Worker("cahp-worker")
_io_worker = Worker("cahp-io", threads=4)


def submit(
    session_id: str,
    key: str,
    work: Callable[[Progress], T] | Callable[[Progress], Generator[None, None, T]],
    *,
    io: bool = False,
    **options: Any,
) -> Job[T]:
    """Queue ``work`` and return its job; an unfinished job with the same key of the same session is returned instead.

    ``io``: it waits for the network or a disk, and gets one of the threads for that. ``options`` are those of ``Job``.
    """
    worker = _worker
    if io:
        worker = _io_worker
    return worker.submit(Job(worker, session_id, key, work, **options))


def unfinished(session_id: str) -> list[Job[Any]]:
    """Return a session's jobs that are queued or running."""
    return [job for worker in (_worker, _io_worker) for job in worker.unfinished() if job.session_id == session_id]


def cancel_abandoned() -> None:
    """Cancel the jobs of closed sessions, so that their texts are freed."""
    for worker in (_worker, _io_worker):
        for job in worker.unfinished():
            if not is_alive(job.session_id):
                job.cancel()


# Open sessions, and the memory of closed ones ----------------------------------------------------------------


#: Seconds after which a session without a connection counts as closed: a connection may break for a moment.
_GRACE_S = 60.0
#: Sessions whose last sign of life is remembered.
_REMEMBERED = 1000
#: Seconds between two checks for closed sessions.
_CHECK_S = 30.0
#: Seconds without a new page after which the server is quiet.
_QUIET_S = 1.0
#: Streamlit's name of the threads that draw pages; each lives as long as its page is being drawn.
_DRAWING = "ScriptRunner.scriptThread"


#: When each session was last seen, on the clock of ``monotonic``.
_seen: dict[str, float] = {}
_last_drawn = 0.0


def is_alive(session_id: str) -> bool:
    """Return whether a browser is connected to this session, or was a moment ago."""
    now = monotonic()
    if not Runtime.exists() or Runtime.instance().is_active_session(session_id):
        _seen[session_id] = now
    recent = now - _seen.setdefault(session_id, now) < _GRACE_S
    if len(_seen) > _REMEMBERED:
        for closed in [other for other, at in _seen.copy().items() if now - at > 2 * _GRACE_S]:
            _seen.pop(closed, None)
    return recent


def page_drawn() -> None:
    """Note that a page, or a part of one, is being drawn."""
    global _last_drawn
    _last_drawn = monotonic()


def is_quiet() -> bool:
    """Return whether no page is being drawn and none was begun for a moment."""
    # Fifty pages opened at once take longer than a moment: work that begins between them delays them all.
    drawing = any(thread.name == _DRAWING for thread in threading.enumerate())
    return not drawing and monotonic() - _last_drawn > _QUIET_S


def start_cleaning(cancel_abandoned: Callable[[], None]) -> None:
    """Start a thread that cancels jobs of closed sessions and frees their memory, as long as the process lives.

    The objects of a session refer to each other, and Python would keep them until enough other garbage came together.
    Streamlit itself keeps up to 128 sessions for two minutes after their connection broke, in case it comes back.
    """

    def clean() -> None:
        while True:
            sleep(_CHECK_S)
            cancel_abandoned()
            if is_quiet():
                gc.collect()

    threading.Thread(target=clean, name="cahp-memory", daemon=True).start()
