"""Figures of one text of a person's choice, with all heads and with fewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.figures import palette
from cahp.figures.labels import label
from cahp.figures.marks import named_rows
from cahp.studies.own_text import AnswersOverBudgets, TextReading

#: Classes that are drawn; of more, those that any model here finds likeliest.
CLASSES = 8
#: Tokens that are drawn along an axis.
TOKENS = 24
#: How models are told apart without colour, in the order in which they are given.
_SIGNS = ("circle-open", "square", "diamond")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "circle-open", "square-open")


def likeliest(rows: Sequence[NDArray[np.float64]]) -> list[int]:
    """The classes to draw, likeliest of the first of ``rows (C,)`` first; each is one that some row finds likely."""
    top = np.argsort(-np.max(rows, axis=0), kind="stable")[:CLASSES]
    return sorted(top.tolist(), key=lambda place: -rows[0][place])


def probabilities_figure(models: Mapping[str, NDArray[np.float64]], classes: Sequence[str], *, dark: bool) -> Any:
    """Class probabilities ``(C,)`` of a text from several models by name, all heads first."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    shown = likeliest(list(models.values()))
    names = [label(classes[place]) for place in shown]
    hues = (colours.text, palette.CLUSTER_COLOURS[0], palette.CLUSTER_COLOURS[1])
    figure = go.Figure()
    for place, row in enumerate(shown):
        values = [100 * float(found[row]) for found in models.values()]
        line = {"color": colours.faint, "width": 4}
        figure.add_shape(type="line", x0=min(values), x1=max(values), y0=place, y1=place, line=line, layer="below")
    for (name, found), symbol, hue in zip(models.items(), _SIGNS, hues, strict=False):
        figure.add_trace(
            go.Scatter(
                x=[100 * float(found[row]) for row in shown],
                y=list(range(len(shown))),
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 12, "color": hue, "line": {"width": 2}},
                hovertext=[
                    f"{text}<br>{name}: {100 * found[row]:.1f} %" for text, row in zip(names, shown, strict=True)
                ],
                hoverinfo="text",
            )
        )
    figure.update_layout(
        xaxis={"title": {"text": "probability of the class (%)"}, "range": [-3, 103], "zeroline": False},
        yaxis=named_rows(names),
        height=100 + 26 * len(shown),
        margin={"l": 10, "r": 10, "t": 34, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure


def over_budgets_figure(found: AnswersOverBudgets, classes: Sequence[str], current: int, *, dark: bool) -> Any:
    """The class probabilities of a text at every budget that was tried, and where the board is now."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    shown = likeliest([found.probabilities[-1], *found.probabilities])
    figure = go.Figure()
    # Some markers suffice to tell lines apart.
    every = max(1, len(found.budgets) // 12)
    sizes = [8 if place % every == 0 else 0 for place in range(len(found.budgets))]
    for place, row in enumerate(shown):
        name = label(classes[row])
        figure.add_trace(
            go.Scatter(
                x=found.budgets,
                y=(100 * found.probabilities[:, row]).round(2),
                mode="lines+markers",
                name=name,
                line={"color": palette.CLUSTER_COLOURS[place], "width": 2, "dash": _DASHES[place]},
                marker={"symbol": _SYMBOLS[place], "size": sizes},
                hovertemplate=f"%{{x}} heads<br>{name}: %{{y:.1f}} %<extra></extra>",
            )
        )
    figure.add_vline(
        x=current,
        line={"color": colours.text, "width": 1.2, "dash": "dash"},
        annotation={"text": "now", "font": {"color": colours.text}, "yanchor": "bottom", "y": 1},
    )
    figure.update_layout(
        xaxis={"title": {"text": "heads kept"}, "zeroline": False},
        yaxis={"title": {"text": "probability (%)"}, "range": [-3, 103], "zeroline": False},
        height=310,
        margin={"l": 50, "r": 10, "t": 20, "b": 46},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
    )
    return figure


def words_to_show(full: TextReading, kept: TextReading) -> list[int]:
    """Places of the words, in reading order, that get most attention from all heads or from the kept ones."""
    most = np.where(kept.special, -1.0, np.maximum(full.attention, kept.attention))
    chosen = np.argsort(-most, kind="stable")[:TOKENS]
    return sorted(place for place in chosen.tolist() if most[place] >= 0)


def looked_at_figure(full: TextReading, kept: TextReading, *, dark: bool) -> Any:
    """What each word gets of the attention of the kept heads (bars) and of all heads (circles)."""
    import plotly.graph_objects as go

    colours, shown = palette.ink(dark=dark), words_to_show(full, kept)
    words = [label(kept.tokens[place], limit=14) for place in shown]
    along = list(range(len(shown)))
    figure = go.Figure()
    figure.add_trace(
        go.Bar(
            x=along,
            y=[100 * float(kept.attention[place]) for place in shown],
            name="kept heads",
            marker={"color": palette.CLUSTER_COLOURS[0]},
            hovertext=[
                f"{word}<br>kept heads: {100 * kept.attention[place]:.1f} %<br>"
                f"all heads: {100 * full.attention[place]:.1f} %"
                for word, place in zip(words, shown, strict=True)
            ],
            hoverinfo="text",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=along,
            y=[100 * float(full.attention[place]) for place in shown],
            mode="markers",
            name="all heads",
            marker={"symbol": "circle-open", "size": 9, "color": colours.text, "line": {"width": 2}},
            hoverinfo="skip",
        )
    )
    figure.update_layout(
        xaxis={"tickvals": along, "ticktext": words, "tickangle": -50, "title": {"text": "word"}, "showgrid": False},
        yaxis={"title": {"text": "share of attention (%)"}, "rangemode": "tozero"},
        height=270,
        margin={"l": 50, "r": 10, "t": 34, "b": 80},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure
