"""Whether anybody still looks: sessions end when a tab is closed, not when a connection breaks for a moment."""

from __future__ import annotations

from time import monotonic

from streamlit.runtime import Runtime

#: Seconds after which a session that nobody is connected to has ended.
_PATIENCE_S = 60.0

#: Sessions whose last sign of life is remembered.
_REMEMBERED = 1000

#: When each session was last seen, on the clock of ``monotonic``.
_seen: dict[str, float] = {}


def alive(session_id: str) -> bool:
    """Whether anybody still looks at this session, or did a moment ago."""
    now = monotonic()
    if not Runtime.exists() or Runtime.instance().is_active_session(session_id):
        _seen[session_id] = now
        return True
    lately = now - _seen.setdefault(session_id, now) < _PATIENCE_S
    if len(_seen) > _REMEMBERED:
        for gone in [other for other, at in _seen.copy().items() if now - at > 2 * _PATIENCE_S]:
            _seen.pop(gone, None)
    return lately


def served(session_id: str) -> bool:
    """Whether a server of this process shows this session to a browser; pages also run without one, in tests."""
    # Streamlit's own tests put something in the runtime's place that says yes, or anything, to all.
    return Runtime.exists() and Runtime.instance().is_active_session(session_id) is True
