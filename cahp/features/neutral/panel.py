"""The tab that evaluates the mask on the board on neutral text."""

from __future__ import annotations

import streamlit as st

from cahp.features.neutral.measuring import NeutralRecord, evaluate_on_neutral
from cahp.features.neutral.section import NEUTRAL_TEXT
from cahp.features.neutral.texts import AUTO
from cahp.recoveries import RECOVERIES
from cahp.ui.frame.panels import Panel
from cahp.ui.frame.running import show_in_row
from cahp.ui.parts import display
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.estimates import plan_run, run_seconds
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import BoardState, Kind, choose_or_half
from cahp.values import Progress, digest
from cahp.words import duration


def _evaluate(board: BoardState, _: Progress) -> NeutralRecord:
    recovered = None
    if not RECOVERIES[board.recover].trains:
        recovered = board.bench.recoveries.recover(board.mask, board.recover)
    return evaluate_on_neutral(
        board.bench,
        board.mask,
        AUTO,
        lambda neutral: choose_or_half(neutral)[1].mask,
        recovered=recovered,
        recover=board.recover,
    )


#: Evaluate the mask on the board on neutral text, after its recovery; a trained one would be trained twice.
NEUTRAL: Kind[BoardState, NeutralRecord] = Kind(
    _evaluate,
    # Heads are chosen there with the same settings.
    lambda board: f"neutral-{board}-{digest(repr(board.bench.settings))}",
    Rank.RUN,
    plan=lambda board: plan_run(board.bench),
    title="Neutral text",
)


def draw_neutral(explorer: Explorer) -> None:
    """Draw the mask evaluated on neutral text: as the run did it, or on request."""
    run = explorer.results.run
    recover = explorer.ready_recovery
    job = explorer.job(NEUTRAL, recover)
    record = None
    if run is not None and run.mask.sha256 == explorer.mask.sha256:
        record = NEUTRAL_TEXT.read(run)
    if job is not None and not job.ended:
        show_in_row(job, "Evaluating the heads on neutral text", key="stop-neutral")
        return
    if job is not None and job.error:
        problem(job.error)
    if job is not None and job.result is not None:
        record = job.result
    if record is None:
        st.markdown("Do these heads serve other texts too, or only those that they were chosen on?")
        about = duration(run_seconds(explorer.bench))
        if st.button(
            f"Evaluate on neutral text (about {about})",
            key="evaluate-neutral",
            help="Heads are chosen a second time, on neutral text. Both choices are then compared there as pruned, and "
            "after a refit if the board shows one.",
        ):
            explorer.start(NEUTRAL, recover)
            st.rerun()
        return
    finding = plain(f"{record.finding}.")
    if record.narrow:
        st.warning(finding)
    else:
        st.markdown(f"**{finding}**")
    st.caption(plain(f"{record.overlap}."))
    columns = {name: list(column) for name, column in zip(record.columns, zip(*record.rows, strict=True), strict=True)}
    st.table(columns, hide_index=True)
    display.download_csv(columns, "neutral")


TAB = Panel("Narrow or broad?", draw_neutral, place=60)
