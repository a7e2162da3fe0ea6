"""The switch that keeps the same number of heads in every layer, and what that costs."""

from __future__ import annotations

import streamlit as st

from cahp.run.evenness import Evenness
from cahp.ui.frame import notes
from cahp.ui.frame.running import follow, offer_again
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
    job = explorer.job(EVENNESS)
    if measured is None and run.mask.sha256 == explorer.mask.sha256:
        measured = run.evenness
    if job is not None:
        measured = job.result
    if job is not None and not job.ended:
        follow(job, place=key, title="Compare with a free selection")
    elif job is not None and job.error:
        offer_again(job, lambda: explorer.start(EVENNESS), key=f"{key}-again")
    elif measured is not None:
        st.caption(plain(capital(measured.finding)))
    elif st.button("Measure what this costs", key=f"{key}-price", help="KL divergence against a free selection"):
        explorer.start(EVENNESS)
        st.rerun()
