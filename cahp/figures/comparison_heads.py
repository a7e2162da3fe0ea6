"""Figures of a comparison for the page: the heads that methods keep, and their criticality."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from cahp.board.colourings import CLUSTER_COLOURS
from cahp.comparison import SplitResults
from cahp.comparison.claims import RANDOM
from cahp.comparison.result import mean_layer
from cahp.figures import marks
from cahp.figures.comparison import name_of, styles
from cahp.figures.head_grid import CellWords, share_figure
from cahp.recoveries import NONE


def layer_figure(results: SplitResults, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """Heads that each method keeps in each layer, and their mean layer."""
    ink = marks.ink(dark=dark)
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


def overlap_table(results: SplitResults, budget: int, methods: Sequence[str]) -> pd.DataFrame:
    """The Jaccard index of every two methods measured at a budget (NaN: not measured)."""
    measured = [name for name in methods if (name, budget) in results.layers]
    table = pd.DataFrame(np.nan, index=measured, columns=measured)
    for first, second in product(measured, repeat=2):
        pair = (min(first, second), max(first, second), budget)
        table.loc[first, second] = results.overlap.get(pair, np.nan)
    return table


def mean_overlap(table: pd.DataFrame) -> float:
    """Mean overlap of two different methods (NaN: not measured)."""
    pairs = table.to_numpy()[np.triu_indices(len(table), 1)]
    return float(pd.Series(pairs).mean())


def overlap_figure(results: SplitResults, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """The Jaccard index of every two methods; the colour scale starts at random selection."""
    ink = marks.ink(dark=dark)
    table = overlap_table(results, budget, methods)
    random = results.random_overlap.get(budget, 0.0)
    names = [name_of(name) for name in table.index]
    # Shortened names may be equal; places are not.
    places = list(range(len(names)))
    values = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    texts = table.map(lambda value: _write_overlap(value, random)).to_numpy().tolist()
    beyond = ((table.fillna(random) - random) / (1 - random or 1)).to_numpy()
    size = 11 if len(names) <= 12 else 9
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
                customdata=[[f"{name} and {other}" for other in names] for name in names],
                hoverongaps=False,
            ),
            marks.written(texts, beyond, ink, size=size),
        ],
        x={**ticks, "automargin": True, "tickangle": -40},
        y={**ticks, "automargin": True, "autorange": "reversed"},
        height=190 + 32 * max(3, len(names)),
        left=10,
        top=16,
        bottom=50,
    )


def _write_overlap(value: float, random: float) -> str:
    """Write an overlap in its cell; those below random selection have its colour, and an arrow tells them apart."""
    if np.isnan(value):
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


# The paper's claims --------------------------------------------------------------------------------------------


def criticality_figure(
    results: SplitResults, shares: pd.DataFrame, budget: int, methods: Sequence[str], *, dark: bool
) -> Any:
    """The share of each layer's criticality that ``methods`` keep at a budget, and the band of random masks."""
    ink = marks.ink(dark=dark)
    layers = results.document.model.layers
    drawn = styles(results, NONE.name, budget, dark=dark)
    # The middle third has no place of its own on the axis.
    shares = 100 * shares.set_index("method").drop(columns=["seed", "middle"])
    means = shares.groupby(level="method").mean()
    places = [*range(layers), layers + 0.5]
    traces: list[dict[str, Any]] = []
    if RANDOM in means.index:
        low, high = np.nanpercentile(shares.loc[RANDOM], [2.5, 97.5], axis=0)
        outline = {"x": [*places, *reversed(places)], "y": [*high, *reversed(low)]}
        look = {"fill": "toself", "fillcolor": ink.faint, "opacity": 0.45, "line": {"width": 0}, "hoverinfo": "skip"}
        traces.append({"type": "scatter", "mode": "lines", "name": "random, 95 %", **outline, **look})
    for name in [name for name in methods if name in means.index]:
        kept = means.loc[name].to_numpy()
        style = drawn[name]
        where = [*(f"layer {layer}" for layer in range(layers)), "all layers"]
        hover = [f"<b>{name_of(name)}</b>, {place}: {mean:.0f} %" for place, mean in zip(where, kept, strict=True)]
        line = {"color": style.colour, "dash": style.dash, "width": style.width}
        drawing: dict[str, Any] = {"mode": "lines+markers", "line": line, "name": name_of(name)}
        traces.append(marks.points(places, kept, style.symbol, style.colour, size=9, hover=hover, **drawing))
    ends = (-0.4, layers + 0.9)
    figure = marks.draw(
        traces,
        x=marks.ticks("layer (first to last)", places, ends, [*range(layers), "all"]),
        y={"title": "criticality kept (%)", "range": [-3, 103], "zeroline": False},
        height=320,
        left=60,
        legend=marks.LEGEND,
    )
    middle = {"x0": layers // 3 - 0.5, "x1": layers - layers // 3 - 0.5}
    return figure.add_vrect(**middle, fillcolor=ink.faint, opacity=0.2, line_width=0, layer="below")
