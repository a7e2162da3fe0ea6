"""Stability: how often each head is kept over seeds, samples and degrees."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.studies.stability import Axis, Stability, cached, over_degrees, stability
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import problem
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.stability import findings
from cahp.ui.stability.findings import VARIATIONS


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Is the choice of heads stable?")
    st.markdown(
        "The choice of heads depends on a random projection, on a sample of texts and on the degree of a polynomial. "
        "This page changes one of them, repeats the choice, and counts how often each head is kept."
    )
    axis, resamples, budget = _asked(explorer)
    result = _result(explorer, axis, resamples, budget)
    if result is not None:
        findings.draw(explorer, result, asked=resamples)


def _asked(explorer: Explorer) -> tuple[Axis, int, int | None]:
    """Ask what to vary, how often, and how many heads to keep."""
    what, often, how_many = st.columns([12, 5, 8], vertical_alignment="top", gap="medium")
    with what:
        axis: Axis = (
            st.segmented_control(
                "What to vary",
                list(VARIATIONS),
                default="degree",
                required=True,
                format_func=lambda axis: VARIATIONS[axis].label,
                key="stability-axis",
                persist_state="session",
            )
            or "degree"
        )
        st.caption(VARIATIONS[axis].means)
    with often:
        resamples = st.select_slider(
            "Resamples",
            [6, 12, 20, 30],
            12,
            key="stability-resamples",
            persist_state="session",
            disabled=axis == "degree",
            help="More resamples give narrower intervals: with 12, a head kept half of the time shows 25 to 75 %.",
        )
    with how_many:
        fixed = st.segmented_control(
            "Heads to keep",
            ["from the knee", f"{explorer.board.budget}, as now"],
            default="from the knee",
            required=True,
            key=f"stability-budget-{explorer.board.budget}",
            disabled=axis == "degree",
            help="With a fixed number, only which heads are chosen can vary, not how many.",
        )
    return axis, int(resamples), explorer.board.budget if axis != "degree" and fixed != "from the knee" else None


def _result(explorer: Explorer, axis: Axis, resamples: int, budget: int | None) -> Stability | None:
    """Return the resamples; None until they are asked for and computed."""
    bench, settings = explorer.bench, explorer.settings
    if axis == "degree" and explorer.clusters is not None:
        return over_degrees(explorer.clusters.clustering, explorer.clusters.salience, settings)
    name = (bench.card.sha256, bench.calibration.sha256, str(settings), axis, resamples, budget)
    memory: dict[tuple[Any, ...], jobs.Job[Stability]] = st.session_state.setdefault("stability-memory", {})
    job = memory.get(name)
    if job is None:
        before = cached(bench, axis=axis, resamples=resamples, budget=budget)
        if before is not None:
            return before
        if st.button("Resample", type="primary", key="stability-start"):
            memory[name] = jobs.submit(
                explorer.id,
                f"stability-{axis}-{resamples}-{budget}-{hash(name)}",
                lambda progress: stability(bench, axis=axis, resamples=resamples, budget=budget, progress=progress),
            )
            memory[name].wait(0.7)
            st.rerun()
        st.caption(_cost(explorer, axis, resamples))
        return None
    if not job.ended:
        follow(job, place="stability")
        return None
    if job.result is None:
        if job.error is not None:
            problem(job.error)
        else:
            st.info("Stopped. Statistics of the texts are kept, so the next run is faster.")
        if st.button("Try again", key="stability-again"):
            del memory[name]
            st.rerun()
    return job.result


def _cost(explorer: Explorer, axis: Axis, resamples: int) -> str:
    texts = len(explorer.bench.calibration)
    again = "Results are stored on this machine and reused."
    if axis == "degree":
        return f"Reads the {texts:,} calibration texts once. {again}"
    if axis == "seed":
        read = "without reading a text again after a run on this machine"
        return f"Computes {resamples} projections and clusterings, {read}. {again}"
    return f"Reads the {texts:,} calibration texts once, then computes {resamples} projections and clusterings. {again}"
