"""The search for the fewest heads that lose no measurable ability, as a job of a page."""

from __future__ import annotations

from dataclasses import replace

from cahp.features.abilities.section import RECEIPT
from cahp.goals import ReachedGoal
from cahp.run.goal_search import reach_goal
from cahp.run.settings import Settings
from cahp.ui.frame.measures import estimate
from cahp.ui.session.estimates import recovery_seconds
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import BoardState, Kind
from cahp.values import Progress, digest

#: Numbers of heads that a search tries, about.
_TRIES = 8


def _search(board: BoardState, _: Progress) -> ReachedGoal:
    settings = replace(board.bench.settings, goal=RECEIPT.name, budget=Settings.budget, recover=board.recover)
    assert board.table is not None
    # The masks of the board, which nothing has to choose again.
    return reach_goal(replace(board.bench, settings=settings), board.table.selection, (RECEIPT,))


def _identify(board: BoardState) -> str:
    """Return the key of a search, which does not depend on the mask on the board."""
    bench = board.bench
    return f"fewest-{digest(repr(bench.settings), board.recover, bench.calibration.sha256, bench.evaluation.sha256)}"


def estimate_search_seconds(board: BoardState) -> float:
    """Estimate the seconds of the search for the fewest heads."""
    receipt = estimate(RECEIPT, board.bench, board.recover, RECEIPT.options())
    return _TRIES * (receipt + recovery_seconds(board.bench, board.recover))


#: Search for the fewest heads of CAHP's with which no measurable ability is lost after the board's recovery.
FEWEST: Kind[BoardState, ReachedGoal] = Kind(
    _search,
    _identify,
    Rank.LONG,
    newest=True,
    seconds=estimate_search_seconds,
    title="Search for the fewest heads",
    of_settings=True,
)
