"""The state and the work of one browser session."""

from cahp.ui.session.explorer import Explorer as Explorer, Pin as Pin
from cahp.ui.session.jobs import Rank as Rank, is_alive as is_alive
from cahp.ui.session.opening import Source as Source
from cahp.ui.session.work import (
    REFIT as REFIT,
    ROLES as ROLES,
    TABLE as TABLE,
    BoardState as BoardState,
    Kind as Kind,
    loading_seconds as loading_seconds,
    pass_seconds as pass_seconds,
)
