"""Figures of heads over many texts: what one mostly looks at, which are like it, and all mean patterns at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.figures import palette
from cahp.figures.head_grid import head_name
from cahp.figures.marks import UNDIMMED, named_rows
from cahp.values import Estimate, HeadMask

#: Where attention goes, in words, and as short as a thumbnail has room for.
WORDS: Mapping[str, str] = {
    "first": "the first token",
    "separator": "separators",
    "itself": "the token itself",
    "before": "the token before",
    "after": "the token after",
    "punctuation": "punctuation",
    "other": "other words",
    "broad": "no one place",
}
SHORT: Mapping[str, str] = {
    "first": "1st",
    "separator": "sep",
    "itself": "self",
    "before": "prev",
    "after": "next",
    "punctuation": "punc",
    "broad": "wide",
}

#: Above so many heads, thumbnails are half as fine.
_MANY = 144


def called(head: int, heads: int) -> str:
    """A head's flat index as links write it: layer.head."""
    return f"{head // heads}.{head % heads}"


def shares_figure(shares: Mapping[str, Estimate], *, dark: bool) -> Any:
    """Where a head's attention goes, by kind, with intervals."""
    import plotly.graph_objects as go

    colours, kinds = palette.ink(dark=dark), list(shares)
    means = [100 * shares[kind].value for kind in kinds]
    figure = go.Figure(
        go.Bar(
            x=means,
            y=[WORDS[kind] for kind in kinds],
            orientation="h",
            marker={"color": colours.accent},
            error_x={
                "type": "data",
                "array": [100 * (shares[kind].high - shares[kind].value) for kind in kinds],
                "color": colours.text,
                "thickness": 1.5,
            },
            hovertext=[_told(WORDS[kind], shares[kind]) for kind in kinds],
            hoverinfo="text",
        )
    )
    figure.update_layout(
        xaxis={"title": {"text": "share of its attention (%)"}, "range": [0, 102], "zeroline": False},
        yaxis={"autorange": "reversed", "automargin": True},
        height=330,
        margin={"l": 10, "r": 10, "t": 10, "b": 46},
        showlegend=False,
    )
    return figure


def _told(name: str, share: Estimate) -> str:
    low, high = share.low, share.high
    return f"{name}<br>{100 * share.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def pattern_figure(pattern: NDArray[np.float32], *, dark: bool) -> Any:
    """A head's mean attention pattern ``(B, B)``: where in a text tokens look, from where."""
    import plotly.graph_objects as go

    size = len(pattern)
    along = [(place + 0.5) * 100 / size for place in range(size)]
    figure = go.Figure(
        go.Heatmap(
            z=pattern,
            x=along,
            y=along,
            zmin=0,
            colorscale=[[stop**2, colour] for stop, colour in palette.ink(dark=dark).scale],
            showscale=False,
            hovertemplate="from %{y:.0f} % of the text<br>to %{x:.0f} %<extra></extra>",
        )
    )
    axis = {"range": [0, 100], "showgrid": False, "zeroline": False, "constrain": "domain"}
    figure.update_layout(
        xaxis={**axis, "title": {"text": "place looked at (% of the text)"}},
        yaxis={**axis, "range": [100, 0], "title": {"text": "place that looks (%)"}, "scaleanchor": "x"},
        height=330,
        margin={"l": 50, "r": 10, "t": 10, "b": 46},
    )
    return figure


