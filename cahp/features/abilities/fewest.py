"""The search on screen for the fewest heads that lose no measurable ability, as ``--goal abilities`` does it."""

from __future__ import annotations

import streamlit as st

from cahp.features.abilities.jobs import FEWEST, estimate_search_seconds
from cahp.goals import ReachedGoal
from cahp.recoveries import RECOVERIES
from cahp.ui.frame import notes
from cahp.ui.frame.running import show_in_row
from cahp.ui.parts.display import problem
from cahp.ui.session.explorer import Explorer
from cahp.words import duration

#: Name under which a session keeps the mask that was on the board when the search began.
_BEFORE = "abilities.fewest"


def draw(explorer: Explorer) -> None:
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
    about = duration(estimate_search_seconds(explorer.board_state()))
    if st.button(
        f"Find the fewest {explorer.card.unit}s that lose no ability (about {about})",
        key="abilities-fewest",
        help="Tries numbers of heads until no measurable ability is lost, on these texts: the number is optimistic.",
    ):
        # Another budget must not change the recovery, on which the search depends.
        explorer.chosen_recovery = explorer.recover
        explorer.memory[_BEFORE] = explorer.mask.sha256
        explorer.start(FEWEST)
        st.rerun()


def drop_outdated(explorer: Explorer) -> None:
    """Cancel a search with another recovery than the board's, whose progress is shown nowhere."""
    if explorer.job(FEWEST) is not explorer.work.job(FEWEST):
        explorer.work.drop(FEWEST)


def _keep(explorer: Explorer, found: ReachedGoal) -> None:
    """Say how many heads a search has found, and put them on the board unless a person has changed it since."""
    explorer.work.drop(FEWEST)
    if explorer.mask.sha256 == explorer.memory.pop(_BEFORE, None):
        explorer.board.set_budget(found.heads)
    notes.write(
        f"{found.heads} {explorer.card.unit}s are the fewest with which no measurable ability is lost "
        f"{RECOVERIES[explorer.recover].beside}; {found.measured} of {found.budgets} budgets were measured."
    )
    st.rerun()
