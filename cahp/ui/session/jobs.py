"""Jobs, their queue, and the thread that does them.

Streamlit runs each session in a thread of its own, and all share this process. Two models that compute at once slow
each other down more than waiting does, so one thread does all the work. Each job has a rank; better ranks go first:

1. ``QUICK``: a figure that a person waits for.
2. ``RUN``: a run.
3. ``LONG``: minutes of work that a person asked for, such as a refit.
4. ``UNASKED``: minutes of work that the page starts on its own.
5. ``BACKGROUND``: work for idle time, such as a sweep over all budgets.

Between two batches, a job lets all jobs of a better rank run first. While a quick job or a run refits or trains, it
counts as ``LONG``. Within a rank, sessions take turns, so that one session's many jobs delay no other session. A job
that waits for a disk or the network, such as a download, has a thread of its own.
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
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from contextvars import ContextVar
from enum import IntEnum
from math import inf
from time import monotonic, sleep
from typing import Any, Generic, Literal, TypeVar

from streamlit.runtime import Runtime

from cahp.run.resources import LONG, PREPARATIONS
from cahp.values import CahpError, Cancelled, Progress, setting, silent

T = TypeVar("T")

_log = logging.getLogger(__name__)
#: Seconds that the end of the process waits for the thread: loading a model cannot be interrupted.
_EXIT_S = 30.0
#: Seconds of work of unknown length after which its pace tells how long it takes.
_KNOWN_S = 5.0
#: Stages to come are taken to be at least and at most so many times as long as expected.
_FASTEST = 0.8
_SLOWEST = 1.5
#: The largest share of work that is estimated to be done.
_ALMOST = 0.95


class Rank(IntEnum):
    """The priority of a job; lower values go first."""

    QUICK = 0
    RUN = 1
    LONG = 2
    UNASKED = 3
    BACKGROUND = 4


class Job(Generic[T]):
    """Work of one session; ``state`` and ``result`` change when it ends.

    Args:
        worker: The queue that it waits in.
        session_id: The session that waits for it.
        key: Identifies the work.
        work: Gets a progress callback that raises ``Cancelled`` when it should stop. A generator is interrupted at
            every ``yield``, and jobs of other sessions take turns with it.
        rank: Its priority.
        expected: The seconds that it may take (None: unknown).
        stages: The seconds that each of its stages may take, in their order, where these are known.
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
        stages: Mapping[str, float] = {},
        title: str = "",
    ):
        self.id = next(self._ids)
        self.session_id = session_id
        self.key = key
        self.title = title
        self.rank = rank
        #: Its turn among the jobs of its rank; see ``Worker``.
        self.turn = 0
        self.state: Literal["queued", "running", "done", "failed", "cancelled"] = "queued"
        #: Whether it lets another job pass.
        self.paused = False
        self.result: T | None = None
        self.error: str | None = None
        #: The present stage, and how many of its ``total`` units are ``done``.
        self.stage = ""
        self.done = 0
        self.total = 0
        self.stages = stages
        self._worker = worker
        self._expected = expected
        self._loaded = 0.0
        self._furthest = 0.0
        self._steps: Iterator[None] = self._run(work)
        self._end = threading.Event()
        self._ending = threading.Lock()
        #: When the work and its stage began, without the time in which other jobs passed.
        self._began = 0.0
        self._stage_began = 0.0
        self._stage_base = 0
        self._told_left = inf
        #: The seconds that the stages after the present one may take.
        self._later = 0.0

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

    @property
    def place(self) -> int | None:
        """Its place in the queue, from 1 for the next one (None: it has started)."""
        return self._worker.place(self)

    def _left(self) -> float | None:
        """Estimate the seconds to the end by what was expected and by the pace of the stage (None: unknown)."""
        now = monotonic()
        left = None
        if self._expected is not None:
            left = max(0.0, self._expected - (now - self._began))
        new = self.done - self._stage_base
        if new > 0:
            ahead = (now - self._stage_began) * (self.total - self.done) / new
            if left is not None and self.stages:
                # The further a stage is, the more its own pace counts.
                share = self.done / self.total
                left = share * (ahead + self._later) + (1 - share) * left
            left = max(left or 0.0, ahead)
        return left

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds to the end, once they are known.

        What was expected never rises; without it, each stage has its own, which is never more than the first.
        """
        left = self._left()
        early = self._expected is None and monotonic() - self._began < _KNOWN_S
        if self.state == "queued" or left is None or early:
            return None
        left = min(left, self._told_left)
        if self._expected is not None or self._told_left == inf:
            self._told_left = left
        return left

    @property
    def share(self) -> float:
        """The share of the work that is done: by the time, which never falls, or else by the units of its stage."""
        left = self.seconds_left
        if self._expected is None or left is None:
            return min(1.0, self.done / max(self.total, 1))
        spent = monotonic() - self._began
        # Until another job has passed, its time counts.
        self._furthest = max(self._furthest, min(_ALMOST, spent / max(spent + left, 1e-9)))
        return self._furthest

    def _report(self, stage: str, done: int, total: int) -> None:
        self._raise_if_unwanted()
        before = monotonic()
        if stage != self.stage or done < self.done:
            self._stage_began = before
            self._stage_base = done
            if stage != self.stage and stage in self.stages:
                # The stages to come take as much more or less than expected as those before, unless these were cached.
                # The first one loads the model, which tells nothing of the others.
                seconds = list(self.stages.values())
                place = list(self.stages).index(stage)
                spent = before - self._began
                if place == 1:
                    self._loaded = spent
                pace = 1.0
                if place > 1:
                    pace = min(_SLOWEST, max(_FASTEST, (spent - self._loaded) / sum(seconds[1:place])))
                self._expected = spent + pace * sum(seconds[place:])
                self._later = pace * sum(seconds[place + 1 :])
        self.stage = stage
        self.done = done
        self.total = total
        if stage in PREPARATIONS:
            # A job that loads a model holds a lock, for which the other job would wait forever.
            return
        self.paused = True
        try:
            self._worker.let_pass(self)
        finally:
            self.paused = False
        # The time of the jobs that pass is not that of this one.
        passed = monotonic() - before
        self._began += passed
        self._stage_began += passed
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
            if self.state == "queued":
                self._began = self._stage_began = monotonic()
                self.state = "running"
            steps = self._steps
        torch: Any = sys.modules.get("torch")
        try:
            with ExitStack() as stack:
                stack.enter_context(setting(_progress, self._report))
                # A job that lets this one pass may compute without gradients. While another thread loads PyTorch, it
                # has no such mode yet.
                if hasattr(torch, "inference_mode"):
                    stack.enter_context(torch.inference_mode(mode=False))
                    stack.enter_context(torch.enable_grad())
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
        return not self.ended

    def _finish(
        self, state: Literal["done", "failed", "cancelled"], *, result: T | None = None, error: str | None = None
    ) -> None:
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
    """A thread and its queue, whose jobs let jobs of a better rank pass between their batches.

    A job's turn is one after that of the job that its session queued before it, but no earlier than the turn that the
    rank is at: the order of the queue is that of rank, turn and number.
    """

    def __init__(self) -> None:
        self._waiting: list[Job[Any]] = []
        self._working: list[Job[Any]] = []
        #: The turn that each rank is at, and the last turn that each session has in it.
        self._present: Counter[Rank] = Counter()
        self._last: dict[tuple[Rank, str], int] = {}
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def submit(self, job: Job[Any], *, aside: bool = False) -> Job[Any]:
        """Queue a job and return it; if an unfinished one of its session has the same key, return that instead.

        One that is done ``aside`` starts at once, in a thread of its own.
        """
        with self._change:
            unfinished = self.unfinished()
            for other in unfinished:
                if (other.key, other.session_id) == (job.key, job.session_id):
                    return other
            if aside:
                self._working.append(job)
                threading.Thread(target=self._work_on, args=(job,), name="cahp-aside", daemon=True).start()
                return job
            if not unfinished:
                # No session is owed a turn.
                self._present.clear()
                self._last.clear()
            self._enter(job)
            if self._thread is None:
                atexit.register(self._close)
                self._thread = threading.Thread(target=self._run, name="cahp-worker", daemon=True)
                self._thread.start()
        return job

    def _enter(self, job: Job[Any]) -> None:
        """Put a job into the queue, behind the earlier ones of its session."""
        own = (job.rank, job.session_id)
        job.turn = max(self._present[job.rank], self._last.get(own, -1) + 1)
        self._last[own] = job.turn
        self._waiting.append(job)
        self._change.notify()

    def place(self, job: Job[Any]) -> int | None:
        """Return a job's place in the queue, from 1 (None: it does not wait)."""
        with self._change:
            if job.state != "queued" or job not in self._waiting:
                return None
            return 1 + sum(not other.ended and _order(other) < _order(job) for other in self._waiting)

    def let_pass(self, job: Job[Any]) -> None:
        """Run all waiting jobs of a better rank than ``job`` in the calling thread, that of the queue.

        In a stage of minutes ``job`` counts as ``LONG``, unless another job of this or a better rank is paused for it:
        such jobs would pile up on one stack, and the first one would end last.
        """
        if threading.current_thread() is not self._thread:
            return
        rank = job.rank
        if job.stage in LONG:
            others = [other for other in self.unfinished() if other.paused and other is not job]
            if all(other.rank > Rank.LONG for other in others):
                rank = max(rank, Rank.LONG)
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
        if self._thread is not None:
            self._thread.join(_EXIT_S)

    def _run(self) -> None:
        while not self._closing:
            with self._change:
                job = self._take()
                if job is None and not self._closing:
                    self._change.wait()
            if job is not None:
                self._work_on(job)

    def _take(self, below: int = len(Rank)) -> Job[Any] | None:
        """Take the next job of a better rank than ``below`` from the queue (None: there is none)."""
        with self._change:
            for job in sorted(self._waiting, key=_order):
                if job.rank >= below:
                    break
                if not is_alive(job.session_id):
                    job.cancel()
                self._waiting.remove(job)
                if not job.ended:
                    self._present[job.rank] = max(job.turn, self._present[job.rank])
                    self._working.append(job)
                    return job
        return None

    def _work_on(self, job: Job[Any]) -> None:
        more = job.advance()
        with self._change:
            self._working.remove(job)
            if more:
                # Behind the jobs of other sessions, so that two sessions' tables grow side by side.
                self._enter(job)


