"""The distillation of the mask on the board: its explanation, expected time, progress and result."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.recoveries import RECOVERIES
from cahp.run.timeline import on_screen
from cahp.ui.frame.running import describe_place
from cahp.ui.parts.display import problem, show_steps
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job
from cahp.ui.session.work import DISTIL, FIGURE, recovery_seconds
from cahp.words import duration


def note(explorer: Explorer) -> str:
    """Return whether the distilled model on the board was accepted, with the reason."""
    report = explorer.results.distillation(explorer.mask)
    if not RECOVERIES[explorer.recover].trains or report is None:
        return ""
    return f"distillation {'accepted' if report.accepted else 'rejected'}: {report.reason}"


def draw(explorer: Explorer) -> None:
    """Draw its panel, where a distilled model is wanted."""
    job = explorer.work.job(DISTIL)
    running = job is not None and not job.ended
    if not RECOVERIES[explorer.recover].trains and not running:
        return
    with st.container(border=True, key="distilling"):
        st.caption(
            "The full model is the teacher, the pruned model the student: starting from the refit, the student is "
            "trained to reproduce the teacher's scores, without labels."
        )
        if job is not None and not job.ended:
            _progress(explorer, job)
        elif explorer.awaits_distillation:
            _offer(explorer)
        else:
            show_steps(explorer.results.steps(explorer.mask))


def _offer(explorer: Explorer) -> None:
    failed, search = explorer.job(DISTIL), explorer.job(FIGURE)
    if failed is not None and failed.error:
        problem(failed.error)
    if search is not None and not search.ended:
        st.caption("Checking for an existing distilled model…")
        return
    about = duration(recovery_seconds(explorer.bench, explorer.recover))
    if st.button(f"Distil this mask (about {about})", key="distil", type="primary"):
        explorer.training = None
        explorer.start(DISTIL)
        st.rerun()


def _progress(explorer: Explorer, job: Job[Any]) -> None:
    place, training = job.place, explorer.training
    if place is not None:
        text = f"Distilling: {describe_place(place)}"
    else:
        text = on_screen(job.stage) if job.stage else "Starting"
        if job.stage == "distill" and training is not None:
            text += f", epoch {len(training.epochs) + 1}: mean loss {training.loss:.3f} nats"
        left = job.seconds_left
        text += f" · about {duration(left)} left" if left is not None and left >= 1 else ""
    # The progress may be that of another mask than the one on screen.
    other = "" if explorer.job(DISTIL) is job else " (the mask that was on the board before)"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(1.0, job.done / job.total) if job.total else 0.0, text=f"{text}{other}")
        if st.button("Cancel", key="cancel-distil"):
            job.cancel()
            st.rerun()
