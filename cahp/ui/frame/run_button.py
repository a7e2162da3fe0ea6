"""The invitation to measure: the button that starts a run, and what a page shows before there is one."""

from __future__ import annotations

import streamlit as st

from cahp.ui.frame.progress import follow
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import RUN, run_seconds
from cahp.words import duration


def run_button(explorer: Explorer, *, place: str, label: str = "Measure on this machine", primary: bool = True) -> None:
    """The button that starts a run, with the time it may take."""
    expected = run_seconds(explorer.bench)
    hint = None if expected is None else f"about {duration(expected)} on this machine"
    if st.button(
        label,
        key=f"run-{place}",
        type="primary" if primary else "secondary",
        help=hint,
        width="stretch" if place == "sidebar" else "content",
    ):
        explorer.work.start(RUN, explorer.bench)
        st.rerun()
    if hint and place == "main":
        st.caption(f"Takes {hint}.")


def need_run(explorer: Explorer) -> None:
    """Stop the page with an invitation to measure, unless there is a run to show."""
    if explorer.results.run is not None:
        return
    with st.container(key="nothing-yet"):
        st.subheader("Nothing has been measured yet")
        card, bench = explorer.card, explorer.bench
        st.markdown(
            f"A run looks at how each of the {card.layers * card.heads} heads attends on {len(bench.calibration):,} "
            f"texts, groups heads that do the same, and measures what is left on {len(bench.evaluation):,} other texts."
        )
        job = explorer.work.job(RUN)
        if job is not None and not job.ended:
            follow(job)
        else:
            run_button(explorer, place="main")
    st.stop()
