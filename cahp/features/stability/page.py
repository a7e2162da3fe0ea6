"""The page Stability: whether other texts or seeds keep the same heads, and where the published rule stops."""

import streamlit as st

from cahp.features.stability.measuring import STABILITY
from cahp.run import MaskSubject
from cahp.ui.frame import draw_knee, draw_offer, find_record
from cahp.ui.parts import draw_blocks
from cahp.ui.session import Explorer

#: What the bundled comparison of methods on SST-5 measured.
MEASURED = (
    "Who interprets the kept heads should know: on SST-5, CAHP's masks of 12 of 72 heads overlap by 0.39 between seeds "
    "(random masks 0.09), those of `obs-fisher` by 0.87 (mean Jaccard index of 16 seeds)."
)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title(STABILITY.title)
    st.caption(MEASURED)
    record = find_record(explorer, STABILITY)
    if record is not None:
        draw_blocks(STABILITY.show(record, MaskSubject(explorer.mask, unit=explorer.card.unit)))
    draw_offer(STABILITY, explorer)
    if explorer.clusters is not None:
        st.subheader("Is the number of heads a property of the data?")
        draw_knee(explorer)
