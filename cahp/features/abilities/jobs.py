"""The measurements of abilities that pages start: the receipt of the mask on the board, and the fewest heads."""

from __future__ import annotations

from dataclasses import replace

from cahp.features.abilities.receipt import count_passes, measure_receipt
from cahp.features.abilities.record import AbilitiesRecord
from cahp.features.abilities.section import RECEIPT
from cahp.features.abilities.shipped import ships_losses
from cahp.goals import ReachedGoal
from cahp.run.goal_search import reach_goal
from cahp.run.settings import Settings
from cahp.ui.session.estimates import count_models, pass_seconds, recovery_seconds
from cahp.ui.session.jobs import Rank
from cahp.ui.session.time_left import whole
from cahp.ui.session.work import BoardState, Kind
from cahp.values import Progress, digest

#: Numbers of heads that a search tries, about.
_TRIES = 8


def _measure(board: BoardState, _: Progress) -> AbilitiesRecord:
    recovered = None
    if not board.mask.is_full:
        recovered = board.bench.recoveries.recover(board.mask, board.recover)
    record = measure_receipt(board.bench, board.mask, recovered)
    # Another mask may be on the board by now.
    board.results.records[RECEIPT.name, board.mask.sha256, board.recover] = record
    return record


def estimate_seconds(board: BoardState) -> float:
    """Estimate the seconds of a receipt of the mask on the board."""
    models = count_models(board.recover)
    if ships_losses(board.bench.card):
        models -= 1
    return pass_seconds(board.bench, evaluation=models * count_passes(board.bench, complete=True))


#: Measure the abilities of the mask on the board, with its recovery.
MEASURE: Kind[BoardState, AbilitiesRecord] = Kind(
    _measure,
    lambda board: f"abilities-{board}",
    Rank.RUN,
    plan=lambda board: whole(estimate_seconds(board)),
    title="What still works",
)


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
    return _TRIES * (estimate_seconds(board) + recovery_seconds(board.bench, board.recover))


#: Search for the fewest heads of CAHP's with which no measurable ability is lost after the board's recovery.
FEWEST: Kind[BoardState, ReachedGoal] = Kind(
    _search,
    _identify,
    Rank.LONG,
    newest=True,
    plan=lambda board: whole(estimate_search_seconds(board)),
    title="Search for the fewest heads",
    of_settings=True,
)
