"""Below the board: the progress of the table of all budgets, the time of the mask, and the test split."""

from __future__ import annotations

import streamlit as st

from cahp.outcomes import Outcomes
from cahp.ui.frame.page import provenance
from cahp.ui.frame.running import time_button
from cahp.ui.parts.display import problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import CONFIRM, SPEED, TABLE
from cahp.words import duration


def draw(explorer: Explorer) -> None:
    """Draw what is being measured for the board, and what else can be measured."""
    _table_progress(explorer)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _confirm(explorer)
        job = explorer.job(SPEED)
        if job is not None and not job.ended:
            st.caption("Measuring the time…")
        elif time_button(explorer, place="budget"):
            st.rerun()
        st.caption(provenance(explorer, explorer.recover))


def _table_progress(explorer: Explorer) -> None:
    """Draw the progress of the table of all budgets."""
    table, job = explorer.table(explorer.recover), explorer.work.job(TABLE)
    assert table is not None
    done, total = table.measured()
    for failed in (job, explorer.job(SPEED)):
        if failed is not None and failed.error:
            problem(failed.error)
    if job is not None and not job.ended:
        left = job.seconds_left
        rest = "" if left is None or left < 1 else f" · about {duration(left)} left"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.progress(done / total, text=f"Measuring every budget: {done} of {total}{rest}")
            if st.button("Stop", key="stop-table"):
                job.cancel()
                st.rerun()
    elif table.missing() is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Measure all budgets", key="fill-table", type="tertiary"):
                explorer.start(TABLE)
                st.rerun()
            st.caption(f"{done} of {total} budgets measured")


def _confirm(explorer: Explorer) -> None:
    # The check never trains a model.
    if "test" not in explorer.bench.dataset.splits or explorer.awaits_distillation:
        return
    job = explorer.job(CONFIRM)
    if job is None:
        with st.popover("Check on the test split", type="tertiary", key="ask-confirm"):
            st.markdown(
                "The test split selected nothing, so it can confirm a figure. Every use makes that less true, so each "
                "is **counted** across sessions, and the count appears beside the result."
            )
            if st.button("Use it once for this mask", key="confirm", type="primary"):
                explorer.start(CONFIRM)
                st.rerun()
    elif not job.ended:
        st.caption("Evaluating on the test split…")
    elif job.result is not None:
        st.markdown(f"**Test split: {_sentence(job.result.outcomes)}** · used {job.result.opened} time(s) so far")
    elif job.error:
        problem(job.error)


def _sentence(outcomes: Outcomes) -> str:
    accuracy = outcomes["accuracy"]
    return f"{accuracy.text} ({accuracy.span}, n = {accuracy.n}), {outcomes['accuracy_change'].text} against all heads"
