"""Figures of an attribution: all heads as a heat map, the top heads estimated and exact, and random sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from cahp.board.colours import CLUSTER_COLOURS
from cahp.features.attribution.result import Attribution, signed_nats
from cahp.figures.head_grid import CellWords, signed_figure
from cahp.figures.marks import LEGEND, draw, named_rows, points, shape
from cahp.figures.palette import ink

#: Pixels of the width for which the heat map is drawn.
_WIDTH = 560
#: The title of an axis; the headings name what changes.
_CHANGE = "change of the log-probability (nats)"


def changes_figure(result: Attribution, *, dark: bool) -> Any:
    """Draw the estimated change without each head; those that were removed exactly are framed."""
    words = CellWords(
        "estimated change without it, nats", f"changes the {result.metric} by %{{z:+.2r}} nats", result.unit
    )
    framed = [(one.layer, one.head) for one in result.removed]
    return signed_figure(result.changes, framed=framed, words=words, width=_WIDTH, dark=dark)


def top_figure(result: Attribution, *, dark: bool) -> Any:
    """Draw the change without each of the top heads: estimated (circles) and exact (dots)."""
    colours = ink(dark=dark)
    names = [f"layer {one.layer}, {result.unit} {one.head}" for one in result.removed]
    rows = list(range(len(names)))
    exact = [one.exact for one in result.removed]
    estimated = [one.estimated for one in result.removed]
    traces = []
    for values, name, symbol, hue in (
        (estimated, "estimated", "circle-open", colours.text),
        (exact, "exact", "circle", colours.accent),
    ):
        hover = [f"{row}<br>{name}: {signed_nats(value)} nats" for row, value in zip(names, values, strict=True)]
        traces.append(points(values, rows, symbol, hue, outline=2, hover=hover, name=name))
    return draw(
        traces,
        x={"title": _CHANGE, "zeroline": True, "exponentformat": "none"},
        y=named_rows(names),
        height=110 + 26 * len(rows),
        left=10,
        legend=LEGEND,
    )


def sets_figure(result: Attribution, *, dark: bool) -> Any:
    """Draw the exact change without the top heads together, and without each random set of as many."""
    colours = ink(dark=dark)
    assert result.together is not None
    count = len(result.removed)
    names = [f"top {count}", f"{count} at random"]
    median = float(np.median(result.random))
    return draw(
        [
            points(
                [result.together],
                [0],
                "circle",
                CLUSTER_COLOURS[0],
                size=13,
                hover=[f"{names[0]}: {signed_nats(result.together)} nats"],
            ),
            points(
                list(result.random),
                [1] * len(result.random),
                "circle-open",
                colours.text,
                outline=2,
                hover=[f"{names[1]}: {signed_nats(value)} nats" for value in result.random],
            ),
        ],
        x={"title": _CHANGE, "zeroline": True, "exponentformat": "none"},
        y=named_rows(names),
        height=170,
        left=10,
        shapes=[shape("line", (median, median), (0.7, 1.3), color=colours.text, width=2)],
    )
