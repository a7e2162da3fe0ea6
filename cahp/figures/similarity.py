"""The pictures of the Similarity page, and what can be said of them in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.figures import palette
from cahp.figures.attention_map import attention_figure
from cahp.figures.head_grid import head_name, places
from cahp.figures.marks import UNDIMMED
from cahp.stages.similarity import Attention, Change
from cahp.values import Floats, HeadMask, Ints

#: Against every shade of the scale.
_SURVIVOR = palette.CLUSTER_COLOURS[1]


def habit(weights: Floats) -> str:
    """The plainest thing that can be said of a head's attention ``(S, S)``: where most of it goes."""
    places = np.arange(len(weights))
    shares = {
        "looks mostly at the first token": float(weights[:, 0].mean()),
        "looks mostly at the last token": float(weights[:, -1].mean()),
        "looks mostly at the token itself": float(np.diagonal(weights).mean()),
        "looks mostly at the token before": float(weights[places[1:], places[:-1]].sum() / len(weights)),
        "looks mostly at the token after": float(weights[places[:-1], places[1:]].sum() / len(weights)),
    }
    words, share = max(shares.items(), key=lambda pair: pair[1])
    return f"{words} ({share:.0%} of its attention)" if share >= 0.4 else "spreads its attention over the text"


def beside(attention: Attention, distances: Floats, shown: Sequence[int], *, heads: int, dark: bool) -> Any:
    """The attention of the first of ``shown`` and of the others beside it, on one scale of colours."""
    from plotly.subplots import make_subplots

    maps = attention.by_head[list(shown)]
    titles = [head_name(shown[0], heads)]
    titles += [f"{head_name(head, heads)}<br>distance {distances[shown[0], head]:.2f}" for head in shown[1:]]
    figure = make_subplots(cols=len(shown), shared_yaxes=True, horizontal_spacing=0.02, subplot_titles=titles)
    figure.update_annotations(font_size=13)
    top = float(maps.max())
    for column, weights in enumerate(maps, start=1):
        single = attention_figure(attention.tokens, weights, dark=dark, top=top, ticks=12)
        single.data[0].showscale = column == len(shown)
        figure.add_trace(single.data[0], row=1, col=column)
        figure.update_xaxes(single.layout.xaxis, tickfont={"size": 9}, row=1, col=column)
        figure.update_yaxes(single.layout.yaxis, tickfont={"size": 9}, row=1, col=column)
    figure.update_yaxes(title_text="")
    figure.update_yaxes(title_text="token that looks", row=1, col=1)
    figure.update_layout(height=340, margin={"l": 70, "r": 10, "t": 50, "b": 70}, showlegend=False)
    return figure


