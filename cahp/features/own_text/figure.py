"""Figures of one text that a person enters, with all heads and with fewer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cahp.board import CLUSTER_COLOURS
from cahp.features.own_text.measuring import AnswersOverBudgets, TextReading, likeliest
from cahp.figures import LEGEND, draw, ink, label, named_rows, points, shape

#: Symbols of models, and dashes of classes, which tell them apart without colour.
_SIGNS = ("circle-open", "square", "diamond")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")


def probabilities_figure(
    models: Mapping[str, TextReading], names: Mapping[int, str], *, of: str = "class", dark: bool
) -> Any:
    """Draw the probabilities of classes, or ``of`` others, of a text from several models, all heads first."""
    shown = likeliest([reading.probabilities for reading in models.values()])
    words = [label(names[place]) for place in shown]
    colours = (ink(dark=dark).text, CLUSTER_COLOURS[0], CLUSTER_COLOURS[1])
    traces = []
    probabilities = 100 * np.stack([reading.probabilities[shown] for reading in models.values()])
    for (model, values), symbol, colour in zip(
        zip(models, probabilities.tolist(), strict=True), _SIGNS, colours, strict=False
    ):
        hover = [f"{word}<br>{model}: {value:.1f} %" for word, value in zip(words, values, strict=True)]
        rows = list(range(len(shown)))
        traces.append(points(values, rows, symbol, colour, size=12, outline=2, hover=hover, name=model))
    ranges = []
    for row, ends in enumerate(zip(probabilities.min(axis=0), probabilities.max(axis=0), strict=True)):
        ranges.append(shape("line", ends, (row, row), color=ink(dark=dark).faint, width=4))
    return draw(
        traces,
        x={"title": f"probability of the {of} (%)", "range": [-3, 103], "zeroline": False},
        y=named_rows(words),
        height=100 + 26 * len(shown),
        left=10,
        legend=LEGEND,
        shapes=ranges,
    )


def over_budgets_figure(
    curve: AnswersOverBudgets, names: Mapping[int, str], current: int, *, unit: str, dark: bool
) -> Any:
    """Draw the class probabilities of a text at every measured budget, with the ``current`` budget marked.

    A budget counts ``unit``s: heads, or groups of them.
    """
    text = ink(dark=dark).text
    places = list(curve.words or names)
    traces = []
    shown = likeliest([curve.probabilities[-1], *curve.probabilities])
    for column, colour, dash in zip(shown, CLUSTER_COLOURS, _DASHES, strict=False):
        traces.append(
            {
                "type": "scatter",
                "x": curve.budgets,
                "y": (100 * curve.probabilities[:, column]).round(1),
                "mode": "lines",
                "name": label(names[places[column]]),
                "line": {"color": colour, "width": 2, "dash": dash},
                "hovertemplate": f"%{{x}} {unit}s<br>%{{fullData.name}}: %{{y}} %<extra></extra>",
            }
        )
    figure = draw(
        traces,
        x={"title": f"{unit}s kept", "zeroline": False},
        y={"title": "probability (%)", "range": [-3, 103], "zeroline": False},
        height=310,
        top=20,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
    )
    note = {"text": "now", "font": {"color": text}, "yanchor": "bottom", "y": 1}
    return figure.add_vline(x=current, line={"color": text, "width": 1.2, "dash": "dash"}, annotation=note)
