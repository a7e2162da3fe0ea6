"""The sidebar of every page: what is explored, how much of it, and whether its masks are proven."""

from __future__ import annotations

import streamlit as st

from cahp.ui.frame import source_dialog
from cahp.ui.frame.progress import follow
from cahp.ui.frame.run_button import run_button
from cahp.ui.parts.text import plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import RUN
from cahp.values import CahpError

_VERIFIED = (
    "All gates at 0 change the answer, each gate alone changes its layer's output, and masked and physically pruned "
    "models give the same logits. Without that no result is shown."
)


def draw(explorer: Explorer) -> None:
    """Model and data and the way to others, the sample, the badge, and the button or progress of a run."""
    card, bench = explorer.card, explorer.bench
    with st.container(key="source", gap="small"):
        st.markdown(f"**{plain(card.id)}** on **{plain(bench.dataset.id)}**")
        st.caption(
            f"{card.layers} layers × {card.heads} heads = {card.layers * card.heads} · {len(card.labels)} classes"
        )
        if card.prompt is not None:
            st.caption(f"Asked “{plain(card.prompt.template[:200])}”, answers {plain(', '.join(card.labels)[:200])}")
        source_dialog.door(explorer)
    _sample(explorer)
    _badge(explorer)
    job = explorer.work.job(RUN)
    if job is not None and not job.ended:
        follow(job, place="sidebar")
    elif explorer.results.run is None or explorer.results.bundled:
        run_button(explorer, place="sidebar", primary=False)
    elif explorer.settings_changed:
        run_button(explorer, place="sidebar", label="Run with these settings", primary=False)


def _sample(explorer: Explorer) -> None:
    """How many texts to use, and where to compute."""
    settings = explorer.settings
    with st.expander("Sample and device", key="sample"):
        st.caption(
            f"{len(explorer.bench.calibration):,} texts choose the heads, {len(explorer.bench.evaluation):,} others "
            "evaluate."
        )
        with st.form("sample-form", border=False):
            limit = st.number_input(
                "Calibration texts, at most",
                20,
                100_000,
                settings.limit or 2000,
                step=100,
                key=f"limit-{settings.limit}",
            )
            evaluated = st.number_input(
                "Evaluation texts, at most",
                20,
                100_000,
                settings.eval_limit or 1000,
                step=100,
                key=f"eval-limit-{settings.eval_limit}",
            )
            devices = ["auto", "cpu", "cuda", "mps"]
            device = st.selectbox(
                "Device", devices, index=devices.index(settings.device), key=f"device-{settings.device}"
            )
            if st.form_submit_button("Use these"):
                try:
                    explorer.change(limit=int(limit), eval_limit=int(evaluated), device=device)
                except CahpError as error:
                    st.error(plain(str(error)))
                else:
                    st.rerun()


def _badge(explorer: Explorer) -> None:
    run = explorer.results.run
    with st.container(key="badge"):
        if explorer.verified:
            st.badge(
                "mask verified", color="green", help=_VERIFIED + " Checked on this machine when the model was read."
            )
        elif run is not None and run.verified.mask_bites:
            where = "bundled" if explorer.results.bundled else "earlier"
            how = "Recorded with the bundled run." if explorer.results.bundled else "Recorded with the run on screen."
            st.badge(f"mask verified ({where})", color="green", help=f"{_VERIFIED} {how}")
        else:
            st.badge("mask not yet verified", color="gray", help="The model proves itself when it is first read.")
