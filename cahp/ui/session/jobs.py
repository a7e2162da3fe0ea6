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
import itertools
import logging
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic
from typing import Any, Generic, Literal, TypeVar

from cahp.run.timeline import LONG, PREPARATIONS
from cahp.ui.session.lifetime import is_alive
from cahp.ui.session.time_left import Plan, TimeLeft
from cahp.values import CahpError, Cancelled, Progress, silent

T = TypeVar("T")
State = Literal["queued", "running", "done", "failed", "cancelled"]

_log = logging.getLogger(__name__)
#: Seconds after which a quick job lets other quick ones pass.
QUICK_S = 2.0
#: A time left is announced once so many seconds have passed, or this share of the work is done.
_KNOWN_S = 5.0
_KNOWN_SHARE = 0.1
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


class Job(Generic[T]):
    """Work of one session; ``state`` and ``result`` change when it ends.

    Args:
        worker: The queue that it waits in, with its threads.
        session_id: The session that waits for it.
        key: Identifies the work.
        work: Gets a progress callback that raises ``Cancelled`` when it should stop. A generator is interrupted at
            every ``yield``, and jobs of other sessions take turns with it.
        rank: Its priority.
        plan: The seconds that it may take, by stage.
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
        plan: Plan = (),
        headline: str | None = None,
        title: str = "",
    ):
        self.id = next(self._ids)
        self.session_id = session_id
        self.key = key
        self.title = title
        self.rank = rank
        #: The rank of the work that it does at the moment: that of minutes of work during a refit, and of other work
        #: once quick work has taken ``QUICK_S``.
        self.present_rank = rank
        self.state: State = "queued"
        #: Whether it lets another job pass.
        self.paused = False
        self.result: T | None = None
        self.error: str | None = None
        self._worker = worker
        self._headline = headline
        self._steps: Iterator[None] = self._run(work)
        self._time = TimeLeft(plan)
        #: The first time left that was announced.
        self._announced: float | None = None
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
        self._worker.drop(self)
        # Loading a model reports nothing for seconds: cancelling does not wait for it.
        self._finish("cancelled")

    def start_now(self) -> None:
        """Let a queued job pass all that takes minutes."""
        self._worker.promote(self, Rank.RUN)

    @property
    def place(self) -> Place | None:
        """Its place in the queue, or None once it has started."""
        if self._time.began:
            return None
        return self._worker.place(self)

    @property
    def stage(self) -> str:
        """The stage that it last reported (empty: none)."""
        return self._time.stage

    @property
    def done(self) -> int:
        """How many units of its stage are done."""
        return self._time.done

    @property
    def total(self) -> int:
        """How many units its stage has."""
        return self._time.total

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end (None: unknown)."""
        return self._time.seconds

    @property
    def announced_left(self) -> float | None:
        """The seconds left that a person is told, once they are known well enough (None: not yet).

        They never rise by more than they have fallen before.
        """
        left = self.seconds_left
        if left is None or not self._time.began:
            return None
        if self._announced is None:
            if self._time.spent < _KNOWN_S and self.share < _KNOWN_SHARE:
                return None
            self._announced = left
        return min(left, self._announced)

    @property
    def share(self) -> float:
        """The share of its work that is done; see ``TimeLeft.share``."""
        return self._time.share

    def _report(self, stage: str, done: int, total: int) -> None:
        self._raise_if_unwanted()
        if self._headline in (None, stage):
            self._time.report(stage, done, total)
        # A job that loads a model holds a lock, for which the other job would wait forever.
        self.present_rank = self.rank
        if stage in LONG:
            self.present_rank = max(self.rank, Rank.LONG)
        elif self._time.spent > QUICK_S:
            # It was thought to be quick: what others ask for does not wait for the rest of it.
            self.present_rank = max(self.rank, Rank.RUN)
        if stage not in PREPARATIONS:
            self._let_others_pass()
            self._raise_if_unwanted()

    def _let_others_pass(self) -> None:
        """Run the waiting jobs of a better rank than the present one; their time is not that of this job."""
        before = self._time.spent
        self.paused = True
        try:
            self._worker.run_above(self)
        finally:
            self.paused = False
        self._time.skip(self._time.spent - before)

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
            if not self._time.began:
                self._time.begin()
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
        else:
            return not self.ended
        finally:
            _progress.reset(token)
        return False

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


