"""One line at the lower edge of every page: the work in progress that takes a while, with a button that ends it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.ui.frame.running import describe_progress
from cahp.ui.parts.display import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job, Rank

#: Seconds between two looks at the work in progress.
_PULSE_S = 1.0


def draw(explorer: Explorer) -> None:
    """Draw the line, and follow the work while there is some."""
    # The container always exists, so that the line changes the place of no other element.
    with st.container(key="pill-place"):
        # Work with a title may follow work without one while the whole page does not run again. Nothing follows
        # loading ahead, so the page does not poll for it.
        if any(job.title or job.rank < Rank.BACKGROUND for job in jobs.unfinished(explorer.id)):
            st.fragment(_show, run_every=_PULSE_S)(explorer)


def _show(explorer: Explorer) -> None:
    job = _find_job(explorer)
    if job is None:
        return
    with st.container(key="pill", horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(plain(describe(job, explorer.card.id)))
        st.button("Cancel", key=f"cancel-pill-{job.id}", type="tertiary", on_click=job.cancel)


def _find_job(explorer: Explorer) -> Job[Any] | None:
    """Return the session's work that has a title, the running one first (None: there is none)."""
    named = [job for job in jobs.unfinished(explorer.id) if job.title]
    return min(named, key=lambda job: (job.state != "running", job.paused, job.rank), default=None)


def describe(job: Job[Any], model: str) -> str:
    """Describe a job on ``model``: how far it is, the time left if it is known, and what goes before it."""
    words = describe_progress(job, f"{job.title} of {model}")
    if job.present_rank > Rank.QUICK:
        words += " · what you ask for goes first"
    return words
