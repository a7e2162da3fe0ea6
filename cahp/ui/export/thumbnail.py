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
    st.html(_svg(view, unit))


def _svg(view: View, unit: str) -> str:
    """Return the picture; layers are rows, or columns where there are many of few heads, as on the board."""
    mask = view.mask
    colours = [_PLAIN] * mask.keep.size
    if view.labels is not None:
        colours = list(mark_clusters(view.labels, view.families).colours)
    deep = is_deep(mask.layers, mask.heads)
    across = mask.heads
    down = mask.layers
    if deep:
        across = mask.layers
        down = mask.heads
    cell = max(3, min(_CELL, _WIDTH // across, _HEIGHT // down))
    side = cell - max(1, cell // 7)
    cells = []
    for place, kept in enumerate(mask.keep.ravel().tolist()):
        row, column = divmod(place, mask.heads)
        if deep:
            row, column = column, row
        cells.append(
            f'<rect x="{column * cell}" y="{row * cell}" width="{side}" height="{side}" rx="{cell / 8:g}" '
            f'fill="{colours[place]}" fill-opacity="{_OPACITIES[kept]}"/>'
        )
    width = across * cell
    height = down * cell
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="The mask: {mask.count} of {mask.keep.size} {unit}s kept">{"".join(cells)}</svg>'
    )
