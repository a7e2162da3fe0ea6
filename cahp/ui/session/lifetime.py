"""Which sessions are still open, and how the memory of closed ones is freed soon after, while no page is drawn."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from time import monotonic, sleep

from streamlit.runtime import Runtime

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