_worker = Worker()


def submit(
    session_id: str, key: str, work: Callable[[Progress], Any], *, aside: bool = False, **options: Any
) -> Job[Any]:
    """Queue ``work`` and return its job; an unfinished job with the same key of the same session is returned instead.

    ``aside``: it waits for the network or a disk, and has a thread of its own. ``options`` are those of ``Job``.
    """
    return _worker.submit(Job(_worker, session_id, key, work, **options), aside=aside)


def unfinished(session_id: str) -> list[Job[Any]]:
    """Return a session's jobs that are queued or running."""
    return [job for job in _worker.unfinished() if job.session_id == session_id]


# Open sessions, and the memory of closed ones ----------------------------------------------------------------


#: Seconds after which a session without a connection counts as closed: a connection may break for a moment.
_GRACE_S = 60.0
#: Seconds between two checks for closed sessions.
_CHECK_S = 30.0
#: Seconds without a page being drawn after which the server is quiet.
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
    return now - _seen.setdefault(session_id, now) < _GRACE_S


def is_quiet() -> bool:
    """Return whether no page is being drawn, and none was for a moment as far as earlier calls saw."""
    global _last_drawn
    # Fifty pages opened at once take longer than a moment: work that begins between them delays them all.
    if any(thread.name == _DRAWING for thread in threading.enumerate()):
        _last_drawn = monotonic()
    return monotonic() - _last_drawn > _QUIET_S


def start_cleaning() -> None:
    """Start a thread that cancels jobs of closed sessions and frees their memory, as long as the process lives.

    The objects of a session refer to each other, and Python would keep them until enough other garbage came together.
    Streamlit itself keeps up to 128 sessions for two minutes after their connection broke, in case it comes back.
    """

    def clean() -> None:
        while True:
            sleep(_CHECK_S)
            for job in _worker.unfinished():
                if not is_alive(job.session_id):
                    job.cancel()
            if is_quiet():
                gc.collect()

    threading.Thread(target=clean, name="cahp-memory", daemon=True).start()
