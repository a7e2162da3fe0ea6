"""How far the worker is with a job, on screen."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.run.timeline import on_screen
from cahp.ui.parts.text import plain
from cahp.ui.session.jobs import Job, Place
from cahp.words import duration, ordinal


def in_line(place: Place) -> str:
    """A place in the queue, and for how long, as far as that can be said."""
    said = "next in line" if place.number == 1 else f"{ordinal(place.number)} in line"
    return said if place.seconds is None or place.seconds < 1 else f"{said}, about {duration(place.seconds)}"


def in_row(job: Job[Any], doing: str, *, key: str) -> None:
    """What the job does, drawn once, with a way out beside it; the page sees to it that it is drawn again."""
    place = job.place
    said = f"Waiting: {in_line(place)}" if place is not None else doing
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(1.0, job.done / job.total) if job.total else 0.0, text=said)
        if st.button("Cancel", key=key):
            job.cancel()
            st.rerun()


def follow(job: Job[Any], *, place: str = "main", title: str = "") -> None:
    """Draw the job's progress with the time left and a way out; the page runs again when it has ended."""
    if not job.ended:
        st.fragment(_follow, run_every=0.5)(job, place, title)


def _follow(job: Job[Any], where: str, title: str) -> None:
    if job.ended:
        st.rerun()
    place = job.place
    if place is not None:
        said, share = f"{title or 'Waiting'}: {in_line(place)}", 0.0
    else:
        said = title or (on_screen(job.stage) if job.stage else "Starting")
        share = min(1.0, job.done / job.total) if job.total else 0.0
        left = job.seconds_left
        if left is not None and left >= 1:
            said += f" · about {duration(left)} left"
    st.progress(share, text=plain(said))
    if st.button("Cancel", key=f"cancel-{where}-{job.id}"):
        job.cancel()
        st.rerun()
