"""Figures of the page My text: attention maps of a text, and heads that attend alike on it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from cahp.figures import marks
from cahp.figures.head_grid import head_name, head_traces
from cahp.figures.marks import LEGEND, bar_below, box, draw, heat_map, label, legend
from cahp.stages.similarity import HeadGraph
from cahp.values import Floats, HeadMask, Ints
from cahp.values.statistics import called

#: Tokens that are written along a side, at most.
_WRITTEN = 20
#: With more heads, their names in the graph would overlap.
_NAMED = 150


# Attention maps ------------------------------------------------------------------------------------------------


def attention_figure(tokens: Sequence[str], weights: Floats, *, dark: bool = False, top: float = 0.0) -> Any:
    """Draw one head's attention ``weights (S, S)`` over ``tokens``: rows are query tokens, columns their targets.

    ``top`` is the weight with the strongest colour (0: the largest), so that several maps can share a scale. As many
    tokens are written along each side as there is room for; tooltips name the others.
    """
    words = [label(token, limit=12) for token in tokens]
    # Categories must differ, or equal words would share a line.
    names = [f"{place}: {word}" for place, word in enumerate(words)]
    step = max(1, -(-len(words) // _WRITTEN))
    axis = {
        "tickvals": list(range(0, len(words), step)),
        "ticktext": words[::step],
        "type": "category",
        "tickfont": {"size": 13},
        "showgrid": False,
        "constrain": "domain",
    }
    cells = heat_map(
        np.asarray(weights, dtype=np.float32).round(4),
        # Squared stops: special tokens get most attention, and the rest must stay visible beside them.
        [(stop**2, colour) for stop, colour in marks.ink(dark=dark).scale],
        hover="%{y}<br>attends to %{x}<br>with %{z:.3f} of its attention",
        gap=int(len(words) <= 32),
        x=names,
        y=names,
        zmin=0,
        zmax=top or float(weights.max()) or 1.0,
    )
    return draw(
        [cells],
        x={**axis, "title": "token attended to", "side": "bottom", "tickangle": -50},
        y={**axis, "title": "token that attends", "autorange": "reversed"},
        height=420,
        left=70,
        bottom=80,
    )


# Heads that attend alike ---------------------------------------------------------------------------------------


def graph_figure(graph: HeadGraph, mask: HeadMask, *, unit: str, dark: bool) -> Any:
    """Draw heads as nodes, coloured by community: kept ones solid, pruned ones tinted; similar heads are joined.

    A node is a ``unit``. Solid lines join heads above the graph's threshold; dotted ones belong to the tree that
    connects the graph.
    """
    ink = marks.ink(dark=dark)
    groups = marks.mark_communities(graph.communities)
    places = graph.positions * [1, -1]
    traces = []
    for tree, dash, name in ((False, "solid", "alike"), (True, "dot", "connects the graph")):
        edges = graph.edges[graph.backbone == tree]
        # A gap after every edge, or one line would join them all.
        ends = np.insert(places[edges], 2, np.nan, axis=1).reshape(-1, 2)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": ends[:, 0],
                "y": ends[:, 1],
                "name": name,
                "line": {"color": ink.faint, "width": 1.2, "dash": dash},
                "hoverinfo": "skip",
            }
        )
    names = []
    size = 11
    if mask.keep.size <= _NAMED:
        size = 24
        names = [called(head, mask.heads) for head in range(mask.keep.size)]
    traces += head_traces(
        mask, groups, places, "circle", size, unit=unit, dark=dark, names=names, textfont={"size": 9}, showlegend=False
    )
    axis = {"visible": False, "range": [-1.12, 1.12]}
    traces += legend(ink)
    return draw(traces, x=axis, y=axis, height=560, left=10, top=30, bottom=10, legend=LEGEND)


def matrix(distances: Floats, communities: Ints, mask: HeadMask, *, unit: str = "head", dark: bool) -> tuple[Any, str]:
    """Draw all distances, heads ordered by community, and state the mean distances in and between communities.

    ``unit`` is what a head is called.
    """
    colours = marks.ink(dark=dark)
    order = np.argsort(communities, kind="stable")
    names = [head_name(head, mask.heads, unit) for head in order.tolist()]
    cells = heat_map(
        distances[np.ix_(order, order)].astype(np.float32),
        # Small distances are strong: the blocks of communities stand out.
        [(1 - stop, colour) for stop, colour in reversed(colours.scale)],
        hover="%{y}<br>%{x}<br>distance %{z:.2f}",
        x=names,
        y=names,
        zmin=0,
        zmax=1,
        **bar_below("distance (0 alike .. 1)"),
    )
    bounds = [-0.5, *(np.flatnonzero(np.diff(communities[order])) + 0.5).tolist(), len(order) - 0.5]
    axis = {
        "tickvals": [int((start + end) / 2) for start, end in pairwise(bounds)],
        "ticktext": [marks.community_name(group) for group in range(len(bounds) - 1)],
        "title": f"{unit}s, by community",
        "showgrid": False,
        "constrain": "domain",
    }
    figure = draw(
        [cells],
        x=axis,
        y={**axis, "autorange": "reversed", "scaleanchor": "x"},
        height=640,
        left=60,
        bottom=110,
        shapes=[box(block, block, color=colours.text, width=1.2) for block in pairwise(bounds)],
    )
    pairs = np.triu_indices(len(order), 1)
    values = distances[pairs]
    same = (communities[:, None] == communities)[pairs]
    if not same.any() or same.all():
        return figure, f"Distances between all {unit}s on this text"
    inside = float(values[same].mean())
    outside = float(values[~same].mean())
    return figure, f"Mean distance {inside:.2f} within communities, {outside:.2f} between them"
