"""Would the choice survive resampling: how often each head is kept over seeds, samples and degrees."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.studies.stability import Axis, Stability, cached, over_degrees, stability
from cahp.ui.frame import page as shell
from cahp.ui.frame.running import follow
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.stability import findings
from cahp.ui.stability.variations import VARIATIONS


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Would it survive resampling?")
    st.markdown(
        "Choosing heads involves chance: a random projection, a sample of texts, and one dial. Here the choice is "
        "repeated with one of them changed. Heads that are kept every time can be trusted; the others could have been "
        "others."
    )
    axis, resamples, budget = _asked(explorer)
    result = _result(explorer, axis, resamples, budget)
    if result is not None:
        findings.draw(explorer, result, asked=resamples)


def _asked(explorer: Explorer) -> tuple[Axis, int, int | None]:
    """What to repeat, how often, and how many heads to keep each time."""
    what, often, how_many = st.columns([12, 5, 8], vertical_alignment="top", gap="medium")
    with what:
        axis: Axis = (
            st.segmented_control(
                "What changes from one resample to the next",
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
            help="More resamples tell the shares more finely: with 12, a head kept half of the time shows 25 to 75 %.",
        )
    with how_many:
        fixed = st.segmented_control(
            "Heads kept each time",
            ["by the knee", f"{explorer.board.budget}, as now"],
            default="by the knee",
            required=True,
            key=f"stability-budget-{explorer.board.budget}",
            disabled=axis == "degree",
            help="A fixed number separates which heads are chosen from how many.",
        )
    return axis, int(resamples), explorer.board.budget if axis != "degree" and fixed != "by the knee" else None


def _result(explorer: Explorer, axis: Axis, resamples: int, budget: int | None) -> Stability | None:
    """The resamples, or None while they are taken, or where nobody has asked for them yet."""
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
            shell.problem(job.error)
        else:
            st.info("Stopped. What was found so far about the texts is kept, so another try goes faster.")
        if st.button("Try again", key="stability-again"):
            del memory[name]
            st.rerun()
    return job.result


def _cost(explorer: Explorer, axis: Axis, resamples: int) -> str:
    texts = len(explorer.bench.calibration)
    again = "What was measured before is found again at once; results are kept on this machine."
    if axis == "degree":
        return f"Reads the {texts:,} calibration texts once. {again}"
    if axis == "seed":
        read = "no text is read again once a run was measured here"
        return f"Takes {resamples} projections and clusterings, {read}. {again}"
    return f"Reads the {texts:,} calibration texts once, then takes {resamples} projections and clusterings. {again}"
