"""Figures of the paper's claims and of their premise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cahp.comparison import SplitResults
from cahp.comparison.claims import RANDOM
from cahp.comparison.sentences import describe_p, method_label, name_outcome
from cahp.comparison.statistics import HEADLINE
from cahp.figures import marks, palette
from cahp.figures.comparison import name_of, styles
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE


def lead_figure(results: SplitResults, recovery: str, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """The lead of the reference over each of the other ``methods`` by number of heads, with simultaneous intervals.

    Colours are those of the ranking at ``budget``.
    """
    ink = palette.ink(dark=dark)
    others = [name for name in methods if name != results.against]
    budgets = results.budgets_after(recovery)
    drawn = styles(results, recovery, budget, dark=dark)
    width = 0.008 * (budgets[-1] - budgets[0])
    traces = []
    for place, name in enumerate(others):
        tests = [test for test in results.verdicts if (test.recovery, test.method) == (recovery, name)]
        tests.sort(key=lambda test: test.budget or 0)
        style = drawn[name]
        # Side by side, or intervals would hide each other.
        aside = width * (place - (len(others) - 1) / 2)
        values = [test.pp for test in tests]
        ends = [test.interval for test in tests]
        hover = [f"<b>{name_of(name)}</b><br>{test.lead} ({test.span})<br>{describe_p(test)}" for test in tests]
        traces.append(
            marks.points(
                [(test.budget or 0) + aside for test in tests],
                values,
                style.symbol,
                style.colour,
                size=8,
                hover=hover,
                mode="lines+markers",
                line={"color": style.colour, "dash": style.dash, "width": 1.2},
                error_y=marks.error_bars(values, ends, style.colour, width=3),
                name=name_of(name),
            )
        )
    margin = max(0.5, 0.05 * (budgets[-1] - budgets[0]))
    unit: str = OUTCOMES[results.outcome].unit
    if unit == "share":
        unit = "points"
    lead = {"title": f"lead of {method_label(results.against)} in {name_outcome(results.outcome)} ({unit})"}
    figure = marks.draw(
        traces,
        x=marks.ticks(f"heads kept (of {results.total})", budgets, (budgets[0] - margin, budgets[-1] + margin)),
        y={**lead, "zeroline": True, "zerolinewidth": 1.2, "zerolinecolor": ink.text},
        height=320,
        left=60,
        legend=marks.LEGEND,
    )
    if budgets[0] <= HEADLINE * results.total:
        small = {"x0": budgets[0] - margin, "x1": HEADLINE * results.total}
        figure.add_vrect(**small, fillcolor=ink.faint, opacity=0.2, line_width=0, layer="below")
    return figure


def criticality_figure(
    results: SplitResults, shares: pd.DataFrame, budget: int, methods: Sequence[str], *, dark: bool
) -> Any:
    """The share of each layer's criticality that ``methods`` keep at a budget, and the band of random masks."""
    ink = palette.ink(dark=dark)
    layers = results.document.model.layers
    drawn = styles(results, NONE.name, budget, dark=dark)
    # The middle third has no place of its own on the axis.
    shares = 100 * shares.drop(columns="middle")
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
