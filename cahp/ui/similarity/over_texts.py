"""Measurements of heads over the evaluation texts: computed by the worker, kept in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st

from cahp.run.bench import Bench
from cahp.studies.head_habits import TEXTS, HeadHabits, head_habits, kept_habits
from cahp.studies.one_head import LookAlikes, Removal, compare_head, remove_head
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import Kind, reading_seconds
from cahp.words import duration

S = TypeVar("S")
T = TypeVar("T")

#: Seconds that a page waits before it shows progress, and up to which work starts without a question.
_PATIENCE_S, _UNASKED_S = 0.7, 60.0


@dataclass(frozen=True, eq=False)
class HeadOf:
    """A head of a model on its data."""

    bench: Bench
    head: int


def _name(bench: Bench) -> str:
    return f"{bench.card.sha256[:16]}-{bench.evaluation.sha256[:16]}"


#: Attention targets of every head; shared by all sessions of a model and its texts.
HABITS: Kind[Bench, HeadHabits] = Kind(
    lambda bench, _: head_habits(bench), lambda bench: f"habits-{_name(bench)}", awaited=False, shared=True
)
#: The cost of removing one head.
REMOVAL: Kind[HeadOf, Removal] = Kind(
    lambda asked, _: remove_head(asked.bench, asked.head),
    lambda asked: f"removal-{asked.head}-{_name(asked.bench)}",
    awaited=False,
    newest=True,
)
#: The heads that attend alike.
ALIKE: Kind[HeadOf, LookAlikes] = Kind(
    lambda asked, _: compare_head(asked.bench, asked.head),
    lambda asked: f"alike-{asked.head}-{_name(asked.bench)}",
    awaited=False,
    newest=True,
)


def habits(explorer: Explorer) -> HeadHabits | None:
    """Return the attention targets of every head, as ``measured`` does."""
    bench = explorer.bench
    texts, title = min(TEXTS, len(bench.evaluation)), "Measure attention targets"
    return measured(
        explorer, HABITS, bench, name="habits", texts=texts, title=title, kept=lambda: kept_habits(bench) is not None
    )


def measured(
    explorer: Explorer,
    kind: Kind[S, T],
    subject: S,
    *,
    name: str,
    texts: int,
    title: str,
    kept: Callable[[], bool] = lambda: False,
) -> T | None:
    """Return the result of the worker (None: running, stopped or failed).

    It starts by itself unless running ``texts`` evaluation texts takes long and the result is not ``kept`` from before;
    then a person starts it. ``name`` distinguishes its buttons, ``title`` stands beside its progress.
    """
    job = explorer.work.job(kind, subject)
    if job is None:
        seconds = reading_seconds(explorer.bench, texts)
        ask = seconds > _UNASKED_S and not kept()
        if ask and not st.button(f"{title} (about {duration(seconds)})", key=f"measure-{name}"):
            return None
        job = explorer.work.start(kind, subject)
        job.wait(_PATIENCE_S)
    if not job.ended:
        follow(job, place=name, title=title)
        return None
    if job.result is None:
        if job.error:
            problem(job.error)
        else:
            st.caption("Stopped. Results so far are kept.")
        if st.button("Measure again", key=f"again-{name}"):
            explorer.work.start(kind, subject)
            st.rerun()
    return job.result
