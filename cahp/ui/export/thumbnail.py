"""The mask on the board as a small picture beside the title of the page."""

from __future__ import annotations

import streamlit as st

from cahp.board.colourings import mark_clusters
from cahp.ui.export.view import View
from cahp.ui.frame.outline import grid_html

#: Pixels of the largest cell and of the whole picture.
_CELL = 15
_WIDTH = 180
_HEIGHT = 96
#: The colour of heads without clusters, and the opacities of kept and of pruned heads.
_PLAIN = "#0f6e84"
_OPACITIES = {True: "1", False: ".18"}


def draw(view: View, unit: str) -> None:
    """Draw the mask: kept heads solid, pruned ones light, in the colours of their clusters."""
    mask = view.mask
    colours = [_PLAIN] * mask.keep.size
    if view.labels is not None:
        colours = list(mark_clusters(view.labels, view.families).colours)
    cells = "".join(
        f'<i style="background: {colour}; opacity: {_OPACITIES[kept]}"></i>'
        for colour, kept in zip(colours, mask.keep.ravel().tolist(), strict=True)
    )
    label = f"The mask: {mask.count} of {mask.keep.size} {unit}s kept"
    st.html(grid_html(mask.layers, mask.heads, cells, label=label, cell=_CELL, width=_WIDTH, height=_HEIGHT))
