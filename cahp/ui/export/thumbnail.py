"""The mask on the board as a small picture beside the title of the page."""

from __future__ import annotations

import streamlit as st

from cahp.board.colours import mark_clusters
from cahp.figures.head_grid import is_deep
from cahp.ui.export.view import View

#: Pixels of the largest cell and of the whole picture.
_CELL = 15
_WIDTH = 180
_HEIGHT = 96
#: The colour of heads without clusters, and the opacities of kept and of pruned heads.
_PLAIN = "#0f6e84"
_OPACITIES = {True: "1", False: ".18"}


def draw(view: View, unit: str) -> None:
    """Draw the mask: kept heads solid, pruned ones light, in the colours of their clusters."""
    st.html(_html(view, unit))


def _html(view: View, unit: str) -> str:
    """Return the cells as a grid; layers are rows, or columns where there are many of few heads, as on the board."""
    mask = view.mask
    colours = [_PLAIN] * mask.keep.size
    if view.labels is not None:
        colours = list(mark_clusters(view.labels, view.families).colours)
    across = mask.heads
    down = mask.layers
    flow = "row"
    if is_deep(mask.layers, mask.heads):
        across = mask.layers
        down = mask.heads
        flow = "column"
    cell = max(4, min(_CELL, _WIDTH // across, _HEIGHT // down))
    cells = "".join(
        f'<i style="background: {colour}; opacity: {_OPACITIES[kept]}"></i>'
        for colour, kept in zip(colours, mask.keep.ravel().tolist(), strict=True)
    )
    return (
        f'<div class="cahp-outline" role="img" aria-label="The mask: {mask.count} of {mask.keep.size} {unit}s kept" '
        f'style="width: {across * cell}px; grid: repeat({down}, auto) / repeat({across}, 1fr); '
        f'grid-auto-flow: {flow}; --cell: {cell}px">{cells}</div>'
    )
