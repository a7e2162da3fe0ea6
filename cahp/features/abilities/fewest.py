"""The search on screen for the fewest heads that lose no measurable ability, as ``--goal abilities`` does it."""

from __future__ import annotations

import streamlit as st

from cahp.features.abilities.jobs import FEWEST
from cahp.goals import ReachedGoal
from cahp.recoveries import RECOVERIES
from cahp.ui.frame import notes
from cahp.ui.frame.running import job_card
from cahp.ui.session.explorer import Explorer

#: Name under which a session keeps the mask that was on the board when the search began.
_BEFORE = "abilities.fewest"


def draw(explorer: Explorer) -> None:
    """Draw the button that starts the search, or how far it is; put its result on the board."""
    board = explorer.board_state()
    if explorer.work.job(FEWEST, board) is None and not RECOVERIES[explorer.recover].swept:
        return
    search = job_card(
        explorer,
        FEWEST,
        board,
        name="abilities-fewest",
        title="Searching for the fewest heads",
        offer=f"Find the fewest {explorer.card.unit}s that lose no ability",
        help="Tries numbers of heads until no measurable ability is lost, on these texts: the number is optimistic.",
        on_click=_remember,
        args=(explorer,),
    )
    if search is not None:
        _keep(explorer, search)


def _remember(explorer: Explorer) -> None:
    """Note the board when a search begins."""
    # Another budget must not change the recovery, on which the search depends.
    explorer.chosen_recovery = explorer.recover
    explorer.memory[_BEFORE] = explorer.mask.sha256


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
