"""The texts whose prediction changes under the mask."""

from __future__ import annotations

import streamlit as st

from cahp.ui.parts.display import as_csv, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import FLIPS


def draw(explorer: Explorer) -> None:
    """Draw the texts, on request."""
    if explorer.awaits_distillation:
        st.caption("Distil this mask first (above).")
        return
    job = explorer.job(FLIPS)
    if job is None:
        st.markdown("Which predictions change under this mask?")
        if st.button("Show them", key="show-flips"):
            explorer.start(FLIPS)
            st.rerun()
    elif not job.ended:
        st.caption("Comparing predictions…")
    elif job.error:
        problem(job.error)
    else:
        flips = job.result or []
        lost = sum(flip.full == flip.label for flip in flips)
        won = sum(flip.pruned == flip.label for flip in flips)
        st.markdown(
            f"**{len(flips)} of {len(explorer.bench.evaluation)} answers changed: {lost} became wrong, {won} became "
            f"right, {len(flips) - lost - won} stayed wrong.**"
        )
        if flips:
            table = {
                "text": [flip.text for flip in flips],
                "label": [flip.label for flip in flips],
                "all heads": [flip.full for flip in flips],
                "this mask": [flip.pruned for flip in flips],
            }
            st.dataframe(
                table,
                hide_index=True,
                # The predictions come first: on a phone a text fills the table.
                column_order=[*(name for name in table if name != "text"), "text"],
                column_config={"text": st.column_config.TextColumn(width="large")},
                key="flips",
            )
            st.download_button(
                "CSV",
                lambda: as_csv(table),
                "changed-answers.csv",
                "text/csv",
                key="csv-flips",
                on_click="ignore",
                type="tertiary",
            )
