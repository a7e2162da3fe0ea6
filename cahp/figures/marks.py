"""What figures are marked with: points that can be clicked, and words in the cells of a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cahp.figures.palette import Ink, contrast, on_scale

#: For traces that can be clicked. Plotly fades what was not clicked; here a click asks a question and leaves the rest
#: as visible as it was.
UNDIMMED: Mapping[str, Any] = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}


def written(texts: Sequence[Sequence[str]], shares: Any, colours: Ink, *, size: int = 11) -> Any:
    """Texts in the cells of a heat map, each in black or white as its cell's ``share`` of the scale asks for."""
    import plotly.graph_objects as go

    places = [(row, column) for row in range(len(texts)) for column in range(len(texts[row]))]
    return go.Scatter(
        x=[column for _, column in places],
        y=[row for row, _ in places],
        text=[texts[row][column] for row, column in places],
        mode="text",
        textfont={
            "size": size,
            "color": [contrast(on_scale(colours, shares[row][column])) for row, column in places],
        },
        hoverinfo="skip",
        showlegend=False,
    )
