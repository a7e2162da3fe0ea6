"""The state and the work of one browser session."""

from cahp.ui.session.estimates import loading_seconds, pass_seconds, recovery_seconds
from cahp.ui.session.explorer import Explorer, Pin
from cahp.ui.session.jobs import Job, Rank
from cahp.ui.session.lifetime import is_alive
from cahp.ui.session.opening import Source
from cahp.ui.session.work import REPLACEABILITY, ROLES, TABLE, WARM, BoardState, Kind

__all__ = [
    "REPLACEABILITY",
    "ROLES",
    "TABLE",
    "WARM",
    "BoardState",
    "Explorer",
    "Job",
    "Kind",
    "Pin",
    "Rank",
    "Source",
    "is_alive",
    "loading_seconds",
    "pass_seconds",
    "recovery_seconds",
]
