"""Figures of one text that a person enters, with all heads and with fewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.board import CLUSTER_COLOURS
from cahp.features.own_text.measuring import AnswersOverBudgets, TextReading, likeliest
from cahp.figures import LEGEND, draw, ink, label, named_rows, points, shape

#: Most classes that are drawn: the most probable ones.
CLASSES = 8
#: Most tokens that are drawn along an axis.
TOKENS = 24
#: Symbols of models, and dashes and symbols of classes, which tell them apart without colour.
_SIGNS = ("circle-open", "square", "diamond")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "circle-open", "square-open")


def probabilities_figure(
    models: Mapping[str, NDArray[np.float64]], classes: Sequence[str], *, of: str = "class", dark: bool
) -> Any:
    """Draw the probabilities ``(C,)`` of classes, or ``of`` others, of a text from several models, all heads first."""
    colours = ink(dark=dark)
    shown = likeliest(list(models.values()), CLASSES)
    names = [label(classes[place]) for place in shown]
    rows = list(range(len(shown)))
    hues = (colours.text, CLUSTER_COLOURS[0], CLUSTER_COLOURS[1])
    percents = []
    traces = []
    for name, symbol, hue in zip(models, _SIGNS, hues, strict=False):
        values = [100 * float(models[name][place]) for place in shown]
        hover = [f"{text}<br>{name}: {value:.1f} %" for text, value in zip(names, values, strict=True)]
        traces.append(points(values, rows, symbol, hue, size=12, outline=2, hover=hover, name=name))
        percents.append(values)
    ranges = []
    for row, of_class in enumerate(zip(*percents, strict=True)):
        ends = (min(of_class), max(of_class))
        ranges.append(shape("line", ends, (row, row), color=colours.faint, width=4))
    return draw(
        traces,
        x={"title": f"probability of the {of} (%)", "range": [-3, 103], "zeroline": False},
        y=named_rows(names),
        height=100 + 26 * len(shown),
        left=10,
        legend=LEGEND,
        shapes=ranges,
    )


def over_budgets_figure(
    curve: AnswersOverBudgets, classes: Sequence[str], current: int, *, unit: str, dark: bool
) -> Any:
    """Draw the class probabilities of a text at every measured budget, with the ``current`` budget marked.

    A budget counts ``unit``s: heads, or groups of them.
    """
    text = ink(dark=dark).text
    # A few markers are enough to tell lines apart.
    every = max(1, len(curve.budgets) // 12)
    sizes = [0] * len(curve.budgets)
    for place in range(0, len(sizes), every):
        sizes[place] = 8
    traces = []
    for place, row in enumerate(likeliest([curve.probabilities[-1], *curve.probabilities], CLASSES)):
        name = label(classes[row])
        traces.append(
            {
                "type": "scatter",
                "x": curve.budgets,
                "y": (100 * curve.probabilities[:, row]).round(2),
                "mode": "lines+markers",
                "name": name,
                "line": {"color": CLUSTER_COLOURS[place], "width": 2, "dash": _DASHES[place]},
                "marker": {"symbol": _SYMBOLS[place], "size": sizes},
                "hovertemplate": f"%{{x}} {unit}s<br>{name}: %{{y:.1f}} %<extra></extra>",
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


def words_to_show(full: TextReading, kept: TextReading) -> list[int]:
    """Return the places, in reading order, of the words with most attention from all heads or from the kept ones."""
    most = np.where(kept.special, -1.0, np.maximum(full.attention, kept.attention))
    chosen = np.argsort(-most, kind="stable")[:TOKENS]
    return sorted(place for place in chosen.tolist() if most[place] >= 0)


def looked_at_figure(full: TextReading, kept: TextReading, *, unit: str, dark: bool) -> Any:
    """Draw the attention on each word from the kept heads (bars) and from all heads (circles), or groups of them."""
    shown = words_to_show(full, kept)
    words = [label(kept.tokens[place], limit=14) for place in shown]
    along = list(range(len(shown)))
    by_kept = 100 * kept.attention[shown]
    by_all = 100 * full.attention[shown]
    bars = {
        "type": "bar",
        "x": along,
        "y": by_kept,
        "name": f"kept {unit}s",
        "marker": {"color": CLUSTER_COLOURS[0]},
        "hovertext": [
            f"{word}<br>kept {unit}s: {some:.1f} %<br>all {unit}s: {every:.1f} %"
            for word, some, every in zip(words, by_kept, by_all, strict=True)
        ],
        "hoverinfo": "text",
    }
    text = ink(dark=dark).text
    circles = points(along, by_all, "circle-open", text, size=9, outline=2, name=f"all {unit}s")
    return draw(
        [bars, circles],
        x={"tickvals": along, "ticktext": words, "tickangle": -50, "title": "word", "showgrid": False},
        y={"title": "share of attention (%)", "rangemode": "tozero"},
        height=270,
        bottom=80,
        legend=LEGEND,
    )
