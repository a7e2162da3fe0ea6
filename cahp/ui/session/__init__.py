"""The state and the work of one browser session."""

from cahp.ui.session.explorer import Explorer, Pin
from cahp.ui.session.jobs import Rank, is_alive
from cahp.ui.session.opening import Source
from cahp.ui.session.work import (
    REFIT,
    ROLES,
    TABLE,
    BoardState,
    Kind,
    loading_seconds,
    pass_seconds,
)

__all__ = [
    "REFIT",
    "ROLES",
    "TABLE",
    "BoardState",
    "Explorer",
    "Kind",
    "Pin",
    "Rank",
    "Source",
    "is_alive",
    "loading_seconds",
    "pass_seconds",
]
