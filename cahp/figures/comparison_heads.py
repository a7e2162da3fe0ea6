"""Figures of a comparison for the page: the heads that methods keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.board.colours import CLUSTER_COLOURS
from cahp.comparison import SplitResults
from cahp.comparison.split_results import mean_layer
from cahp.figures import marks, palette
from cahp.figures.comparison import name_of
from cahp.figures.head_grid import share_figure


def layer_figure(results: SplitResults, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """Heads that each method keeps in each layer, and their mean layer."""
    ink = palette.ink(dark=dark)
    shown = by_depth(results, budget, methods)
    names, values = [name_of(name) for name in shown], [results.layers[name, budget] for name in shown]
    layers, top = results.document.model.layers, max((max(value) for value in values), default=1.0)
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
    traces.append(
        marks.points(
            depths,
            # Between the rows, where they hide no number.
            [place + 0.38 for place in range(len(shown))],
            "triangle-up",
            CLUSTER_COLOURS[1],
            outline=1,
            hover=[f"{name}<br>mean layer {depth:.2f}" for name, depth in zip(names, depths, strict=True)],
            name="mean layer of the kept heads",
            showlegend=True,
        )
    )
    steps = list(range(0, layers, 1 if layers <= 16 else 4))
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
    pairs = [[(min(one, other), max(one, other), budget) for other in measured] for one in measured]
    return measured, [[results.overlap.get(pair) for pair in row] for row in pairs]


def overlap_figure(results: SplitResults, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """The Jaccard index of every two methods; the colour scale starts at random selection."""
    ink = palette.ink(dark=dark)
    measured, values = overlap_table(results, budget, methods)
    random = results.random_overlap.get(budget, 0.0)
    names = [name_of(name) for name in measured]
    # Shortened names may be equal; places are not.
    places = list(range(len(measured)))
    # Values below random selection have its colour; the arrow tells them apart.
    texts = [
        ["" if value is None else f"{value:.2f}{'↓' * (value < random - 0.005)}" for value in row] for row in values
    ]
    beyond = [[0.0 if value is None else (value - random) / (1 - random or 1) for value in row] for row in values]
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
                customdata=[[f"{one} and {other}" for other in names] for one in names],
                hoverongaps=False,
            ),
            marks.written(texts, beyond, ink, size=11 if len(measured) <= 12 else 9),
        ],
        x={**ticks, "automargin": True, "tickangle": -40},
        y={**ticks, "automargin": True, "autorange": "reversed"},
        height=190 + 32 * max(3, len(measured)),
        left=10,
        top=16,
        bottom=50,
    )


def consensus_figure(results: SplitResults, budget: int, *, dark: bool) -> Any:
    """The share of methods that keep each head: framed if all do, crossed if none does."""
    consensus = results.consensus[budget]
    return share_figure(
        np.array(consensus.share),
        framed=consensus.everybody,
        crossed=consensus.nobody,
        scale="methods that keep it (%)",
        hover="kept by %{z:.0f} % of the methods",
        width=440,
        dark=dark,
    )


def mean_overlap(values: Sequence[Sequence[float | None]]) -> float | None:
    """Mean overlap of two different methods."""
    measured = [value for row, line in enumerate(values) for value in line[row + 1 :] if value is not None]
    return float(np.mean(measured)) if measured else None
