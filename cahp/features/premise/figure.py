"""Figures of the premise: interactions of pairs of heads, and measures of redundancy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cahp.features.premise.words import MEASURES
from cahp.figures import LEGEND, draw, error_bars, fold, ink, named_rows, points


def premise_figure(interaction: Mapping[str, Any], *, dark: bool) -> Any:
    """The interaction of pairs of heads within clusters and between clusters, with intervals."""
    colours = ink(dark=dark)
    names = ("within", "between")
    values = [interaction[name]["value"] for name in names]
    ends = [interaction[name]["ci95"] for name in names]
    bars = error_bars(values, ends, colours.accent, width=5)
    hover = [f"{name} clusters: {interaction[name]['value']:.2g}" for name in names]
    figure = draw(
        [points(values, [0, 1], "circle", colours.accent, hover=hover, error_x=bars)],
        x={"title": f"interaction of two heads ({interaction['within']['unit']})", "zeroline": False},
        y=named_rows([f"{name} clusters" for name in names]),
        height=190,
        left=10,
    )
    figure.add_vline(x=0, line={"color": colours.text, "width": 1.2, "dash": "dash"})
    return figure


def measures_figure(measures: Mapping[str, Any], *, dark: bool) -> Any:
    """Rank correlations of measures of redundancy with the cost of removing one head, and two, with intervals."""
    colours = ink(dark=dark)
    traces = []
    series = (
        ("alone", "one head", "circle", colours.accent, -0.12),
        ("pairs", "two heads", "diamond", colours.text, 0.12),
    )
    for kind, words, symbol, colour, shift in series:
        values = [measure[kind]["value"] for measure in measures.values()]
        ends = [measure[kind]["ci95"] for measure in measures.values()]
        hover = [f"{MEASURES[name]}, {words}: {measures[name][kind]['value']:.2f}" for name in measures]
        places = [place + shift for place in range(len(measures))]
        bars = error_bars(values, ends, colour, width=4)
        traces.append(points(values, places, symbol, colour, hover=hover, error_x=bars, name=words))
    figure = draw(
        traces,
        x={"title": fold("rank correlation with the cost"), "range": [-1.05, 1.05], "zeroline": False},
        y=named_rows([fold(MEASURES[name]) for name in measures]),
        height=330,
        left=10,
        top=40,
        legend=LEGEND,
    )
    figure.add_vline(x=0, line={"color": colours.text, "width": 1.2, "dash": "dash"})
    return figure
