"""A job: some work that sessions wait for, how far it is, and a way out of it."""

from __future__ import annotations

import itertools
import logging
import threading
import traceback
from collections.abc import Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic
from typing import Any, Generic, Literal, Protocol, TypeVar

from cahp.ui.session.presence import alive
from cahp.values import CahpError, Cancelled, Progress, silent

T = TypeVar("T")
State = Literal["queued", "running", "done", "failed", "cancelled"]


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


class Queue(Protocol):
    """What a job asks of whoever does it."""

    def drop(self, job: Job[Any]) -> None:
        """Do not begin it."""

    def place(self, job: Job[Any]) -> Place | None:
        """Where it stands in line, if it has not begun."""

    def usual(self, kind: str) -> float | None:
        """Seconds that work of this kind took lately."""

    def let_pass(self, rank: Rank) -> None:
        """Let work of a better rank go first."""


class Job(Generic[T]):
    """Some work of one session, or of several that share it: where it stands, and what came of it."""

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
        worker: Queue,
        shared: bool = False,
    ):
        self.id = next(self._ids)
        self.session_id, self.key, self.rank, self.shared = session_id, key, rank, shared
        self._sessions = {session_id}
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

    def is_of(self, session_id: str) -> bool:
        """Whether this session asked for it."""
        return session_id in self._sessions

    def cancel(self, session_id: str | None = None) -> None:
        """End at once for whoever waits; work that has begun stops at its next batch, and what it finds is dropped.

        Where others share it, one session alone (``session_id``) only leaves it to them.
        """
        with self._ending:
            self._sessions.discard(session_id or "")
            if session_id is not None and self._sessions:
                return
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
        if self._stop.is_set() or not self.wanted():
            raise Cancelled

    def wanted(self) -> bool:
        """Whether any session that asked for it is still there."""
        return any(alive(session_id) for session_id in self._sessions.copy())

    def join(self, session_id: str) -> bool:
        """Share it with another session, unless it has ended."""
        with self._ending:
            if not self.ended and not self._stop.is_set():
                self._sessions.add(session_id)
        return self.is_of(session_id)

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
