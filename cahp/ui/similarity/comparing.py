"""The distance of two heads in words, and measurements of heads, which the worker computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from cahp.ui.frame.running import follow, offer_again
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import Kind, pass_seconds
from cahp.words import duration

S = TypeVar("S")
T = TypeVar("T")

#: Seconds that a page waits before it shows progress, and up to which work starts without a question.
_PATIENCE_S, _UNASKED_S = 0.7, 60.0

#: The distance of two heads, as a formula and in words.
FORMULA = r"d(a, b) = \frac{1}{S} \sum_{i=1}^{S} \sqrt{\mathrm{JSD}_2(a_i, b_i)}"
HOW = (
    "Each head gives every token a row of attention weights that sum to 1. Two heads are compared row by row with the "
    "square root of the Jensen-Shannon divergence (base 2), averaged over the tokens: 0 means the same attention, 1 "
    "means they never attend to the same token. Similarity is 1 minus that distance."
)


def measure(
    explorer: Explorer,
    kind: Kind[S, T],
    subject: S,
    *,
    name: str,
    title: str,
    texts: int = 1,
    kept: Callable[[], bool] = lambda: False,
) -> T | None:
    """Return the result of the worker (None: running, stopped or failed).

    It starts by itself unless running ``texts`` evaluation texts takes long and the result is not ``kept`` from before;
    then a person starts it. ``name`` distinguishes its buttons, ``title`` stands beside its progress.
    """
    job = explorer.work.job(kind, subject)
    if job is None:
        seconds = pass_seconds(explorer.bench, evaluation=min(1.0, texts / len(explorer.bench.evaluation)))
        ask = seconds > _UNASKED_S and not kept()
        if ask and not st.button(f"{title} (about {duration(seconds)})", key=f"measure-{name}"):
            return None
        job = explorer.work.start(kind, subject)
        job.wait(_PATIENCE_S)
    if not job.ended:
        follow(job, place=name, title=title)
    elif job.result is None:
        offer_again(job, lambda: explorer.work.start(kind, subject), key=f"again-{name}", label="Measure again")
    return job.result
