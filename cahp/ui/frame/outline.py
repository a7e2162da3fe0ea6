"""The board before a run: greyed out, in the shape of the model; its rows light up as the work goes on."""

from __future__ import annotations

import streamlit as st

from cahp.figures.head_grid import is_deep
from cahp.models.cards import ModelCard
from cahp.ui.session.jobs import Job

#: Pixels of the largest cell, as on the board, and of the whole drawing.
_CELL = 44
_WIDTH = 760
_HEIGHT = 340


def draw(card: ModelCard, job: Job[object] | None = None) -> None:
    """Draw the board of a model before there is anything on it, or how far the ``job`` of its run is."""
    lit = 0
    if job is not None and not job.ended:
        lit = int(card.layers * job.share)
    # Cells are in the order of layers, and the first layers are lit.
    cells = '<i class="lit"></i>' * (lit * card.heads) + "<i></i>" * ((card.layers - lit) * card.heads)
    label = f"{card.layers} layers of {card.heads}, {lit} of them lit"
    st.html(grid_html(card.layers, card.heads, cells, label=label, cell=_CELL, width=_WIDTH, height=_HEIGHT))


def grid_html(layers: int, heads: int, cells: str, *, label: str, cell: int, width: int, height: int) -> str:
    """Return the ``cells`` of a model, an HTML element for each head in the order of layers, as a grid.

    Layers are rows, or columns where there are many of few heads, as on the board. A cell has at most so many pixels,
    and the grid at most ``width`` and ``height``.
    """
    across = heads
    down = layers
    flow = "row"
    if is_deep(layers, heads):
        across = layers
        down = heads
        flow = "column"
    cell = max(4, min(cell, width // across, height // down))
    return (
        f'<div class="cahp-outline" role="img" aria-label="{label}" '
        f'style="width: {across * cell}px; max-width: 100%; grid: repeat({down}, auto) / repeat({across}, 1fr); '
        f'grid-auto-flow: {flow}; --cell: {cell}px">{cells}</div>'
    )
