"""Figures of the paper's claims and of their premise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cahp.comparison import SplitResults
from cahp.comparison.claims import RANDOM, KeptShares
from cahp.comparison.sentences import describe_p, method_label, name_outcome
from cahp.figures import marks, palette
from cahp.figures.comparison import curve_figure, name_of, styles
from cahp.outcomes import OUTCOMES


def _only(results: SplitResults, methods: Sequence[str]) -> SplitResults:
    """The results of ``methods`` alone, so that each of these few has a hue."""
    return replace(results, methods={name: results.methods[name] for name in methods})


def compression_figure(results: SplitResults, recovery: str, methods: Sequence[str], *, dark: bool) -> Any:
    """The outcome by budget, and below it the lead of the reference over each of the other ``methods``."""
    results = _only(results, methods)
    figure, drawn, ink = curve_figure(results, recovery, methods, dark=dark), styles(results), palette.ink(dark=dark)
    # The lower panel has the intervals of rivals.
    banded = [f"{name_of(name)}, " for name in methods if name in (results.against, RANDOM)]
    figure.data = [
        trace for trace in figure.data if trace.fill is None or any(str(trace.name).startswith(name) for name in banded)
    ]
    tests = [test for test in results.verdicts if test.recovery == recovery and test.method in methods]
    measured = [
        name for name in methods if any((recovery, name, budget) in results.means for budget in results.budgets)
    ]
    # With one budget, the axis has the methods instead. Intervals stand side by side, or they would hide each other.
    single, width = len({test.budget for test in tests}) < 2, 0.006 * (max(results.budgets) - min(results.budgets))
    for place, name in enumerate(measured):
        own = sorted((test for test in tests if test.method == name), key=lambda test: test.budget or 0)
        if not own:
            continue
        shift, style = width * (place - len(measured) / 2), drawn[name]
        figure.add_trace(
            marks.points(
                [place if single else (test.budget or 0) + shift for test in own],
                [test.pp for test in own],
                style.symbol,
                style.colour,
                size=8,
                hover=[f"<b>{name_of(name)}</b><br>{one.lead} ({one.span})<br>{describe_p(one)}" for one in own],
                mode="lines+markers",
                line={"color": style.colour, "dash": style.dash, "width": 1.2},
                error_y=marks.error_bars([test.pp for test in own], [test.ci95 for test in own], style.colour, width=3),
                yaxis="y2",
                name=name_of(name),
                showlegend=False,
            )
        )
    upper, lower = ("%", "points") if OUTCOMES[results.outcome].unit == "share" else ("nats", "nats")
    lead = {"title": f"lead of {method_label(results.against)}<br>({lower})", "zeroline": True, "zerolinewidth": 1.2}
    figure.update_layout(
        xaxis={"anchor": "y2"},
        yaxis={"domain": [0.45, 1], "title": f"{name_outcome(results.outcome)} ({upper})"},
        yaxis2={"domain": [0, 0.36], **lead, "zerolinecolor": ink.text},
        legend=dict(marks.LEGEND),
        margin={"t": 60, "l": 66},
        height=520,
    )
    return figure


def criticality_figure(
    results: SplitResults, shares: Mapping[str, KeptShares], methods: Sequence[str], *, dark: bool
) -> Any:
    """The share of each layer's criticality that ``methods`` keep, and the band of random masks."""
    drawn, ink, layers = styles(_only(results, methods)), palette.ink(dark=dark), results.document.model.layers
    # The middle third has no place of its own on the axis.
    columns, places = [*range(layers), layers + 1], [*range(layers), layers + 0.5]
    traces: list[dict[str, Any]] = []
    if RANDOM in shares:
        low, high = np.nanpercentile(100 * shares[RANDOM].shares[:, columns], [2.5, 97.5], axis=0)
        outline = {"x": [*places, *reversed(places)], "y": [*high, *reversed(low)]}
        look = {"fill": "toself", "fillcolor": ink.faint, "opacity": 0.45, "line": {"width": 0}, "hoverinfo": "skip"}
        traces.append({"type": "scatter", "mode": "lines", "name": "random, 95 %", **outline, **look})
    for name in [name for name in methods if name in shares]:
        means, style = 100 * shares[name].means[columns], drawn[name]
        where = [*(f"layer {layer}" for layer in range(layers)), "all layers"]
        hover = [f"<b>{name_of(name)}</b>, {place}: {mean:.0f} %" for place, mean in zip(where, means, strict=True)]
        line = {"color": style.colour, "dash": style.dash, "width": 3 if name == results.against else 1.8}
        drawing: dict[str, Any] = {"mode": "lines+markers", "line": line, "name": name_of(name)}
        traces.append(marks.points(places, means, style.symbol, style.colour, size=9, hover=hover, **drawing))
    ends = (-0.4, layers + 0.9)
    figure = marks.draw(
        traces,
        x=marks.ticks("layer (first to last)", places, ends, [*range(layers), "all"]),
        y={"title": "criticality kept (%)", "range": [-3, 103], "zeroline": False},
        height=520,
        left=60,
        top=60,
        legend=marks.LEGEND,
    )
    middle = {"x0": layers // 3 - 0.5, "x1": layers - layers // 3 - 0.5}
    return figure.add_vrect(**middle, fillcolor=ink.faint, opacity=0.2, line_width=0, layer="below")


def premise_figure(interaction: Mapping[str, Any], *, dark: bool) -> Any:
    """The interaction of pairs of heads within clusters and between clusters, with intervals."""
    ink, names = palette.ink(dark=dark), ("within", "between")
    values, ends = ([interaction[name][part] for name in names] for part in ("value", "ci95"))
    bars = marks.error_bars(values, ends, ink.accent, width=5)
    hover = [f"{name} clusters: {interaction[name]['value']:.2g}" for name in names]
    figure = marks.draw(
        [marks.points(values, [0, 1], "circle", ink.accent, hover=hover, error_x=bars)],
        x={"title": f"interaction of two heads ({interaction['within']['unit']})", "zeroline": False},
        y=marks.named_rows([f"{name} clusters" for name in names]),
        height=190,
        left=10,
    )
    figure.add_vline(x=0, line={"color": ink.text, "width": 1.2, "dash": "dash"})
    return figure
