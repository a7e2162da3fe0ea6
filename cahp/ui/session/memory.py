"""Giving memory back: what sessions had that are gone, soon after they went, when nobody waits for a page."""

from __future__ import annotations

import gc
import threading
from time import monotonic, sleep
from typing import Protocol
from weakref import WeakSet

from streamlit.runtime import Runtime

from cahp.ui.session import jobs


class Session(Protocol):
    """What a session holds on to."""

    @property
    def id(self) -> str:
        """The session's id."""


#: Seconds between two looks at who is gone.
_EVERY_S = 30.0

#: Seconds without a page after which nobody is thought to wait for one.
_QUIET_S = 1.0

#: What Streamlit calls the threads that draw pages; each lives as long as its page is being drawn.
_DRAWING = "ScriptRunner.scriptThread"

_sessions: WeakSet[Session] = WeakSet()
_lock = threading.Lock()
_drawn = 0.0


def remember(session: Session) -> None:
    """Look after what this session holds on to; that alone does not keep it."""
    with _lock:
        _sessions.add(session)


def page_drawn() -> None:
    """A page, or a part of one, is being drawn."""
    global _drawn
    _drawn = monotonic()


def quiet() -> bool:
    """Whether no page is being drawn, and none was begun for a moment."""
    # Fifty pages that are opened at once take longer than a moment: what begins between them makes all of them wait.
    drawing = any(thread.name == _DRAWING for thread in threading.enumerate())
    return not drawing and monotonic() - _drawn > _QUIET_S


def give_back() -> bool:
    """Collect what sessions had that are gone; whether there was any.

    Such a session's parts know each other, and Python would keep them until enough other garbage came together.
    Streamlit itself keeps up to 128 sessions for two minutes after their connection broke, in case they come back.
    """
    with _lock:
        there = list(_sessions)
    gone = Runtime.exists() and any(not Runtime.instance().is_active_session(one.id) for one in there)
    del there
    if gone:
        gc.collect()
    return gone


def look_after() -> None:
    """Start a thread that gives memory back as long as the process lives."""
    threading.Thread(target=_look_after, name="cahp-memory", daemon=True).start()


def _look_after() -> None:
    while True:
        sleep(_EVERY_S)
        jobs.forget_gone()
        if quiet():
            give_back()
