"""What figures are marked with: points that can be clicked, and words in the cells of a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cahp.figures.palette import Ink, contrast, on_scale, striped
from cahp.values import Ints

#: For traces that can be clicked. Plotly fades what was not clicked; here a click asks a question and leaves the rest
#: as visible as it was.
UNDIMMED: Mapping[str, Any] = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}


def symbols(shape: str, groups: Ints, shown: Ints) -> str | list[str]:
    """The symbol of each of the heads ``shown (M,)``: ``shape``, crossed where a larger group has their hue, too.

    ``groups (N,)`` are those of all heads.
    """
    crossed = striped(groups)[shown]
    base, _, hollow = shape.partition("-")
    other = f"{base}-x-{hollow}" if hollow else f"{base}-x"
    return [other if line else shape for line in crossed.tolist()] if crossed.any() else shape


def named_rows(names: Sequence[str]) -> dict[str, Any]:
    """The vertical axis of a figure with a name a row, first on top."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
        "range": [len(names) - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
        "automargin": True,
    }


def legend(shape: str, colours: Ink, names: Sequence[str] = ("kept", "pruned")) -> list[dict[str, Any]]:
    """Traces that say what solid and hollow mean, in no group's colour: a legend must not seem to name a group."""
    return [
        {
            "type": "scatter",
            "x": [None],
            "y": [None],
            "mode": "markers",
            "marker": {"symbol": symbol, "size": 11, "color": colours.text, "line": {"width": 2}},
            "name": name,
            "hoverinfo": "skip",
        }
        for name, symbol in zip(names, (shape, f"{shape}-open"), strict=True)
    ]


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
