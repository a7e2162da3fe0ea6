"""Names at the ends of lines, in place of a legend: each beside its line, none over another."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cahp.figures.palette import Ink

#: Pixels from one name to the next, and of one of its letters.
ROW, _LETTER = 16, 6.3


@dataclass(frozen=True)
class LineName:
    """The name of a line that ends at ``x, y``."""

    text: str
    x: float
    y: float
    colour: str
    bold: bool = False


def room_for(labels: Sequence[LineName]) -> int:
    """Pixels that the longest name takes."""
    return round(_LETTER * max((len(html.unescape(one.text)) for one in labels), default=0))


def apart(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for ``values`` that are at least ``gap`` from each other, in their order, within ``low`` and ``high``.

    Where there is no room for all, they are spread evenly.
    """
    order = sorted(range(len(values)), key=lambda place: values[place])
    gap = min(gap, (high - low) / max(1, len(values) - 1))
    placed = list(values)
    at = low - gap
    for place in order:
        at = placed[place] = max(values[place], at + gap)
    at = high + gap
    for place in reversed(order):
        at = placed[place] = min(placed[place], at - gap)
    return placed


def name_lines(
    figure: Any,
    labels: Sequence[LineName],
    *,
    right: float,
    span: tuple[float, float],
    pixels: float,
    ink: Ink,
) -> None:
    """Write every name at the right, none over another, each joined to the end of its line."""
    import plotly.graph_objects as go

    heights = apart([one.y for one in labels], ROW * (span[1] - span[0]) / pixels, *span)
    for one, height in zip(labels, heights, strict=True):
        figure.add_trace(
            go.Scatter(
                x=[one.x, right],
                y=[one.y, height],
                mode="lines",
                line={"color": one.colour, "width": 0.7},
                hoverinfo="skip",
                showlegend=False,
            )
        )
        figure.add_annotation(
            x=right,
            y=height,
            text=f"<b>{one.text}</b>" if one.bold else one.text,
            showarrow=False,
            xanchor="left",
            xshift=3,
            # Hues are for marks: as small letters some of them could not be read.
            font={"size": 11, "color": ink.text},
        )
