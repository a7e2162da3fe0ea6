"""What the pages show and Python draws, as Plotly figures; Plotly is imported when the first one is drawn."""

from cahp.figures.head_grid import CellWords, head_name, places, share_figure, signed_figure
from cahp.figures.marks import (
    LEGEND,
    clickable,
    draw,
    error_bars,
    fold,
    heat_map,
    ink,
    label,
    named_rows,
    points,
    shape,
    ticks,
)

__all__ = [
    "LEGEND",
    "CellWords",
    "clickable",
    "draw",
    "error_bars",
    "fold",
    "head_name",
    "heat_map",
    "ink",
    "label",
    "named_rows",
    "places",
    "points",
    "shape",
    "share_figure",
    "signed_figure",
    "ticks",
]
