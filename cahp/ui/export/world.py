"""What the time of the mask means: texts an hour, and energy and money for a million texts."""

from __future__ import annotations

import streamlit as st

from cahp.costs import KWH_PRICE, WATTS
from cahp.export.real_world import Assumptions, RealWorld
from cahp.ui.export.view import View

#: Session keys: the two assumptions.
_WATTS, _PRICE = "export-watts", "export-price"


def assumed() -> Assumptions:
    """What a person assumes of machine and price, or what is usual."""
    return Assumptions(float(st.session_state.get(_WATTS) or WATTS), float(st.session_state.get(_PRICE) or KWH_PRICE))


def draw(view: View) -> None:
    """Draw it, unless time was not measured or does not change measurably."""
    run = view.document
    if run is None or RealWorld.of(run, Assumptions()) is None:
        return
    st.subheader("What that is worth")
    figures, assumptions = st.columns([3, 2], gap="medium")
    with assumptions:
        st.number_input(
            "The machine draws, in watts", 1.0, 100_000.0, WATTS, key=_WATTS, persist_state="session", format="%g"
        )
        st.number_input(
            "A kilowatt-hour costs", 0.01, 100_000.0, KWH_PRICE, key=_PRICE, persist_state="session", format="%g"
        )
    found = RealWorld.of(run, assumed())
    assert found is not None
    with figures:
        rows = "\n".join(f"| {name} | {' | '.join(cells)} |" for name, cells in found.rows)
        st.markdown(f"| | all heads | pruned | 95 % interval |\n|---|---|---|---|\n{rows}")
    st.caption(f"{found.words} The report says the same.")