def among_layers(distances: Floats, mask: HeadMask, chosen: int, *, dark: bool) -> tuple[Any, str]:
    """Every head's distance to the chosen one, layer by layer, and which layer is most like it."""
    import plotly.graph_objects as go

    heads, colours, apart = mask.heads, palette.ink(dark=dark), distances[chosen]
    every, kept = np.arange(len(apart)), mask.keep.ravel()
    figure = go.Figure()
    for here, symbol, name in ((kept, "square", "kept"), (~kept, "square-open", "pruned")):
        shown = every[here & (every != chosen)]
        figure.add_trace(
            go.Scatter(
                x=apart[shown],
                y=shown // heads,
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 11, "color": colours.accent, "line": {"width": 1.5}},
                customdata=shown,
                hovertext=[f"{head_name(head, heads)}<br>distance {apart[head]:.2f}" for head in shown.tolist()],
                hoverinfo="text",
                **UNDIMMED,
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[0],
            y=[chosen // heads],
            mode="markers",
            name="chosen",
            marker={"symbol": "star", "size": 15, "color": colours.text},
            customdata=[chosen],
            hovertext=[head_name(chosen, heads)],
            hoverinfo="text",
            **UNDIMMED,
        )
    )
    figure.update_layout(
        xaxis={"title": {"text": "distance to it (0..1)"}, "range": [-0.04, 1.02], "zeroline": False},
        yaxis={
            "title": {"text": "Layer (first on top)"},
            "range": [mask.layers - 0.5, -0.5],
            "dtick": 1 if mask.layers <= 16 else 4,
            "zeroline": False,
        },
        height=470,
        margin={"l": 50, "r": 10, "t": 34, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    others = [every[(every // heads == layer) & (every != chosen)] for layer in range(mask.layers)]
    means = [float(apart[rest].mean()) if len(rest) else np.inf for rest in others]
    closest = int(np.argmin(means))
    where = "its own layer" if closest == chosen // heads else f"layer {closest}"
    return figure, f"Most like the heads of {where}: mean distance {means[closest]:.2f}"


def matrix(distances: Floats, communities: Ints, mask: HeadMask, *, dark: bool) -> tuple[Any, str]:
    """All distances, heads ordered by community, and how far apart communities are."""
    import plotly.graph_objects as go

    colours, order = palette.ink(dark=dark), np.argsort(communities, kind="stable")
    names = [head_name(head, mask.heads) for head in order.tolist()]
    figure = go.Figure(
        go.Heatmap(
            z=distances[np.ix_(order, order)].astype(np.float32),
            x=names,
            y=names,
            zmin=0,
            zmax=1,
            # Alike is strong: the blocks of communities stand out.
            colorscale=[[1 - stop, colour] for stop, colour in reversed(colours.scale)],
            colorbar={"title": {"text": "distance (0 alike .. 1)", "side": "right"}, "thickness": 10, "len": 0.9},
            hovertemplate="%{y}<br>%{x}<br>distance %{z:.2f}<extra></extra>",
        )
    )
    kept = np.flatnonzero(mask.keep.ravel()[order])
    size = max(5.0, 520 / len(order))
    figure.add_trace(
        go.Scatter(
            x=[names[place] for place in kept],
            y=[names[place] for place in kept],
            mode="markers",
            marker={"symbol": "square-open", "size": size, "color": _SURVIVOR, "line": {"width": 2}},
            customdata=order[kept],
            hovertext=[f"{names[place]}<br>kept" for place in kept],
            hoverinfo="text",
            **UNDIMMED,
        )
    )
    bounds = [-0.5, *(np.flatnonzero(np.diff(communities[order])) + 0.5).tolist(), len(order) - 0.5]
    for start, end in pairwise(bounds):
        figure.add_shape(type="rect", x0=start, x1=end, y0=start, y1=end, line={"color": colours.text, "width": 1.2})
    axis = {
        "tickvals": [int((start + end) / 2) for start, end in pairwise(bounds)],
        "ticktext": [palette.COMMUNITIES.sign(group) for group in range(len(bounds) - 1)],
        "title": {"text": "heads, by community"},
        "showgrid": False,
        "constrain": "domain",
    }
    figure.update_layout(
        xaxis=axis,
        yaxis={**axis, "autorange": "reversed", "scaleanchor": "x"},
        height=640,
        margin={"l": 60, "r": 10, "t": 10, "b": 50},
        showlegend=False,
    )
    first, second = np.triu_indices(len(order), 1)
    same, values = communities[first] == communities[second], distances[first, second]
    if not same.any() or same.all():
        return figure, "How far apart all heads are on this text"
    inside, outside = float(values[same].mean()), float(values[~same].mean())
    return figure, f"Heads of one community are {inside:.2f} apart on average, others {outside:.2f}"


def dumbbells(found: Sequence[Change], names: tuple[str, str], *, heads: int, dark: bool) -> tuple[Any, str]:
    """Pairs of heads and their distance on two texts, and what happened to the first pair."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    rows = [f"{head_name(pair.first, heads)} – {head_name(pair.second, heads)}" for pair in found]
    figure = go.Figure()
    for row, pair in zip(rows, found, strict=True):
        line = {"color": colours.faint, "width": 4}
        figure.add_shape(type="line", x0=pair.before, x1=pair.after, y0=row, y1=row, line=line, layer="below")
    ends: tuple[tuple[str, str, Callable[[Change], float]], ...] = (
        ("circle", palette.CLUSTER_COLOURS[0], lambda pair: pair.before),
        ("square", palette.CLUSTER_COLOURS[1], lambda pair: pair.after),
    )
    for name, (symbol, colour, value) in zip(names, ends, strict=True):
        figure.add_trace(
            go.Scatter(
                x=[value(pair) for pair in found],
                y=rows,
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 12, "color": colour},
                hovertemplate=f"%{{y}}<br>{name}: distance %{{x:.2f}}<extra></extra>",
            )
        )
    figure.update_layout(
        xaxis={"title": {"text": "distance (0..1)"}, "range": [-0.02, 1.02], "zeroline": False},
        yaxis={"autorange": "reversed", "title": {"text": "pair of heads"}, "showgrid": False},
        height=90 + 30 * len(found),
        margin={"l": 60, "r": 10, "t": 34, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure, _verdict(found, names, heads)


def _verdict(found: Sequence[Change], names: tuple[str, str], heads: int) -> str:
    if not found or round(found[0].before, 2) == round(found[0].after, 2):
        return "The heads relate to each other in the same way on both texts"
    most = found[0]
    near, far = names if most.before < most.after else names[::-1]
    first, second = head_name(most.first, heads).capitalize(), head_name(most.second, heads)
    return (
        f"{first} and {second} are {min(most.before, most.after):.2f} apart on {near}, but "
        f"{max(most.before, most.after):.2f} on {far}"
    )


def heads_table(communities: Ints, mask: HeadMask) -> dict[str, Sequence[Any]]:
    """One line a head: where it is, its community, and whether it is kept."""
    return {
        **places(mask.layers, mask.heads),
        "community": [palette.COMMUNITIES.sign(int(group)) for group in communities],
        "kept": mask.keep.ravel().tolist(),
    }


def communities_table(communities: Ints, mask: HeadMask) -> dict[str, Sequence[Any]]:
    """One line a community: its heads and those of them that are kept."""
    sizes = np.bincount(communities)
    return {
        "Community": [palette.COMMUNITIES.sign(group) for group in range(len(sizes))],
        "Heads": sizes.tolist(),
        "Kept": np.bincount(communities[mask.keep.ravel()], minlength=len(sizes)).tolist(),
    }


def attention_table(tokens: Sequence[str], weights: NDArray[np.float32]) -> dict[str, Sequence[Any]]:
    """One line a pair of tokens."""
    rows, columns = np.indices(weights.shape).reshape(2, -1)
    return {
        "place": rows.tolist(),
        "token": [tokens[row] for row in rows],
        "looks at place": columns.tolist(),
        "looks at token": [tokens[column] for column in columns],
        "attention": weights.ravel().round(5).tolist(),
    }


def distance_table(distances: Floats, heads: int) -> dict[str, Sequence[Any]]:
    """The matrix, one line and one column a head."""
    names = [head_name(head, heads) for head in range(len(distances))]
    columns = {name: distances[:, place].round(4).tolist() for place, name in enumerate(names)}
    return {"distance": names, **columns}