class Turns:
    """The queue of one rank: sessions take turns, the one served longest ago first, each with its oldest job."""

    def __init__(self) -> None:
        #: The jobs in any order: one that was interrupted is the oldest of its session again.
        self.waiting: list[Job[Any]] = []
        #: The number of each session's last turn; forgotten when the queue is empty.
        self.served: dict[str, int] = {}
        self._turn = 0

    def take(self, *, busy: Collection[str] = ()) -> Job[Any] | None:
        """Remove and return the next job of a session that is not ``busy`` (None: there is none)."""
        ready = [job for job in self.waiting if job.session_id not in busy]
        job = min(ready, key=lambda job: (self.served.get(job.session_id, 0), job.id), default=None)
        if job is not None:
            self.waiting.remove(job)
            self._turn += 1
            self.served[job.session_id] = self._turn
        return job

    def order(self) -> list[Job[Any]]:
        """Return all jobs in the order in which they are taken if none is added or removed and no session is busy."""
        rehearsal = copy(self)
        rehearsal.waiting = self.waiting.copy()
        rehearsal.served = self.served.copy()
        return list(iter(rehearsal.take, None))


class Worker:
    """Threads and their queue. With one thread, a job lets jobs of a better rank pass between its batches."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._name = name
        self._most = threads
        self._turns: dict[Rank, Turns] = {rank: Turns() for rank in Rank}
        self._working: list[Job[Any]] = []
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
            turns = self._turns[job.rank]
            if not any(other.rank == job.rank for other in unfinished):
                # No session is owed a turn.
                turns.served.clear()
            turns.waiting.append(job)
            if not self._threads:
                atexit.register(self._close)
                for _ in range(self._most):
                    self._threads.append(threading.Thread(target=self._run, name=self._name, daemon=True))
                    self._threads[-1].start()
            self._change.notify()
        return job

    def drop(self, job: Job[Any]) -> None:
        """Remove a job that has not started from the queue."""
        with self._change, suppress(ValueError):
            self._turns[job.rank].waiting.remove(job)

    def promote(self, job: Job[Any], rank: Rank) -> None:
        """Move a job that has not started to a better rank."""
        with self._change:
            if rank < job.rank and job in self._turns[job.rank].waiting:
                self._turns[job.rank].waiting.remove(job)
                job.rank = rank
                self._turns[rank].waiting.append(job)
                self._change.notify()

    def place(self, job: Job[Any]) -> Place | None:
        """Return a job's place in the queue, if it has not started."""
        with self._change:
            line = self._turns[job.rank].order()
            if job not in line:
                return None
            ahead = [other for rank in Rank if rank < job.rank for other in self._turns[rank].waiting]
            ahead += line[: line.index(job)]
            # Running jobs of lower ranks let it pass.
            working = (other for other in self._working if other.present_rank <= job.rank and not other.ended)
            before = [*ahead, *working]
        waits = [other.seconds_left for other in before]
        seconds = None
        if None not in waits:
            seconds = sum(filter(None, waits)) / self._most
        return Place(len(ahead) + 1, seconds, any(other.present_rank > Rank.RUN for other in before))

    def run_above(self, job: Job[Any]) -> None:
        """Run all waiting jobs of a better rank than ``job`` has now in the calling thread.

        Where it runs above a paused job of the same present rank, the rank that it began with counts: otherwise such
        jobs would pile up on one stack, and the first one would end last.
        """
        with self._change:
            below = [other for other in self._working if other.paused and other is not job]
        rank = job.present_rank
        if any(other.present_rank <= rank for other in below):
            rank = job.rank
        while self._most == 1 and (following := self._take_next(below=rank)) is not None:
            self._advance(following)

    def unfinished(self) -> list[Job[Any]]:
        """Return the jobs that are queued or running."""
        with self._change:
            waiting = (job for turns in self._turns.values() for job in turns.waiting)
            return [job for job in (*self._working, *waiting) if not job.ended]

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
                while (job := self._take_next()) is None and not self._closing:
                    self._change.wait()
                if self._closing or job is None:
                    return
            self._advance(job)

    def _take_next(self, below: int = len(Rank)) -> Job[Any] | None:
        with self._change:
            for rank, turns in self._turns.items():
                if rank >= below:
                    break
                busy = self._find_busy(rank)
                while (job := turns.take(busy=busy)) is not None:
                    if is_alive(job.session_id):
                        self._working.append(job)
                        return job
                    job.cancel()
        return None

    def _find_busy(self, rank: Rank) -> set[str]:
        """Return the sessions that get no thread for another job of this rank.

        A session has one thread at a time. A cancelled job that does not return keeps its thread, and a session with
        two such jobs gets no other.
        """
        working = Counter(job.session_id for job in self._working if job.present_rank == rank)
        busy = set()
        for job in self._working:
            if (job.present_rank == rank and not job.ended) or working[job.session_id] > 1:
                busy.add(job.session_id)
        return busy

    def _advance(self, job: Job[Any]) -> None:
        more = job.advance()
        with self._change:
            self._working.remove(job)
            if more:
                # Behind the jobs of other sessions, so that two sessions' tables grow side by side.
                self._turns[job.rank].waiting.append(job)
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
