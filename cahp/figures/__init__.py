"""What the pages show and Python draws, as Plotly figures; Plotly is imported when the first one is drawn."""

from cahp.figures.head_grid import cell_figure as cell_figure, head_name as head_name, places as places
from cahp.figures.marks import (
    LEGEND as LEGEND,
    draw as draw,
    heat_map as heat_map,
    ink as ink,
    label as label,
    named_rows as named_rows,
    points as points,
    ticks as ticks,
)
