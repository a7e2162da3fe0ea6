"""What the pages show and Python draws, as Plotly figures; Plotly is imported when the first one is drawn."""

from cahp.figures.head_grid import cell_figure, head_name, places
from cahp.figures.marks import (
    LEGEND,
    draw,
    heat_map,
    ink,
    label,
    named_rows,
    points,
    ticks,
)

__all__ = [
    "LEGEND",
    "cell_figure",
    "draw",
    "head_name",
    "heat_map",
    "ink",
    "label",
    "named_rows",
    "places",
    "points",
    "ticks",
]
