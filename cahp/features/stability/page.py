"""The page Stability: whether other texts or seeds keep the same heads, and where the published rule stops."""

import streamlit as st

from cahp.features.stability.measuring import STABILITY, over_degrees
from cahp.run import MaskSubject
from cahp.ui.frame import draw_knee, draw_offer, find_record
from cahp.ui.parts import draw_blocks
from cahp.ui.session import Explorer


def draw(explorer: Explorer) -> None:
    """Draw the page; it opens with what the degree changes, which takes no computation."""
    st.title(STABILITY.title)
    clusters = explorer.clusters
    record = find_record(explorer, STABILITY)
    if record is None and clusters is not None:
        record = over_degrees(clusters.clustering, clusters.salience, explorer.settings)
    if record is not None:
        draw_blocks(STABILITY.show(record, MaskSubject(explorer.mask, unit=explorer.card.unit)))
    draw_offer(STABILITY, explorer)
    if clusters is not None:
        st.subheader("Is the number of heads a property of the data?")
        draw_knee(explorer)
