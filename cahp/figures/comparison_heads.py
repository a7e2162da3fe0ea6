"""Figures of a comparison for the page: the heads that methods keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.board.colours import CLUSTER_COLOURS
from cahp.comparison import SplitResults
from cahp.comparison.result import mean_layer
from cahp.figures import marks, palette
from cahp.figures.comparison import name_of
from cahp.figures.head_grid import CellWords, share_figure


def layer_figure(results: SplitResults, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """Heads that each method keeps in each layer, and their mean layer."""
    ink = palette.ink(dark=dark)
    shown = by_depth(results, budget, methods)
    names = [name_of(name) for name in shown]
    values = [results.layers[name, budget] for name in shown]
    layers = results.document.model.layers
    top = max((max(value) for value in values), default=1.0)
    traces: list[Any] = [
        marks.heat_map(
            values,
            [list(stop) for stop in ink.scale],
            title="heads kept (mean)",
            hover="%{customdata}<br>layer %{x}: %{z:.2f} heads kept on average",
            gap=2,
            zmin=0,
            zmax=top,
            customdata=[[name] * layers for name in names],
            name="heads kept",
        )
    ]
    if layers <= 24:
        shares = [[mean / (top or 1.0) for mean in value] for value in values]
        traces.append(marks.written([[f"{mean:.1f}" for mean in value] for value in values], shares, ink))
    depths = [mean_layer(value) for value in values]
    hover = [f"{name}<br>mean layer {depth:.2f}" for name, depth in zip(names, depths, strict=True)]
    traces.append(
        marks.points(
            depths,
            # Between the rows, where they hide no number.
            [place + 0.38 for place in range(len(shown))],
            "triangle-up",
            CLUSTER_COLOURS[1],
            outline=1,
            hover=hover,
            name="mean layer of the kept heads",
            showlegend=True,
        )
    )
    step = 1 if layers <= 16 else 4
    steps = list(range(0, layers, step))
    figure = marks.draw(
        traces,
        x={"title": "layer (first to last)", "tickvals": steps, "showgrid": False, "zeroline": False},
        y=marks.named_rows(names),
        height=110 + 34 * max(2, len(shown)),
        left=10,
        top=30,
        bottom=50,
        legend=marks.LEGEND,
    )
    figure.add_vline(x=(layers - 1) / 2, line={"color": ink.text, "width": 1.2, "dash": "dash"})
    return figure


def by_depth(results: SplitResults, budget: int, methods: Sequence[str]) -> list[str]:
    """Methods measured at a budget, those that keep heads nearest the output first."""
    measured = [name for name in methods if (name, budget) in results.layers]
    return sorted(measured, key=lambda name: -mean_layer(results.layers[name, budget]))


def overlap_table(
    results: SplitResults, budget: int, methods: Sequence[str]
) -> tuple[list[str], list[list[float | None]]]:
    """Methods measured at a budget, and the Jaccard index of every two of them (None: not measured)."""
    measured = [name for name in methods if (name, budget) in results.layers]
    rows = []
    for method in measured:
        pairs = [(min(method, other), max(method, other), budget) for other in measured]
        rows.append([results.overlap.get(pair) for pair in pairs])
    return measured, rows


def overlap_figure(results: SplitResults, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """The Jaccard index of every two methods; the colour scale starts at random selection."""
    ink = palette.ink(dark=dark)
    measured, values = overlap_table(results, budget, methods)
    random = results.random_overlap.get(budget, 0.0)
    names = [name_of(name) for name in measured]
    # Shortened names may be equal; places are not.
    places = list(range(len(measured)))
    texts = []
    beyond = []
    pairs = []
    for name, row in zip(names, values, strict=True):
        texts.append([_write_overlap(value, random) for value in row])
        # One that was not measured has no text.
        known = [random if value is None else value for value in row]
        beyond.append([(value - random) / (1 - random or 1) for value in known])
        pairs.append([f"{name} and {other}" for other in names])
    size = 11 if len(measured) <= 12 else 9
    ticks = {"title": "method", "tickvals": places, "ticktext": names, "showgrid": False, "zeroline": False}
    return marks.draw(
        [
            marks.heat_map(
                values,
                [list(stop) for stop in ink.scale],
                title="Jaccard index (random to 1)",
                hover="%{customdata}<br>share %{z:.0%} of their heads",
                gap=2,
                x=places,
                y=places,
                zmin=random,
                zmax=1,
                customdata=pairs,
                hoverongaps=False,
            ),
            marks.written(texts, beyond, ink, size=size),
        ],
        x={**ticks, "automargin": True, "tickangle": -40},
        y={**ticks, "automargin": True, "autorange": "reversed"},
        height=190 + 32 * max(3, len(measured)),
        left=10,
        top=16,
        bottom=50,
    )


def _write_overlap(value: float | None, random: float) -> str:
    """Write an overlap in its cell; those below random selection have its colour, and an arrow tells them apart."""
    if value is None:
        return ""
    text = f"{value:.2f}"
    if value < random - 0.005:
        text += "↓"
    return text


def consensus_figure(results: SplitResults, budget: int, *, dark: bool) -> Any:
    """The share of methods that keep each head: framed if all do, crossed if none does."""
    consensus = results.consensus[budget]
    return share_figure(
        np.array(consensus.share),
        framed=consensus.everybody,
        crossed=consensus.nobody,
        words=CellWords("methods that keep it (%)", "kept by %{z:.0f} % of the methods"),
        width=440,
        dark=dark,
    )


def mean_overlap(values: Sequence[Sequence[float | None]]) -> float | None:
    """Mean overlap of two different methods."""
    measured = [value for row, line in enumerate(values) for value in line[row + 1 :] if value is not None]
    if not measured:
        return None
    return float(np.mean(measured))
