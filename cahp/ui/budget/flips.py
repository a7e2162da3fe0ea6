"""Which texts get another answer than from all heads."""

from __future__ import annotations

import streamlit as st

from cahp.ui.frame import page as shell
from cahp.ui.session.explorer import Explorer


def draw(explorer: Explorer) -> None:
    """The texts, on request."""
    job = explorer.flip_job
    key = f"flips-{explorer.mask.sha256}-{explorer.recover}"
    if job is None or job.key != key:
        st.markdown("Which texts get another answer than from all heads?")
        if st.button("Show them", key="show-flips"):
            explorer.flips(explorer.recover)
            st.rerun()
    elif not job.ended:
        st.caption("Comparing answers…")
    elif job.error:
        shell.problem(job.error)
    else:
        flips = job.result or []
        lost = sum(flip.full == flip.label for flip in flips)
        won = sum(flip.pruned == flip.label for flip in flips)
        st.markdown(f"**{len(flips)} answers changed: {lost} right ones were lost, {won} were won.**")
        if flips:
            st.dataframe(
                {
                    "text": [flip.text for flip in flips],
                    "label": [flip.label for flip in flips],
                    "all heads say": [flip.full for flip in flips],
                    "this mask says": [flip.pruned for flip in flips],
                },
                hide_index=True,
                column_config={"text": st.column_config.TextColumn(width="large")},
            )
