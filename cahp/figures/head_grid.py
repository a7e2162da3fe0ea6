"""The heads of a model as a grid, layers by heads: which are kept, and what share of something each has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from cahp.figures.marks import UNDIMMED, legend, symbols, written
from cahp.figures.palette import CLUSTER_COLOURS, CLUSTERS, Grouping, contrast, ink
from cahp.values import Floats, HeadMask, Ints

#: Pixels: the room of a grid unless somebody says otherwise, and the tallest that one gets.
_WIDTH = 560
_TALLEST = 620


def head_name(head: int, heads: int) -> str:
    """A head's flat index in words."""
    return f"layer {head // heads}, head {head % heads}"


def places(layers: int, heads: int) -> dict[str, list[int]]:
    """The first columns of a table with one line a head: its layer, and its place there."""
    every = range(layers * heads)
    return {"layer": [head // heads for head in every], "head": [head % heads for head in every]}


def grid_figure(
    mask: HeadMask,
    labels: Ints | None = None,
    *,
    grouping: Grouping = CLUSTERS,
    representatives: Collection[int] = (),
    selected: int | None = None,
    lit: int | None = None,
    dark: bool = False,
    width: int = _WIDTH,
) -> Any:
    """The layers and their heads: survivors solid, pruned heads hollow, coloured and signed by group.

    ``labels (N,)`` groups of the heads (None: no colours), told apart as ``grouping`` says;
    ``representatives`` get a ring, ``selected`` a frame, the heads of the group ``lit`` a thin one.
    Every point's ``customdata`` is the head's flat index.
    ``width`` is the room in pixels.
    """
    import plotly.graph_objects as go

    colours = ink(dark=dark)
    layers, heads = mask.layers, mask.heads
    every = np.arange(layers * heads)
    kept = mask.keep.ravel()
    cell = cell_size(layers, heads, width)
    fill = [colours.accent] * len(every)
    if labels is not None:
        of_group = grouping.hues(labels)
        fill = [of_group[label] for label in labels]
    figure = go.Figure()
    words = [
        f"<b>{head_name(head, heads)}</b><br>{'kept' if kept[head] else 'pruned'}"
        + ("" if labels is None else f"<br>{grouping.one} {grouping.sign(int(labels[head]))}")
        + ("<br>represents its cluster" if head in representatives else "")
        for head in every.tolist()
    ]
    lettered = labels is not None and cell >= 17
    for here, symbol, name in ((kept, "square", "kept"), (~kept, "square-open", "pruned")):
        shown = every[here]
        figure.add_trace(
            go.Scatter(
                x=shown % heads,
                y=shown // heads,
                mode="markers+text" if lettered else "markers",
                marker={
                    "symbol": symbol if labels is None else symbols(symbol, labels, shown),
                    "size": cell * 0.78,
                    "color": [fill[head] for head in shown],
                    "opacity": 1,
                    "line": {"width": 2 if symbol == "square-open" else 0},
                },
                text=[grouping.sign(int(labels[head])) for head in shown] if lettered and labels is not None else None,
                textfont={
                    "size": max(8, min(12, cell * 0.36)),
                    "color": [contrast(fill[head]) if symbol == "square" else colours.text for head in shown],
                },
                customdata=shown,
                hovertext=[words[head] for head in shown],
                hoverinfo="text",
                name=name,
                showlegend=False,
                **UNDIMMED,
            )
        )
    alike = [] if labels is None or lit is None else np.flatnonzero(labels == lit).tolist()
    for heads_marked, mark, size, line in (
        (list(representatives), "circle-open", 0.98, 2.5),
        (alike, "square-open", 0.94, 1.2),
        ([] if selected is None else [selected], "square-open", 1.0, 2.5),
    ):
        if heads_marked:
            where = np.asarray(heads_marked)
            figure.add_trace(
                go.Scatter(
                    x=where % heads,
                    y=where // heads,
                    mode="markers",
                    marker={"symbol": mark, "size": cell * size, "color": colours.text, "line": {"width": line}},
                    hoverinfo="skip",
                    showlegend=False,
                    customdata=where,
                    **UNDIMMED,
                )
            )
    figure.add_traces(legend("square", colours))
    on_grid(figure, layers, heads, width=width)
    figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemsizing": "constant"})
    return figure


def cell_size(layers: int, heads: int, width: int = _WIDTH) -> float:
    """Pixels of one head in a layer-by-head grid."""
    return min(44.0, (width - 70) / heads, (_TALLEST - 90) / layers)


def on_grid(figure: Any, layers: int, heads: int, *, width: int = _WIDTH) -> None:
    """Lay a figure out as the layer-by-head grid: first layer on top, square cells."""
    cell = cell_size(layers, heads, width)
    for axis, count, title in (("xaxis", heads, "Head"), ("yaxis", layers, "Layer (first on top)")):
        step = 1 if count <= 16 else 4
        figure.update_layout(
            {
                axis: {
                    "title": {"text": title},
                    "tickvals": list(range(0, count, step)),
                    "range": [-0.6, count - 0.4] if axis == "xaxis" else [count - 0.4, -0.6],
                    "showgrid": False,
                    "zeroline": False,
                    "fixedrange": True,
                    "constrain": "domain",
                }
            }
        )
    figure.update_layout(
        yaxis={"scaleanchor": "x", "scaleratio": 1},
        height=round(cell * (layers + 0.2)) + 90,
        margin={"l": 50, "r": 10, "t": 34, "b": 46},
    )


def share_figure(
    shares: Floats,
    *,
    framed: Iterable[tuple[int, int]],
    crossed: Collection[tuple[int, int]] = (),
    scale: str,
    said: str,
    width: int,
    dark: bool,
    told: Sequence[Sequence[str]] | None = None,
) -> Any:
    """A share of each head, ``shares (L, H)`` in 0..1: layers by heads, some framed and some crossed out.

    ``scale`` is the title of the colours, and ``said`` what a cell says when pointed at (``%{z}`` is in per cent,
    ``%{customdata}`` what is ``told`` of it).
    """
    import plotly.graph_objects as go

    colours, (layers, heads) = ink(dark=dark), shares.shape
    figure = go.Figure(
        go.Heatmap(
            z=100 * shares,
            zmin=0,
            zmax=100,
            colorscale=[list(stop) for stop in colours.scale],
            # Below: beside the grid it would take the room that the numbers in its cells need on a phone.
            colorbar={
                "title": {"text": scale, "side": "bottom"},
                "orientation": "h",
                "thickness": 10,
                "yref": "container",
                "y": 0,
                "yanchor": "bottom",
            },
            xgap=2,
            ygap=2,
            customdata=told,
            hovertemplate=f"layer %{{y}}, head %{{x}}<br>{said}<extra></extra>",
        )
    )
    if cell_size(layers, heads, width) >= 20:
        gone = set(crossed)
        texts = [
            ["×" if (layer, head) in gone else f"{100 * shares[layer, head]:.0f}" for head in range(heads)]
            for layer in range(layers)
        ]
        figure.add_trace(written(texts, shares.tolist(), colours, size=10))
    for layer, head in framed:
        figure.add_shape(
            type="rect",
            x0=head - 0.46,
            x1=head + 0.46,
            y0=layer - 0.46,
            y1=layer + 0.46,
            line={"color": CLUSTER_COLOURS[1], "width": 2.5},
        )
    on_grid(figure, layers, heads, width=width)
    figure.update_layout(showlegend=False, height=figure.layout.height + 52, margin={"b": 98})
    return figure
