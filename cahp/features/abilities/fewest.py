"""The search on screen for the fewest heads that lose no measurable ability, as ``--goal abilities`` does it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import streamlit as st

from cahp.features.abilities.section import RECEIPT
from cahp.goals import ReachedGoal
from cahp.recoveries import RECOVERIES
from cahp.run.goal_search import reach_goal
from cahp.run.prune import choose
from cahp.run.settings import Settings
from cahp.ui.frame import notes
from cahp.ui.frame.running import show_in_row
from cahp.ui.parts.display import problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import BoardState, Kind, recovery_seconds
from cahp.values import Progress, digest
from cahp.words import duration

#: Numbers of heads that a search tries, about.
_TRIES = 8


def _search(board: BoardState, _: Progress) -> ReachedGoal:
    settings = replace(board.bench.settings, goal=RECEIPT.name, budget=Settings.budget, recover=board.recover)
    bench = replace(board.bench, settings=settings)
    return reach_goal(bench, partial(choose, bench), (RECEIPT,))


def _identify(board: BoardState) -> str:
    """Return the key of a search, which does not depend on the mask on the board."""
    bench = board.bench
    return f"fewest-{digest(repr(bench.settings), board.recover, bench.calibration.sha256, bench.evaluation.sha256)}"


#: Search for the fewest heads of CAHP's with which no measurable ability is lost after the board's recovery.
FEWEST: Kind[BoardState, ReachedGoal] = Kind(
    _search, _identify, Rank.LONG, newest=True, title="Search for the fewest heads"
)


def draw(explorer: Explorer, receipt_seconds: float) -> None:
    """Draw the button that starts the search, or how far it is; put its result on the board."""
    job = explorer.job(FEWEST)
    if job is not None and not job.ended:
        show_in_row(job, "Searching for the fewest heads", key="stop-fewest")
        return
    if job is not None and job.error:
        problem(job.error)
    if job is not None and job.result is not None:
        _keep(explorer, job.result)
        return
    if not RECOVERIES[explorer.recover].swept:
        return
    about = duration(_TRIES * (receipt_seconds + recovery_seconds(explorer.bench, explorer.recover)))
    if st.button(
        f"Fewest {explorer.card.unit}s that lose none (about {about})",
        key="abilities-fewest",
        help="Tries numbers of heads until no measurable ability is lost, on these texts: the number is optimistic.",
    ):
        explorer.start(FEWEST)
        st.rerun()


def _keep(explorer: Explorer, found: ReachedGoal) -> None:
    """Put the heads that a search has found on the board, and say so."""
    recover = explorer.recover
    explorer.work.drop(FEWEST)
    # The abilities are those after this recovery, which another budget must not change.
    explorer.chosen_recovery = recover
    explorer.board.set_budget(found.heads)
    notes.write(
        f"{found.heads} {explorer.card.unit}s are the fewest with which no measurable ability is lost "
        f"{RECOVERIES[recover].beside}; {found.measured} of {found.budgets} budgets were measured."
    )
    st.rerun()
