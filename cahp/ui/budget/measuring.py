"""What is measured for the board: all budgets, the time, the test split, and a distillation of the mask."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from cahp.outcomes import Outcomes, describe
from cahp.recoveries import QUICK, RECOVERIES
from cahp.run.timeline import on_screen
from cahp.ui.frame import board
from cahp.ui.frame.page import provenance
from cahp.ui.frame.running import draw_timing, follow, price, show_job, start_button
from cahp.ui.parts.display import problem, show_steps
from cahp.ui.session.estimates import recovery_seconds
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import CONFIRM, DISTIL, FIGURE, REFIT, TABLE


def draw(explorer: Explorer) -> None:
    """Draw what is being measured for the board, and what else can be measured."""
    job = explorer.work.job(TABLE)
    if job is not None and job.error:
        problem(job.error)
    for row in board.list_colourings():
        name = row.colouring.name
        measuring = row.find_job(explorer)
        if measuring is not None and not measuring.ended:
            follow(measuring, name=f"colouring-{name}", title=f"Measuring {name}")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if job is None or job.ended:
            _draw_missing_budgets(explorer)
        if explorer.rests_on_quick_refit:
            _draw_refit_button(explorer)
        refit = explorer.stopped_refit
        if explorer.awaits_refit and refit is not None:
            show_job(refit, partial(explorer.start, REFIT, QUICK.name), name="refit")
        _draw_test_split(explorer)
        if explorer.lacks_distilled and not explorer.awaits_distillation:
            here = "The figures are bundled; the distilled model is not on this machine."
            _draw_distil_button(explorer, "Distil here", type="tertiary", help=here)
        if explorer.card.saves == "time":
            draw_timing(explorer, place="budget")
        st.caption(provenance(explorer, explorer.shown_recovery))


def _draw_missing_budgets(explorer: Explorer) -> None:
    table = explorer.table(explorer.recover)
    assert table is not None
    if table.missing() is None:
        return
    done, total = table.measured()
    start_button(explorer, TABLE, explorer.board_state(), "Measure all budgets", key="fill-table", type="tertiary")
    measured = f"{done} of {total} budgets measured"
    if table.quicker is not None:
        measured += f"; estimates follow quick refits, of which {table.quicker.measured()[0]} are measured"
    st.caption(f"{measured}.")


def _draw_refit_button(explorer: Explorer) -> None:
    label = price("Refit this mask", recovery_seconds(explorer.bench, QUICK.name))
    if st.button(label, key="refit", type="tertiary"):
        explorer.chosen_recovery = QUICK.name
        st.rerun()


def _draw_test_split(explorer: Explorer) -> None:
    # The check never trains a model.
    if "test" not in explorer.bench.dataset.splits or explorer.lacks_distilled:
        return
    recover = explorer.ready_recovery
    start = partial(explorer.start, CONFIRM, recover)
    job = explorer.job(CONFIRM, recover)
    confirmed = explorer.results.confirmed.get((explorer.mask.sha256, recover))
    if confirmed is None and job is not None:
        confirmed = job.result
    if confirmed is not None:
        _show_confirmed(explorer, *confirmed)
    elif job is None:
        with st.popover("Check on the test split", type="tertiary", key="ask-confirm"):
            st.markdown(
                "The test split was not used to select heads, so it can confirm a result. Each further use weakens "
                "this: all uses are **counted** across sessions, and the count is shown beside the result."
            )
            if st.button("Use it once for this mask", key="confirm", type="primary"):
                start()
                st.rerun()
    else:
        show_job(job, start, name="confirm", title="Evaluating on the test split")


def _show_confirmed(explorer: Explorer, outcomes: Outcomes, opened: int) -> None:
    """Draw the outcomes of a mask on the test split, and how often that was used, for other masks since as well."""
    finding = f"Test split: {describe(outcomes)}"
    if "accuracy_change" in outcomes:
        finding += f"; {outcomes['accuracy_change'].text} against all heads"
    opened = max([opened, *(count for _, count in explorer.results.confirmed.values())])
    uses = "once" if opened == 1 else f"{opened} times"
    st.markdown(f"**{finding}** · used {uses} so far")


# Distillation ------------------------------------------------------------------------------------------------


def describe_distillation(explorer: Explorer) -> str:
    """Return whether the distilled model on the board was accepted, with the reason."""
    distilled = explorer.results.distilled.get(explorer.mask.sha256)
    if not RECOVERIES[explorer.recover].trains or distilled is None:
        return ""
    report, _ = distilled
    verdict = "accepted" if report.accepted else "rejected"
    return f"distillation {verdict}: {report.reason}"


def draw_distillation(explorer: Explorer) -> None:
    """Draw the panel of the distillation, where a distilled model is wanted: its offer, its progress or its steps."""
    job = explorer.work.job(DISTIL)
    trains = RECOVERIES[explorer.recover].trains
    _, steps = explorer.results.distilled.get(explorer.mask.sha256, (None, ()))
    if (job is None or job.ended) and not (trains and (steps or explorer.awaits_distillation)):
        return
    with st.container(border=True, key="distilling"):
        st.caption("The refitted model is trained to reproduce the scores of the full model, without labels.")
        if job is not None and not job.ended:
            title = on_screen(job.stage or "distill")
            if explorer.job(DISTIL) is not job:
                title += " (the mask that was on the board before)"
            follow(job, name="distil", title=title)
        elif explorer.awaits_distillation:
            failed = explorer.job(DISTIL)
            search = explorer.job(FIGURE)
            if failed is not None and failed.error:
                problem(failed.error)
            if search is not None and not search.ended:
                st.caption("Checking for an existing distilled model…")
                return
            _draw_distil_button(explorer, "Distil this mask", type="primary")
        else:
            show_steps(steps)


def _draw_distil_button(explorer: Explorer, label: str, **look: Any) -> None:
    start_button(explorer, DISTIL, explorer.board_state(), label, key="distil", **look)