def alike_figure(near: Sequence[tuple[int, Estimate]], mask: HeadMask, *, dark: bool) -> Any:
    """The heads most like one, nearest on top, with the intervals of their distances; kept ones solid."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    figure = go.Figure()
    for kept, symbol, name in ((True, "square", "kept"), (False, "square-open", "pruned")):
        rows = [place for place, (head, _) in enumerate(near) if bool(mask.keep.flat[head]) is kept]
        figure.add_trace(
            go.Scatter(
                x=[near[row][1].value for row in rows],
                y=rows,
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 12, "color": colours.accent, "line": {"width": 2}},
                error_x={
                    "type": "data",
                    "array": [near[row][1].high - near[row][1].value for row in rows],
                    "color": colours.text,
                    "thickness": 1.5,
                },
                customdata=[near[row][0] for row in rows],
                hovertext=[f"{head_name(near[row][0], mask.heads)}<br>{near[row][1].value:.3f} apart" for row in rows],
                hoverinfo="text",
                **UNDIMMED,
            )
        )
    figure.update_layout(
        xaxis={"title": {"text": "distance (0 alike .. 1)"}, "rangemode": "tozero", "zeroline": False},
        yaxis=named_rows([head_name(head, mask.heads) for head, _ in near]),
        height=110 + 28 * len(near),
        margin={"l": 10, "r": 10, "t": 34, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure


def glance_figure(
    patterns: NDArray[np.float32], mostly: Sequence[str], mask: HeadMask, *, selected: int, dark: bool
) -> Any:
    """The mean patterns ``(N, B, B)`` of all heads as thumbnails, layers by heads, each on a scale of its own.

    Under each stands where it ``mostly`` looks. Kept heads are framed, ``selected`` strongly; every point's
    ``customdata`` is the head's flat index.
    """
    import plotly.graph_objects as go

    colours, (layers, heads) = palette.ink(dark=dark), mask.keep.shape
    size = patterns.shape[1]
    if len(patterns) > _MANY and size % 2 == 0:
        # Smaller on screen, so half as fine, and a quarter to send.
        size //= 2
        patterns = patterns.reshape(-1, size, 2, size, 2).mean(axis=(2, 4))
    # Room for a word under each, and between neighbours.
    wide, high = size + 3, size + _words_room(size, heads)
    canvas = np.zeros((layers * high, heads * wide), dtype=np.uint8)
    # A byte a cell, 0 for the ground: of 384 heads numbers would be megabytes.
    top = np.maximum(patterns.max(axis=(1, 2), keepdims=True), 1e-12)
    cells = (1 + 254 * np.sqrt(patterns / top)).round().astype(np.uint8)
    for head in range(layers * heads):
        row, column = divmod(head, heads)
        canvas[row * high : row * high + size, column * wide : column * wide + size] = cells[head]
    figure = go.Figure(
        go.Heatmap(
            z=canvas,
            zmin=0,
            zmax=255,
            colorscale=[[0, colours.ground], [1 / 255, colours.scale[0][1]], *list(colours.scale[1:])],
            showscale=False,
            hoverinfo="skip",
        )
    )
    every = np.arange(layers * heads)
    x, y = every % heads * wide + (size - 1) / 2, every // heads * high + (size - 1) / 2
    kept = mask.keep.ravel()
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y + size / 2 + (high - size) * 0.45,
            mode="text",
            text=[SHORT[kind] for kind in mostly],
            textfont={"size": 10 if heads <= 12 else 9, "color": colours.text},
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            # Seen through, and still there for the mouse.
            marker={"symbol": "square", "size": max(10.0, 560 / heads), "color": "rgba(0,0,0,0)"},
            customdata=every,
            hovertext=[
                f"<b>{head_name(head, heads)}</b><br>{'kept' if kept[head] else 'pruned'}<br>"
                f"looks mostly at {WORDS[kind]}"
                for head, kind in zip(every.tolist(), mostly, strict=True)
            ],
            hoverinfo="text",
            **UNDIMMED,
        )
    )
    for head in every[kept].tolist():
        _frame(figure, head, heads, (wide, high, size), color=colours.text, width=1.4)
    _frame(figure, selected, heads, (wide, high, size), color=palette.CLUSTER_COLOURS[1], width=3.5)
    figure.update_layout(
        xaxis={
            "title": {"text": "Head"},
            "tickvals": [column * wide + (size - 1) / 2 for column in range(heads)],
            "ticktext": list(range(heads)),
            "range": [-2, heads * wide - 1],
            "showgrid": False,
            "zeroline": False,
        },
        yaxis={
            "title": {"text": "Layer (first on top)"},
            "tickvals": [row * high + (size - 1) / 2 for row in range(layers)],
            "ticktext": list(range(layers)),
            "range": [layers * high - 1, -2],
            "showgrid": False,
            "zeroline": False,
        },
        height=round(layers * max(52, min(96, 1000 / heads)) + 70),
        margin={"l": 44, "r": 6, "t": 6, "b": 44},
        showlegend=False,
    )
    return figure


def _words_room(size: int, heads: int) -> int:
    """Cells of a thumbnail's height that its word takes."""
    return round(size * (0.3 if heads <= 12 else 0.36))


def _frame(figure: Any, head: int, heads: int, sizes: tuple[int, int, int], **line: Any) -> None:
    wide, high, size = sizes
    row, column = divmod(head, heads)
    figure.add_shape(
        type="rect",
        x0=column * wide - 1,
        x1=column * wide + size,
        y0=row * high - 1,
        y1=row * high + size,
        line=line,
    )
