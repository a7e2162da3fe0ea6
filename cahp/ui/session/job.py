"""A job: work that one session waits for, or several that share it, with its progress and a way to cancel it."""

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

from cahp.ui.session.lifetime import is_alive
from cahp.values import CahpError, Cancelled, Progress, silent

T = TypeVar("T")
State = Literal["queued", "running", "done", "failed", "cancelled"]


class Rank(IntEnum):
    """The priority of a job; lower values go first."""

    QUICK = 0
    RUN = 1
    BACKGROUND = 2


@dataclass(frozen=True)
class Place:
    """A job's place in the queue: ``number`` 1 is the next; ``seconds`` until it starts (None: unknown)."""

    number: int
    seconds: float | None


class Queue(Protocol):
    """The queue that a job waits in."""

    #: About how many seconds recent jobs of each kind took.
    typical_seconds: dict[str, float]

    def drop(self, job: Job[Any]) -> None:
        """Remove a job that has not started."""

    def place(self, job: Job[Any]) -> Place | None:
        """Return the place of a job that has not started."""

    def run_above(self, rank: Rank) -> None:
        """Run all waiting jobs of a better rank in the calling thread."""


class Job(Generic[T]):
    """Work of one session, or of several that share it; ``state`` and ``result`` change when it ends.

    The parameters are those of ``jobs.submit``.
    """

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
        shared: bool,
        queue: Queue,
    ):
        self.id = next(self._ids)
        self.session_id, self.key, self.rank, self.shared = session_id, key, rank, shared
        self._sessions = {session_id}
        self.state: State = "queued"
        self.stage, self.done, self.total = "", 0, 0
        self.result: T | None = None
        self.error: str | None = None
        self._work, self._expected, self._headline = work, expected, headline
        self._queue = queue
        self._steps: Generator[None, None, T] | None = None
        self._started: float | None = None
        #: When the current stage began, and how much of it was done then.
        self._stage_began, self._stage_base = monotonic(), 0
        self._stop, self._end, self._ending = threading.Event(), threading.Event(), threading.Lock()

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.key!r}, {self.state})"

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self._end.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the end; return whether it has ended."""
        return self._end.wait(seconds)

    def belongs_to(self, session_id: str) -> bool:
        """Return whether this session waits for it."""
        return session_id in self._sessions

    def cancel(self, session_id: str | None = None) -> None:
        """End the job at once; work that has started stops at its next batch, and its result is dropped.

        A shared job ends when its last session cancels it; with ``session_id`` only this one leaves it.
        """
        with self._ending:
            self._sessions.discard(session_id or "")
            if session_id is not None and self._sessions:
                return
            self._stop.set()
        self._queue.drop(self)
        # Loading a model reports nothing for seconds: cancelling does not wait for it.
        self._finish("cancelled")

    @property
    def kind(self) -> str:
        """The first word of its key: jobs of a kind take about the same time."""
        return self.key.partition("-")[0]

    @property
    def place(self) -> Place | None:
        """Its place in the queue, or None once it has started."""
        return self._queue.place(self)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, from the expected time and the pace of this stage (None: unknown)."""
        if self._started is None:
            return self._expected if self._expected is not None else self._queue.typical_seconds.get(self.kind)
        estimates = [] if self._expected is None else [self._expected - (monotonic() - self._started)]
        spent = monotonic() - self._stage_began
        if self.done > self._stage_base and spent > 0.5:
            estimates.append(spent * (self.total - self.done) / (self.done - self._stage_base))
        return max(0.0, *estimates) if estimates else None

    def _report(self, stage: str, done: int, total: int) -> None:
        self._raise_if_unwanted()
        if self._headline in (None, stage):
            if stage != self.stage or done < self.done:
                self._stage_began, self._stage_base = monotonic(), done
            self.stage, self.done, self.total = stage, done, total
        # Loading a model holds a lock that the other job might need.
        if stage != "load":
            self._queue.run_above(self.rank)
            self._raise_if_unwanted()

    def _raise_if_unwanted(self) -> None:
        if self._stop.is_set() or not self.is_wanted():
            raise Cancelled

    def is_wanted(self) -> bool:
        """Return whether any session that waits for it is still open."""
        return any(is_alive(session_id) for session_id in self._sessions.copy())

    def join(self, session_id: str) -> bool:
        """Let another session share it; return whether that was in time."""
        with self._ending:
            if not self.ended and not self._stop.is_set():
                self._sessions.add(session_id)
        return self.belongs_to(session_id)

    def advance(self) -> bool:
        """Work until the end or the next pause; return whether there is more to do."""
        with self._ending:
            if self.ended:
                return False
            if self._started is None:
                self._started, self.state = monotonic(), "running"
            work, steps = self._work, self._steps
        token = _progress.set(self._report)
        try:
            if steps is None:
                result = work(self._report)
                if not isinstance(result, Generator):
                    self._finish("done", result=result)
                    return False
                steps = result
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
            logging.getLogger(__name__).error(  # noqa: TRY400
                "job %d failed: %s\n%s", self.id, type(error).__name__, frames
            )
            self._finish("failed", error=f"Unexpected error ({type(error).__name__}); see the server's log.")
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
            # The work refers to texts and a model, which must not live as long as a page remembers the job.
            self._work, self._steps = lambda _: None, None
            self._end.set()


#: The progress callback of the job that this thread works on.
_progress: ContextVar[Progress] = ContextVar("cahp_progress", default=silent)


def relay(stage: str, done: int, total: int) -> None:
    """Report progress to the job that the calling thread works on: for resources that outlive a job."""
    _progress.get()(stage, done, total)
