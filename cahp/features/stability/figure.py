"""Figures of the resamples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.features.stability.measuring import Stability
from cahp.figures import palette
from cahp.figures.head_grid import CellWords, share_figure
from cahp.figures.marks import LEGEND, draw, error_bars, points
from cahp.values import Estimate, HeadMask
from cahp.words import span


def frequency_figure(result: Stability, framed: HeadMask | None, *, unit: str = "head", dark: bool) -> Any:
    """Draw the share of choices that keep each head, or other ``unit``: layers by heads, those of a mask framed."""
    n = len(result.masks)
    notes = []
    for times in range(n + 1):
        note = f" ({times} of {n})"
        ends = result.share_ci95(times)
        if ends is not None:
            note += f"<br>95 % interval {span(100 * ends[0], 100 * ends[1], 0)} %"
        notes.append(note)
    frames: list[tuple[int, int]] = []
    if framed is not None and not framed.is_full:
        frames = [divmod(head, framed.heads) for head in framed.flat]
    counts = np.rint(result.frequency * n).astype(int)
    words = CellWords(
        "choices that keep it (%)",
        "kept in %{z:.0f} % of the choices%{customdata}",
        unit,
        [[notes[times] for times in row] for row in counts],
    )
    return share_figure(result.frequency, framed=frames, words=words, width=450, dark=dark)


def knee_figure(result: Stability, column: str, *, unit: str = "head", dark: bool) -> Any:
    """Draw the clusters at the knee and the heads, or other ``unit``, of each choice."""
    colours = palette.ink(dark=dark)
    places = [str(value) for value in result.values]
    mode = "markers"
    if result.axis == "degree":
        mode = "lines+markers"
    traces = []
    for name, values, symbol, colour in (
        (f"{unit}s kept", result.keep.sum(axis=(1, 2)), "square-open", colours.text),
        ("clusters at the knee", result.knees, "circle", colours.accent),
    ):
        # Without a knee, a resample has no point.
        heights = [value or None for value in values.tolist()]
        hover = [f"{place}<br>{name}: {value}" for place, value in zip(places, values, strict=True)]
        line = {"color": colour, "width": 1}
        traces.append(
            points(places, heights, symbol, colour, size=10, outline=1.5, hover=hover, name=name, mode=mode, line=line)
        )
    y = {"title": f"{unit}s", "rangemode": "tozero"}
    # The lines keep their width in the legend.
    legend = {**LEGEND, "itemsizing": "trace"}
    return draw(traces, x={"title": column, "type": "category"}, y=y, height=330, legend=legend)


def divergence_figure(places: Sequence[Any], divergences: Sequence[Estimate], column: str, *, dark: bool) -> Any:
    """Draw the KL divergence of each choice, with its interval."""
    accent = palette.ink(dark=dark).accent
    values = [divergence.value for divergence in divergences]
    names = [str(place) for place in places]
    ends = [(divergence.low, divergence.high) for divergence in divergences]
    bars = error_bars(values, ends, accent, width=4)
    hover = [f"{name}<br>{cost.text} nats ({cost.span})" for name, cost in zip(names, divergences, strict=True)]
    y = {"title": "KL divergence (nats)", "rangemode": "tozero"}
    traces = [points(names, values, "circle", accent, size=10, hover=hover, error_y=bars)]
    return draw(traces, x={"title": column, "type": "category"}, y=y, height=330)
