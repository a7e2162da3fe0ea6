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
from cahp.ui.frame.running import draw_timing, offer_again, show_in_row
from cahp.ui.parts.display import problem, show_steps
from cahp.ui.session.estimates import recovery_seconds, table_seconds
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import CONFIRM, DISTIL, FIGURE, REFIT, TABLE
from cahp.words import duration


def draw(explorer: Explorer) -> None:
    """Draw what is being measured for the board, and what else can be measured."""
    job = explorer.work.job(TABLE)
    if job is not None and job.error:
        problem(job.error)
    for row in board.list_colourings():
        name = row.colouring.name
        measuring = row.find_job(explorer)
        if measuring is not None and not measuring.ended:
            show_in_row(measuring, f"Measuring {name}", key=f"cancel-{name}")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if job is None or job.ended:
            _draw_missing_budgets(explorer)
        if explorer.rests_on_quick_refit:
            _draw_refit_button(explorer)
        refit = explorer.stopped_refit
        if explorer.awaits_refit and refit is not None:
            again = partial(explorer.start, REFIT, QUICK.name)
            offer_again(refit, again, key="refit-again", stopped="The refit was stopped.")
        _draw_test_split(explorer)
        if explorer.lacks_distilled and not explorer.awaits_distillation:
            here = "The figures are bundled; the distilled model is not on this machine."
            _draw_distil_button(explorer, "Distil here", type="tertiary", help=here)
        if explorer.card.saves == "time":
            draw_timing(explorer, place="budget", polled=True)
        st.caption(provenance(explorer, explorer.shown_recovery))


def _draw_missing_budgets(explorer: Explorer) -> None:
    table = explorer.table(explorer.recover)
    assert table is not None
    if table.missing() is None:
        return
    done, total = table.measured()
    about = duration(table_seconds(explorer.bench, table))
    if st.button(f"Measure all budgets (about {about})", key="fill-table", type="tertiary"):
        explorer.start(TABLE)
        st.rerun()
    measured = f"{done} of {total} budgets measured"
    if table.quicker is not None:
        measured += f"; estimates follow quick refits, of which {table.quicker.measured()[0]} are measured"
    st.caption(f"{measured}.")


def _draw_refit_button(explorer: Explorer) -> None:
    about = duration(recovery_seconds(explorer.bench, QUICK.name))
    if st.button(f"Refit this mask (about {about})", key="refit", type="tertiary"):
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
    elif not job.ended:
        show_in_row(job, "Evaluating on the test split", key="cancel-confirm")
    else:
        offer_again(job, start, key="confirm-again", stopped="Stopped.")


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
            show_in_row(job, title, key="cancel-distil")
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
    about = duration(recovery_seconds(explorer.bench, explorer.recover))
    if st.button(f"{label} (about {about})", key="distil", **look):
        explorer.start(DISTIL)
        st.rerun()
