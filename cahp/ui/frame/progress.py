"""How far the worker is with a job, on screen."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.ui.parts.text import plain
from cahp.ui.session.jobs import Job
from cahp.words import duration

#: What a stage is called on screen.
STAGES = {
    "load": "Reading and proving the model",
    "salience": "How much each head matters",
    "scores": "Scoring the heads",
    "training gates": "Training gates on the heads",
    "signatures": "How each head attends",
    "features": "How each head separates the classes",
    "projection": "Placing the heads in one space",
    "clustering": "Clustering",
    "evaluation": "Answering the texts",
    "recovery": "Refitting",
    "refit": "Refitting",
    "latency": "Timing",
    "finetune": "Fine-tuning",
    "distances": "Comparing the heads",
    "another look": "Looking again",
    "table": "Measuring every budget",
}


def follow(job: Job[Any], *, place: str = "main", title: str = "") -> None:
    """Draw the job's progress with the time left and a way out; the page runs again when it has ended."""
    if not job.ended:
        st.fragment(_follow, run_every=0.5)(job, place, title)


def _follow(job: Job[Any], place: str, title: str) -> None:
    if job.ended:
        st.rerun()
    if job.state == "queued":
        said, share = f"{title or 'Waiting'}: other work is finished first", 0.0
    else:
        said = title or STAGES.get(job.stage, job.stage.capitalize() or "Starting")
        share = min(1.0, job.done / job.total) if job.total else 0.0
    left = job.seconds_left
    if left is not None and left >= 1:
        said += f" · about {duration(left)} left"
    st.progress(share, text=plain(said))
    if st.button("Cancel", key=f"cancel-{place}-{job.id}"):
        job.cancel()
        st.rerun()
