"""The sidebar of every page: model and data, the sample of texts, the proof of masks, and runs."""

from __future__ import annotations

import streamlit as st

from cahp.ui.frame import source_dialog
from cahp.ui.frame.running import follow, run_button
from cahp.ui.parts.display import plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import RUN
from cahp.values import CahpError

_PROOF = (
    "Switching off all heads changes the predictions, switching off each head changes its layer's output, and a masked "
    "and a cut model give the same logits. Without this proof no result is shown."
)

#: On a tablet or a phone the sidebar starts closed, and closes when a page or a model and data were chosen in it.
#: Streamlit itself closes it below 768 pixels only, and leaves it open over the chosen page.
_CLOSE = """
const narrow = matchMedia("(max-width: 900px)");
const sidebar = () => document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]');
const close = () => {
  if (narrow.matches) sidebar()?.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
};
const chosen = (event) => {
  const ways = '[data-testid="stSidebar"] .st-key-pages a, .st-key-use-source button';
  if (event.target.closest?.(ways)) setTimeout(close, 0);
};
export default function () {
  // Once per document: a person who opens it later wants it open.
  if (document.cahpNarrow) return;
  document.cahpNarrow = true;
  close();
  document.documentElement.dataset.cahpNarrow = "";
  document.addEventListener("click", chosen);
}
"""


def draw(explorer: Explorer) -> None:
    """Draw model and data with a button to change them, the sample, the badge, and a run's button or progress."""
    card, bench = explorer.card, explorer.bench
    with st.container(key="source", gap="small"):
        st.markdown(f"**{plain(card.id)}** on **{plain(bench.dataset.id)}**")
        st.caption(
            f"{card.layers} layers × {card.heads} heads = {card.layers * card.heads} · {len(card.labels)} classes"
        )
        if card.prompt is not None:
            st.caption(f"Prompt “{plain(card.prompt.template[:200])}”, answers {plain(', '.join(card.labels)[:200])}")
        source_dialog.change_button(explorer)
    _sample(explorer)
    _badge(explorer)
    job = explorer.work.job(RUN)
    if job is not None and not job.ended:
        follow(job, place="sidebar")
    elif explorer.results.run is None or explorer.results.bundled:
        run_button(explorer, place="sidebar", primary=False)
    elif explorer.settings_changed:
        run_button(explorer, place="sidebar", label="Run with these settings", primary=False)
    st.components.v2.component("cahp_narrow", js=_CLOSE)(key="narrow", height="content")


def _sample(explorer: Explorer) -> None:
    """Draw the form for the number of texts and the device."""
    settings = explorer.settings
    with st.expander("Sample and device", key="sample"):
        st.caption(
            f"Heads are chosen on {len(explorer.bench.calibration):,} texts and evaluated on "
            f"{len(explorer.bench.evaluation):,} others."
        )
        with st.form("sample-form", border=False):
            limits = {
                name: st.number_input(
                    f"{label} texts, at most", 20, 100_000, value, step=100, key=f"{name.replace('_', '-')}-{value}"
                )
                for name, label, value in (
                    ("limit", "Calibration", settings.limit or 2000),
                    ("eval_limit", "Evaluation", settings.eval_limit or 1000),
                )
            }
            devices = ["auto", "cpu", "cuda", "mps"]
            device = st.selectbox(
                "Device", devices, index=devices.index(settings.device), key=f"device-{settings.device}"
            )
            if st.form_submit_button("Apply"):
                try:
                    explorer.change(**{name: int(limit) for name, limit in limits.items()}, device=device)
                except CahpError as error:
                    st.error(plain(str(error)))
                else:
                    st.rerun()


def _badge(explorer: Explorer) -> None:
    run = explorer.results.run
    proof = ""
    if explorer.verified:
        proof = "Proven on this machine when the model was loaded."
    elif run is not None and run.verified.mask_bites:
        proof = f"Recorded with {'the bundled run' if explorer.results.bundled else 'the run on screen'}."
    label, color = ("✓ Masks proven", "green") if proof else ("Masks are proven at the first run", "gray")
    with st.container(key="badge"):
        st.badge(label, color=color, help=f"{_PROOF} {proof}".strip())
