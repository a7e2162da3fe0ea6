"""Long work outside the sessions: one worker thread, a queue in three ranks, progress, and a way out.

Streamlit's sessions each run in a thread of their own and share this process. Two models computing at once would slow
each other down more than waiting does, so one thread does all the work. What a person waits for goes before a run, a
run before what is filled in behind the scenes; the lower rank steps aside between two batches. Within a rank, sessions
take turns: who asks for much waits for it longer, and others do not.

What computes little and cannot say how far it is, downloads and opening a model and data, is done aside, by a few
threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from cahp.ui.session.job import Job, Place, Rank, relay
from cahp.ui.session.worker import Worker
from cahp.values import Progress

__all__ = ["Job", "Place", "Rank", "forget_gone", "relay", "submit", "submit_aside", "unfinished"]

T = TypeVar("T")

#: Threads for what is done aside: downloads mostly wait for the network.
_ASIDE = 4

_worker = Worker("cahp-worker")
_aside = Worker("cahp-aside", threads=_ASIDE, steps_aside=False)


def submit(
    session_id: str,
    key: str,
    work: Callable[[Progress], T] | Callable[[Progress], Generator[None, None, T]],
    *,
    rank: Rank = Rank.RUN,
    expected: float | None = None,
    headline: str | None = None,
    shared: bool = False,
) -> Job[T]:
    """Let the worker do ``work``; the same key of the same session that has not ended is the same job.

    What is ``shared`` is the same job for all sessions with that key, and goes on as long as one of them is there.

    ``work`` gets a progress callback that raises ``Cancelled`` when it should stop. It may be a generator: it is then
    interrupted at every ``yield``, and others of its rank take turns. ``expected`` are the seconds it may take; with a
    ``headline`` only the progress of that stage is shown.
    """
    return _worker.submit(
        Job(session_id, key, work, rank=rank, expected=expected, headline=headline, worker=_worker, shared=shared)
    )


def submit_aside(session_id: str, key: str, work: Callable[[Progress], T]) -> Job[T]:
    """Have ``work`` done beside the worker: it waits for the network or a disk, and says nothing of how far it is.

    One at a time for a session. Whoever cancels goes on at once; the thread is free again when the work returns.
    """
    return _aside.submit(Job(session_id, key, work, rank=Rank.QUICK, expected=None, headline=None, worker=_aside))


def forget_gone() -> None:
    """Drop what waits for sessions that are gone, with all it holds on to."""
    for worker in (_worker, _aside):
        worker.forget_gone()


def unfinished(session_id: str) -> list[Job[Any]]:
    """A session's jobs that are queued or running."""
    return _worker.of(session_id) + _aside.of(session_id)
