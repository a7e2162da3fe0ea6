"""The switch that keeps the same number of heads in every layer, and what that costs."""

from __future__ import annotations

import streamlit as st

from cahp.run.document import Evenness
from cahp.ui.frame import notes
from cahp.ui.frame.running import job_card
from cahp.ui.parts.display import plain
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import EVENNESS
from cahp.values import CahpError
from cahp.words import capital


def draw(explorer: Explorer, *, place: str, measured: Evenness | None = None) -> None:
    """Draw the switch in a ``place`` of a page; below it the price of the mask on the board, ``measured`` or not."""
    key = f"{place}-even"

    def change() -> None:
        notes.clear()
        try:
            explorer.change(even=st.session_state[key])
        except CahpError as error:
            notes.write(error)

    set_value(key, explorer.settings.even)
    st.toggle(
        f"The same number of {explorer.card.unit}s in every layer",
        key=key,
        on_change=change,
        help="A language model that is pruned evenly can be exported as a standard checkpoint.",
    )
    if not explorer.settings.even or explorer.board.by_hand or explorer.mask.is_full or explorer.results.run is None:
        return
    run = explorer.results.run
    if measured is None and run.mask.sha256 == explorer.mask.sha256:
        measured = run.evenness
    if measured is None:
        measured = job_card(
            explorer,
            EVENNESS,
            explorer.board_state(),
            name=f"{key}-price",
            title="Compare with a free selection",
            offer="Measure what this costs",
            help="KL divergence against a free selection",
        )
    if measured is not None:
        st.caption(plain(capital(measured.finding)))
