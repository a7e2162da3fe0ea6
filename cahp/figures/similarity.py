"""Figures of the page My text: attention maps of a text, and heads that attend alike on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from cahp.board.colourings import CLUSTER_COLOURS, contrast
from cahp.figures import marks
from cahp.figures.head_grid import head_name
from cahp.figures.marks import (
    LEGEND,
    bar_below,
    by_state,
    clickable,
    draw,
    heat_map,
    label,
    legend,
    points,
    shape,
    symbols,
)
from cahp.stages.similarity import Attention, HeadGraph
from cahp.values import Floats, HeadMask, Ints
from cahp.values.head_roles import ROLES, HeadRoles
from cahp.values.statistics import called
from cahp.words import percent

#: The colour of kept heads, visible on every shade of the scale.
_KEPT = CLUSTER_COLOURS[1]
#: Pixels from one written token to the next.
_TOKEN = 15
#: With more heads, their names in the graph would overlap.
_NAMED = 150


# Attention maps ------------------------------------------------------------------------------------------------


def attention_figure(
    tokens: Sequence[str],
    weights: Floats,
    *,
    dark: bool = False,
    height: int = 420,
    top: float | None = None,
    ticks: int | None = None,
) -> Any:
    """Draw one head's attention ``weights (S, S)`` over ``tokens``: rows are query tokens, columns their targets.

    ``top`` is the weight with the strongest colour (None: the largest), so that several maps can share a scale. At most
    ``ticks`` tokens (None: as many as the height has room for) are written along each side; tooltips name the others.
    """
    words = [label(token, limit=12) for token in tokens]
    # Categories must differ, or equal words would share a line.
    names = [f"{place}: {word}" for place, word in enumerate(words)]
    step = max(1, -(-len(words) // (ticks or (height - 110) // _TOKEN)))
    axis = {
        "tickvals": list(range(0, len(words), step)),
        "ticktext": words[::step],
        "type": "category",
        "tickfont": {"size": 13},
        "showgrid": False,
        "constrain": "domain",
    }
    gap = 1 if len(words) <= 32 else 0
    if top is None:
        top = weights.max()
    cells = heat_map(
        np.asarray(weights, dtype=np.float32).round(4),
        # Squared stops: special tokens get most attention, and the rest must stay visible beside them.
        [(stop**2, colour) for stop, colour in marks.ink(dark=dark).scale],
        title="attention (0..1)",
        hover="%{y}<br>attends to %{x}<br>with %{z:.3f} of its attention",
        gap=gap,
        x=names,
        y=names,
        zmin=0,
        zmax=float(top) or 1.0,
    )
    return draw(
        [cells],
        x={**axis, "title": "token attended to", "side": "bottom", "tickangle": -50},
        y={**axis, "title": "token that attends", "autorange": "reversed"},
        height=height,
        left=70,
        bottom=80,
    )


def habit(weights: Floats, roles: HeadRoles | None = None, head: int = 0) -> str:
    """Describe the main target of a head's attention ``(S, S)``.

    The share of a target that is a role of ``head`` is that of its role, which leaves out special tokens as queries.
    """
    places = np.arange(len(weights))
    shares = {
        "attends mostly to the first token": float(weights[:, 0].mean()),
        "attends mostly to the last token": float(weights[:, -1].mean()),
        "attends mostly to the token itself": float(np.diagonal(weights).mean()),
        "attends mostly to the token before": float(weights[places[1:], places[:-1]].sum() / len(weights)),
        "attends mostly to the token after": float(weights[places[:-1], places[1:]].sum() / len(weights)),
    }
    mean = weights.mean(axis=0)
    place = int(mean.argmax())
    if 0 < place < len(weights) - 1:
        shares[f"attends mostly to one token, token {place + 1}"] = float(mean[place])
    if roles is not None:
        for name, score in roles.scores.items():
            target = f"attends mostly to {ROLES[name].target}"
            if target in shares:
                shares[target] = score.value[head]
    words, share = max(shares.items(), key=lambda pair: pair[1])
    if share < 0.4:
        return "spreads its attention over the text"
    return f"{words} ({percent(share, 0)} of its attention)"


def beside(
    attention: Attention, distances: Floats, shown: Sequence[int], *, heads: int, unit: str = "head", dark: bool
) -> Any:
    """Draw the attention of the first head of ``shown`` and of the others beside it, on one colour scale."""
    from plotly.subplots import make_subplots

    maps = attention.by_head[list(shown)]
    titles = [head_name(shown[0], heads, unit)]
    titles += [f"{head_name(head, heads, unit)}<br>distance {distances[shown[0], head]:.2f}" for head in shown[1:]]
    # Two in a row: four are too narrow for a phone.
    figure = make_subplots(
        rows=-(-len(shown) // 2),
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.24,
        subplot_titles=titles,
    )
    figure.update_annotations(font_size=13)
    for place, weights in enumerate(maps):
        row, column = divmod(place, 2)
        at = {"row": row + 1, "col": column + 1}
        single = attention_figure(attention.tokens, weights, dark=dark, top=float(maps.max()), ticks=9)
        single.data[0].showscale = False
        figure.add_trace(single.data[0], **at)
        figure.update_xaxes({**single.layout.xaxis.to_plotly_json(), "title": None}, **at)
        figure.update_yaxes(
            {**single.layout.yaxis.to_plotly_json(), "title": None, "showticklabels": column == 0}, **at
        )
    return figure.update_layout(height=640, margin={"l": 60, "r": 10, "t": 44, "b": 60}, showlegend=False)


# Heads that attend alike ---------------------------------------------------------------------------------------


def graph_figure(graph: HeadGraph, mask: HeadMask, *, unit: str = "head", dark: bool) -> Any:
    """Draw heads as nodes, coloured by community: kept ones solid, pruned ones tinted; similar heads are joined.

    A node is a ``unit``.
    Solid lines join heads above the graph's threshold; dotted ones belong to the tree that connects the graph.
    """
    ink = marks.ink(dark=dark)
    groups = marks.mark_communities(graph.communities)
    x = graph.positions[:, 0]
    y = -graph.positions[:, 1]
    traces: list[Any] = []
    for tree, dash, name in ((False, "solid", "alike"), (True, "dot", "connects the graph")):
        edges = graph.edges[graph.backbone == tree]
        if len(edges):
            # A gap after every edge, or one line would join them all.
            gap = np.full(len(edges), np.nan)
            ends = [np.column_stack([axis[edges], gap]).ravel() for axis in (x, y)]
            line = {"color": ink.faint, "width": 1.2, "dash": dash}
            edge = {"type": "scatter", "mode": "lines", "name": name, "line": line, "hoverinfo": "skip"}
            traces.append({**edge, "x": ends[0], "y": ends[1]})
    named = mask.keep.size <= _NAMED
    size = 24 if named else 11
    for shown, fills, state in by_state(mask, groups.colours, ink):
        names: dict[str, Any] = {}
        if named:
            texts = [called(head, mask.heads) for head in shown]
            names = {"mode": "markers+text", "text": texts, "textfont": {"size": 9, "color": [*map(contrast, fills)]}}
        hover = [
            f"{head_name(head, mask.heads, unit)}<br>{state}, community {groups.names[head]}" for head in shown.tolist()
        ]
        traces.append(
            points(
                x[shown],
                y[shown],
                symbols("circle", groups, shown),
                fills,
                size=size,
                hover=hover,
                name=state,
                showlegend=False,
                **clickable(shown),
                **names,
            )
        )
    axis = {"visible": False, "range": [-1.12, 1.12]}
    traces += legend("circle", ink)
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
    )
    kept = np.flatnonzero(mask.keep.ravel()[order])
    kept_names = [names[place] for place in kept]
    hover = [f"{name}<br>kept" for name in kept_names]
    size = max(5.0, 520 / len(order))
    clicks = clickable(order[kept])
    diagonal = points(kept_names, kept_names, "square-open", _KEPT, size=size, outline=2, hover=hover, **clicks)
    bounds = [-0.5, *(np.flatnonzero(np.diff(communities[order])) + 0.5).tolist(), len(order) - 0.5]
    axis = {
        "tickvals": [int((start + end) / 2) for start, end in pairwise(bounds)],
        "ticktext": [marks.community_name(group) for group in range(len(bounds) - 1)],
        "title": f"{unit}s, by community",
        "showgrid": False,
        "constrain": "domain",
    }
    figure = draw(
        [{**cells, **bar_below("distance (0 alike .. 1)")}, diagonal],
        x=axis,
        y={**axis, "autorange": "reversed", "scaleanchor": "x"},
        height=640,
        left=60,
        bottom=110,
        shapes=[shape("rect", block, block, color=colours.text, width=1.2) for block in pairwise(bounds)],
    )
    first, second = np.triu_indices(len(order), 1)
    same = communities[first] == communities[second]
    values = distances[first, second]
    if not same.any() or same.all():
        return figure, f"Distances between all {unit}s on this text"
    inside = float(values[same].mean())
    outside = float(values[~same].mean())
    return figure, f"Mean distance {inside:.2f} within communities, {outside:.2f} between them"
