"""Figures of a comparison for the page: the heads that methods keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.comparison import SplitResults
from cahp.comparison.split_results import mean_layer
from cahp.comparison.summary import Consensus
from cahp.figures import marks, palette
from cahp.figures.comparison import name_of
from cahp.figures.head_grid import share_figure


def layer_figure(results: SplitResults, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """Heads that each method keeps in each layer, and their mean layer."""
    import plotly.graph_objects as go

    ink = palette.ink(dark=dark)
    shown = by_depth(results, budget, methods)
    values = [results.layers[name, budget] for name in shown]
    layers, top = results.document.model.layers, max((max(value) for value in values), default=1.0)
    figure = go.Figure(
        go.Heatmap(
            z=values,
            zmin=0,
            zmax=top,
            colorscale=[list(stop) for stop in ink.scale],
            colorbar={"title": {"text": "heads kept (mean)", "side": "right"}, "thickness": 10},
            xgap=2,
            ygap=2,
            customdata=[[name_of(name)] * layers for name in shown],
            hovertemplate="%{customdata}<br>layer %{x}: %{z:.2f} heads kept on average<extra></extra>",
            name="heads kept",
        )
    )
    if layers <= 24:
        shares = [[mean / (top or 1.0) for mean in value] for value in values]
        figure.add_trace(marks.written([[f"{mean:.1f}" for mean in value] for value in values], shares, ink))
    depths = [mean_layer(value) for value in values]
    figure.add_trace(
        go.Scatter(
            # Between the rows, where they hide no number.
            x=depths,
            y=[place + 0.38 for place in range(len(shown))],
            mode="markers",
            name="mean layer of the kept heads",
            marker={
                "symbol": "triangle-up",
                "size": 11,
                "color": palette.CLUSTER_COLOURS[1],
                "line": {"width": 1, "color": ink.text},
            },
            hovertext=[f"{name_of(name)}<br>mean layer {depth:.2f}" for name, depth in zip(shown, depths, strict=True)],
            hoverinfo="text",
            showlegend=True,
        )
    )
    figure.add_vline(x=(layers - 1) / 2, line={"color": ink.text, "width": 1.2, "dash": "dash"})
    figure.update_layout(
        xaxis={
            "title": {"text": "layer (first to last)"},
            "tickvals": list(range(0, layers, 1 if layers <= 16 else 4)),
            "showgrid": False,
            "zeroline": False,
        },
        yaxis=marks.named_rows([name_of(name) for name in shown]),
        height=110 + 34 * max(2, len(shown)),
        margin={"l": 10, "r": 10, "t": 30, "b": 50},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
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
    import plotly.graph_objects as go

    ink = palette.ink(dark=dark)
    measured, values = overlap_table(results, budget, methods)
    random = results.random_overlap.get(budget, 0.0)
    names = [name_of(name) for name in measured]
    # Shortened names may be equal; places are not.
    places = list(range(len(measured)))
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=places,
            y=places,
            zmin=random,
            zmax=1,
            colorscale=[list(stop) for stop in ink.scale],
            colorbar={"title": {"text": "Jaccard index (random to 1)", "side": "right"}, "thickness": 10},
            xgap=2,
            ygap=2,
            customdata=[[f"{one} and {other}" for other in names] for one in names],
            hovertemplate="%{customdata}<br>share %{z:.0%} of their heads<extra></extra>",
            hoverongaps=False,
        )
    )
    # Values below random selection have its colour; the arrow tells them apart.
    texts = [
        ["" if value is None else f"{value:.2f}{'↓' * (value < random - 0.005)}" for value in row] for row in values
    ]
    beyond = [[0.0 if value is None else (value - random) / (1 - random or 1) for value in row] for row in values]
    figure.add_trace(marks.written(texts, beyond, ink, size=11 if len(measured) <= 12 else 9))
    ticks = {"tickvals": places, "ticktext": names, "showgrid": False, "zeroline": False, "automargin": True}
    figure.update_layout(
        xaxis={**ticks, "tickangle": -40, "title": {"text": "method"}},
        yaxis={**ticks, "autorange": "reversed", "title": {"text": "method"}},
        height=190 + 32 * max(3, len(measured)),
        margin={"l": 10, "r": 10, "t": 16, "b": 50},
    )
    return figure


def consensus_figure(consensus: Consensus, *, dark: bool) -> Any:
    """The share of methods that keep each head: framed if all do, crossed if none does."""
    return share_figure(
        np.array(consensus.share),
        framed=consensus.everybody,
        crossed=consensus.nobody,
        scale="methods that keep it (%)",
        said="kept by %{z:.0f} % of the methods",
        width=440,
        dark=dark,
    )


def mean_overlap(values: Sequence[Sequence[float | None]]) -> float | None:
    """Mean overlap of two different methods."""
    measured = [value for row, line in enumerate(values) for value in line[row + 1 :] if value is not None]
    return float(np.mean(measured)) if measured else None
