"""The graph of heads that attend alike on a text."""

from __future__ import annotations

from typing import Any

import numpy as np

from cahp.figures import palette
from cahp.figures.head_grid import head_name
from cahp.figures.marks import legend, symbols
from cahp.stages.similarity import HeadGraph
from cahp.values import HeadMask

#: With more heads, names would cover each other.
_NAMED = 150


def graph_figure(graph: HeadGraph, mask: HeadMask, *, dark: bool) -> Any:
    """Heads as nodes, coloured by community: kept ones solid, pruned ones hollow; like heads are near and joined.

    Solid lines join heads above the graph's threshold, dotted ones belong to the tree that holds it together.
    """
    import plotly.graph_objects as go

    ink, hues = palette.ink(dark=dark), palette.COMMUNITIES.hues(graph.communities)
    x, y = graph.positions[:, 0], -graph.positions[:, 1]
    figure = go.Figure()
    for tree, dash, name in ((False, "solid", "alike"), (True, "dot", "holds the graph together")):
        edges = graph.edges[graph.backbone == tree]
        if len(edges):
            # A gap after every edge, or one line would run through all of them.
            ends = [np.column_stack([axis[edges], np.full(len(edges), np.nan)]).ravel() for axis in (x, y)]
            figure.add_trace(
                go.Scatter(
                    x=ends[0],
                    y=ends[1],
                    mode="lines",
                    name=name,
                    line={"color": ink.faint, "width": 1.2, "dash": dash},
                    hoverinfo="skip",
                )
            )
    kept = mask.keep.ravel()
    named = len(kept) <= _NAMED
    for here, symbol, name in ((kept, "circle", "kept"), (~kept, "circle-open", "pruned")):
        shown = np.flatnonzero(here)
        fills = [hues[group] for group in graph.communities[shown]]
        figure.add_trace(
            go.Scatter(
                x=x[shown],
                y=y[shown],
                mode="markers+text" if named else "markers",
                name=name,
                showlegend=False,
                marker={
                    "symbol": symbols(symbol, graph.communities, shown),
                    "size": 24 if named else 11,
                    "color": fills,
                    "line": {"width": 2},
                },
                text=[f"{head // mask.heads}.{head % mask.heads}" for head in shown] if named else None,
                textfont={"size": 9, "color": [palette.contrast(fill) if here is kept else ink.text for fill in fills]},
                customdata=shown,
                hovertext=[
                    f"{head_name(head, mask.heads)}<br>{name}, community {palette.COMMUNITIES.sign(group)}"
                    for head, group in zip(shown.tolist(), graph.communities[shown].tolist(), strict=True)
                ],
                hoverinfo="text",
            )
        )
    figure.add_traces(legend("circle", ink))
    axis = {"visible": False, "range": [-1.12, 1.12]}
    figure.update_layout(
        xaxis=axis,
        yaxis=axis,
        height=560,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure
