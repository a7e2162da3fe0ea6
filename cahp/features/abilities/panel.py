"""The receipt of abilities on screen: a strip of marks below the board, and a tab with its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import streamlit as st

from cahp.features.abilities import fewest
from cahp.features.abilities.jobs import MEASURE, estimate_seconds
from cahp.features.abilities.receipt import find_state, list_cells, list_columns
from cahp.features.abilities.record import MEANINGS, AbilitiesRecord
from cahp.features.abilities.section import RECEIPT
from cahp.features.abilities.strip import strip_html
from cahp.recoveries import NONE, RECOVERIES
from cahp.ui.frame.panels import Panel
from cahp.ui.frame.running import show_in_row
from cahp.ui.parts import display
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job
from cahp.words import duration

#: The label of the tab.
LABEL = "What still works?"
#: The label of the button and its look, below the board and in the tab.
_BUTTONS: Mapping[str, tuple[str, Literal["secondary", "tertiary"]]] = {
    "strip": (LABEL, "tertiary"),
    "table": ("Measure all abilities", "secondary"),
}


def find_receipt(explorer: Explorer) -> AbilitiesRecord | None:
    """Return the receipt of the mask on the board with its recovery: as the run has it, or measured in this session."""
    known = explorer.results.records
    digest = explorer.mask.sha256
    recover = explorer.ready_recovery
    job = explorer.job(MEASURE, recover)
    if job is not None and job.result is not None:
        known[RECEIPT.name, digest, recover] = job.result
    run = explorer.results.run
    if run is not None and run.mask.sha256 == digest:
        record = RECEIPT.read(run)
        if record is not None:
            known.setdefault((RECEIPT.name, digest, run.settings.recover), record)
    if recover == NONE.name:
        others = [record for (name, mask, _), record in known.items() if (name, mask) == (RECEIPT.name, digest)]
        if others:
            known[RECEIPT.name, digest, recover] = max(others, key=lambda record: record.complete).as_pruned()
    return known.get((RECEIPT.name, digest, recover))


def _find_job(explorer: Explorer) -> Job[AbilitiesRecord] | None:
    return explorer.job(MEASURE, explorer.ready_recovery)


def _follow(job: Job[AbilitiesRecord] | None, *, place: str) -> bool:
    """Draw the progress of a measurement, or why it failed; return whether it is in progress."""
    if job is None:
        return False
    if job.error:
        problem(job.error)
    if not job.ended:
        show_in_row(job, "Measuring what still works", key=f"stop-abilities-{place}")
    return not job.ended


def _offer(explorer: Explorer, *, place: str) -> None:
    """Draw the button that measures the receipt of the mask on the board."""
    if explorer.lacks_distilled:
        st.caption("The abilities of the distilled model can be measured once it is on this machine.")
        return
    recover = explorer.ready_recovery
    about = duration(estimate_seconds(explorer.board_state(recover)))
    label, look = _BUTTONS[place]
    if st.button(
        f"{label} (about {about})",
        key=f"abilities-{place}",
        type=look,
        help="Measures single abilities of the full model, the pruned one and the recovered one on the same items.",
    ):
        explorer.start(MEASURE, recover)
        st.rerun()


def draw_strip(explorer: Explorer) -> None:
    """Draw the marks of the mask on the board where they are known, else the button that measures them."""
    fewest.drop_outdated(explorer)
    if explorer.mask.is_full:
        return
    record = find_receipt(explorer)
    with st.container(key="abilities-board"):
        if record is not None:
            st.html(strip_html(record, find_state(record), explorer.ready_recovery))
        elif not _follow(_find_job(explorer), place="strip"):
            _offer(explorer, place="strip")


def draw_table(explorer: Explorer) -> None:
    """Draw the abilities with their values, as the run measured them, or on request."""
    if explorer.mask.is_full:
        st.caption("All heads are kept: every ability is the full model's.")
        return
    record = find_receipt(explorer)
    if record is None:
        st.markdown("Which single abilities does the model keep without these heads, and which does it lose?")
        if not _follow(_find_job(explorer), place="table"):
            with st.container(horizontal=True, gap="small", key="abilities-offers"):
                _offer(explorer, place="table")
                fewest.draw(explorer)
        return
    if not record.complete and not _follow(_find_job(explorer), place="table"):
        _offer(explorer, place="table")
    state = find_state(record)
    recover = explorer.ready_recovery
    st.markdown(f"**{RECOVERIES[recover].beside.capitalize()}:** {plain(record.summarise(state))}.")
    names = ["ability", *list_columns(record, recover)]
    rows = [(row.label, *list_cells(row, record.states)) for row in record.rows]
    columns = {name: list(cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)}
    st.table({name: list(map(plain, cells)) for name, cells in columns.items()}, hide_index=True)
    st.caption(
        plain("; ".join(f"{word}: {meaning}" for word, meaning in MEANINGS.items()))
        + ". Differences have 95 % intervals over the items; the words are corrected for the number of abilities."
    )
    with st.container(horizontal=True, gap="small", key="abilities-offers"):
        display.download_csv(columns, "abilities")
        fewest.draw(explorer)


STRIP = Panel("", draw_strip, place=10)
TAB = Panel(LABEL, draw_table, place=55, name="abilities")
