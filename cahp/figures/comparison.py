"""Figures of a comparison: methods ranked at a number of heads, an outcome by budget, and leads over other methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cahp.board.colourings import NEUTRAL
from cahp.comparison import SplitResults
from cahp.comparison.claims import RANDOM
from cahp.comparison.document import Mean, Verdict
from cahp.comparison.sentences import after, describe_p, describe_tie, method_label, name_outcome
from cahp.figures import marks
from cahp.figures.marks import label
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, QUICK, RECOVERIES
from cahp.words import counted

#: The colours of the best other method and of random selection, by day and by night, readable as text; the reference
#: has the accent, other methods are grey.
_BEST = ("#B84A00", "#F08A3C")
_RANDOM = ("#7A3FD6", "#B08CF0")
_SYMBOLS = ("diamond", "triangle-up", "triangle-down", "cross", "x", "star", "hourglass", "bowtie")
#: The opacity of bands, and of methods whose difference from the reference is not significant.
_BAND = 0.15
_PALE = 0.4
#: Pixels of a row of the ranking, of a label beside a line, of a character of a label, and of numbers beside rows.
_ROW = 24
_LABEL = 16
_CHARACTER = 6.8
_NUMBER = 56


@dataclass(frozen=True)
class Style:
    """The style of a method in every figure."""

    colour: str
    dash: str
    symbol: str
    width: float


def styles(results: SplitResults, recovery: str, budget: int, *, dark: bool) -> dict[str, Style]:
    """Return the style of every method: three colours, for the reference, the best other one and random selection.

    The best is that with the best mean at ``budget`` after ``recovery``.
    """
    ranked = [mean.method for mean in results.rank(recovery, budget)]
    best = next((name for name in ranked if name != results.against and not results.methods[name].random), None)
    drawn = {}
    coloured = {
        best: Style(_BEST[dark], "solid", "square", 2.4),
        RANDOM: Style(_RANDOM[dark], "dot", "circle-open", 2),
        results.against: Style(marks.ink(dark=dark).accent, "solid", "circle", 3),
    }
    for place, (name, method) in enumerate(results.methods.items()):
        symbol = _SYMBOLS[place % len(_SYMBOLS)]
        dash = "dot" if method.random else "solid"
        drawn[name] = coloured.get(name) or Style(NEUTRAL, dash, symbol, 1.2)
    return drawn


def name_of(method: str) -> str:
    """A method's name as a label."""
    return label(method_label(method), limit=28)


def _tinted(text: str, style: Style, colours: marks.Ink) -> str:
    """A label in the colour of its method; grey methods have the colour of text."""
    colour = style.colour
    if colour == NEUTRAL:
        colour = colours.text
    return f'<span style="color:{colour}">{text}</span>'


def _beside(y: float, text: str, *, yref: str) -> dict[str, Any]:
    """An annotation at the right edge of the figure."""
    place = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 6, "y": y, "yref": yref, "yanchor": "middle"}
    return {**place, "text": text, "showarrow": False, "align": "left"}


def _axis(results: SplitResults, values: pd.Series[float]) -> dict[str, Any]:
    """The axis of the outcome, with shares in per cent; that of divergences is logarithmic."""
    row = OUTCOMES[results.outcome]
    unit = "%" if row.unit == "share" else f"{row.unit}, less is better"
    axis = {"title": f"{name_outcome(results.outcome)} on {label(results.split)} ({unit})", "zeroline": False}
    if row.unit == "nats" and (values > 0).all():
        ticks = [digit * 10.0**power for power in range(-5, 3) for digit in (1, 2, 5)]
        axis |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return axis


def _scaled(results: SplitResults) -> pd.DataFrame:
    """The table of the means in the units of the axis, by recovery, method and budget."""
    table = results.table.sort_values("budget").set_index(["recovery", "method", "budget"])[["value", "low", "high"]]
    if OUTCOMES[results.outcome].unit == "share":
        table[["value", "low", "high"]] *= 100
    return table


def _full_levels(results: SplitResults, recovery: str) -> list[tuple[float, str]]:
    """The outcome of the full model and its label, also after a recovery that changes it."""
    row = OUTCOMES[results.outcome]
    scale = 100 if row.unit == "share" else 1
    levels = []
    # It does not differ from itself.
    if not row.difference:
        levels.append((scale * results.full[NONE.name], f"all heads {results.full_text(NONE.name)}"))
    if recovery != NONE.name and recovery in results.full:
        level = scale * results.full[recovery]
        levels.append((level, f"all heads {after(recovery)} {results.full_text(recovery)}"))
    return levels


def _level(colours: marks.Ink, x: Sequence[float], y: Sequence[float], name: str) -> dict[str, Any]:
    """The level of the full model as a dashed line."""
    line = {"color": colours.text, "width": 1.4, "dash": "dash"}
    return {"type": "scatter", "x": x, "y": y, "mode": "lines", "line": line, "name": name, "hoverinfo": "name"}


# Methods at a budget -----------------------------------------------------------------------------------------


def ranking_figure(results: SplitResults, recovery: str, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """The outcome of each method at a number of heads, the best on top: dots as pruned, rings after a recovery.

    Order, intervals, numbers and the band of random selection are those after ``recovery``; before any, the rings are
    those after a refit. A method is pale where its difference from the reference is not significant.
    """
    ink = marks.ink(dark=dark)
    drawn = styles(results, recovery, budget, dark=dark)
    ranked = [mean for mean in results.rank(recovery, budget) if mean.method in methods]
    names = [mean.method for mean in ranked]
    significant = {results.against, *(test.method for test in results.tests_at(recovery, budget) if not test.tie)}
    recovered = recovery
    if recovery == NONE.name:
        recovered = QUICK.name
    table = _scaled(results)
    traces: list[dict[str, Any]] = []
    measured: dict[str, dict[str, float]] = {}
    for stage, symbol, outline in ((NONE.name, "circle", 0), (recovered, "circle-open", 2)):
        keys = [(stage, name, budget) for name in names if (stage, name, budget) in results.means]
        if not keys:
            continue
        own = table.loc[keys]
        shown = [name for _, name, _ in keys]
        values = own["value"].tolist()
        measured[stage] = dict(zip(shown, values, strict=True))
        bars = None
        if stage == recovery:
            bars = marks.error_bars(values, own[["low", "high"]].to_numpy(), NEUTRAL, thickness=2, width=0)
        dots = marks.points(
            values,
            [names.index(name) for name in shown],
            symbol,
            [drawn[name].colour for name in shown],
            size=11,
            outline=outline,
            opacity=[1 if name in significant else _PALE for name in shown],
            hover=[_describe(results, results.means[key]) for key in keys],
            name=RECOVERIES[stage].beside,
            showlegend=False,
            error_x=bars,
        )
        entry = marks.points([None], [None], symbol, ink.text, size=11, outline=2, name=RECOVERIES[stage].beside)
        traces += [dots, entry]
    for level, words in _full_levels(results, recovery):
        traces.append(_level(ink, [level] * 2, [-0.5, len(names) - 0.5], words))
    dotted = []
    numbers = []
    for place, mean in enumerate(ranked):
        ends = [values[mean.method] for values in measured.values() if mean.method in values]
        if len(ends) == 2:
            dotted.append(marks.shape("line", (ends[0], ends[1]), (place, place), color=NEUTRAL, width=1, dash="dot"))
        number = _tinted(results.estimate(mean).text, drawn[mean.method], ink)
        numbers.append(_beside(place, number, yref="y"))
    here = [(recovery, name, budget) for name in names]
    figure = marks.draw(
        traces,
        x=_axis(results, table.loc[here, "value"]),
        y=marks.named_rows([_tinted(name_of(name), drawn[name], ink) for name in names]),
        shapes=dotted,
        annotations=numbers,
        height=100 + _ROW * len(names),
        left=10,
        bottom=50,
        legend=marks.LEGEND,
    )
    figure.update_layout(margin_r=_NUMBER)
    if RANDOM in names:
        band = table.loc[(recovery, RANDOM, budget)]
        corners = {"x0": band["low"], "x1": band["high"]}
        figure.add_vrect(**corners, fillcolor=_RANDOM[dark], opacity=_BAND, line_width=0, layer="below")
    return figure


# An outcome by budget -----------------------------------------------------------------------------------------


def curve_figure(
    results: SplitResults,
    recovery: str,
    budget: int,
    methods: Sequence[str],
    others: Sequence[str] = (),
    *,
    dark: bool,
) -> Any:
    """The outcome by number of heads: a line per method with its name at its end, and bands of those in colour.

    Divergences have a logarithmic axis. ``others`` are faint, named in the tooltip.
    """
    budgets = results.budgets_after(recovery)
    drawn = styles(results, recovery, budget, dark=dark)
    ink = marks.ink(dark=dark)
    table = _scaled(results).loc[recovery]
    lines = {name: own for name, own in table.groupby(level="method") if name in (*others, *methods)}
    # The coloured ones last, on top of the others.
    order = [name for name in (*others, *methods) if name in lines]
    order.sort(key=lambda name: (name in methods, drawn[name].width))
    labelled = [name for name in order if name in methods]
    traces = [_band(name, lines[name], drawn[name].colour) for name in labelled if drawn[name].colour != NEUTRAL]
    faint = Style(ink.faint, "solid", "circle", 1.2)
    for name in order:
        style = drawn[name] if name in methods else faint
        own = lines[name]
        places = own.index.get_level_values("budget").tolist()
        traces.append(
            marks.points(
                places,
                own["value"].tolist(),
                style.symbol,
                style.colour,
                size=4 + round(1.6 * style.width),
                hover=[_describe(results, results.means[recovery, name, at]) for at in places],
                name=name_of(name),
                mode="lines+markers",
                line={"color": style.colour, "dash": style.dash, "width": style.width},
            )
        )
    margin = (budgets[-1] - budgets[0]) * 0.03
    ends = (budgets[0] - margin, budgets[-1] + margin)
    labels = [(lines[name]["value"].iloc[-1], name_of(name), drawn[name]) for name in labelled]
    for level, words in _full_levels(results, recovery):
        traces.append(_level(ink, ends, [level] * 2, words))
        labels.append((level, words, Style(ink.text, "dash", "", 1.4)))
    axis = _axis(results, pd.concat([own["value"] for own in lines.values()]))
    every = np.array([y for trace in traces for y in trace["y"]])
    scale = np.log10 if "type" in axis else np.asarray
    lowest = scale(every.min())
    highest = scale(every.max())
    low = lowest - 0.04 * (highest - lowest)
    high = highest + 0.04 * (highest - lowest)
    height = max(360, _LABEL * len(labels))
    labels.sort(key=lambda entry: entry[0])
    places = marks.spread([(scale(value) - low) / (high - low) for value, _, _ in labels], _LABEL / height)
    annotations = [
        _beside(place, _tinted(words, style, ink), yref="paper")
        for place, (_, words, style) in zip(places, labels, strict=True)
    ]
    figure = marks.draw(
        traces,
        x=marks.ticks(f"heads kept (of {results.total})", budgets, ends),
        y={**axis, "range": [low, high]},
        annotations=annotations,
        height=height + 66,
        left=60,
        top=16,
        bottom=50,
        hovermode="closest",
    )
    longest = max((len(words) for _, words, _ in labels), default=0)
    return figure.update_layout(margin_r=12 + round(_CHARACTER * longest))


def _band(name: str, means: pd.DataFrame, colour: str) -> dict[str, Any]:
    """The intervals of a method."""
    # A logarithmic axis has no place for an end at 0.
    low = np.maximum(means["low"], means["value"] / 100)
    budgets = means.index.get_level_values("budget").tolist()
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return {
        "type": "scatter",
        "x": [*budgets, *reversed(budgets)],
        "y": [*means["high"], *reversed(low.tolist())],
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},{_BAND})",
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "name": f"{name_of(name)}, 95 % interval",
    }


def _describe(results: SplitResults, mean: Mean) -> str:
    estimate = results.estimate(mean)
    lines = [
        f"<b>{name_of(mean.method)}</b>, {mean.budget} heads, {after(mean.recovery)}",
        f"{name_outcome(results.outcome)} {estimate.text}, 95 % interval {estimate.span}",
        f"n = {estimate.n:,}, {counted(mean.seeds, 'seed')}, {counted(mean.masks, 'mask')}",
    ]
    return "<br>".join(lines)


# Differences -------------------------------------------------------------------------------------------------


def difference_figure(against: str, tests: Sequence[Verdict], *, dark: bool) -> Any:
    """By how much ``against`` is better than each other method: solid if significant."""
    ink = marks.ink(dark=dark)
    order = sorted(tests, key=lambda test: test.pp)
    title = "points of accuracy"
    if tests:
        title = f"{tests[0].unit} of {name_outcome(tests[0].outcome)}"
    places: dict[str, list[int]] = {}
    for place, test in enumerate(order):
        result = describe_tie(test) if test.tie else "significant"
        places.setdefault(result, []).append(place)
    traces = []
    for name in sorted(places, reverse=True):
        symbol = "diamond-open"
        thickness = 1.0
        if name == "significant":
            symbol = "circle"
            thickness = 1.6
        elif name.startswith("not"):
            symbol = "circle-open"
        shown = [order[place] for place in places[name]]
        values = [test.pp for test in shown]
        hover = []
        for test in shown:
            holm = " after Holm" if test.tested else ""
            words = f"{test.lead}, {test.interval_name} {test.span}<br>{describe_p(test)}{holm}"
            hover.append(f"<b>{name_of(test.method)}</b><br>{words}")
        bars = marks.error_bars(values, [test.interval for test in shown], ink.accent, thickness=thickness, width=4)
        traces.append(
            marks.points(values, places[name], symbol, ink.accent, outline=2, hover=hover, name=name, error_x=bars)
        )
    figure = marks.draw(
        traces,
        x={"title": f"{title}<br>that {name_of(against)} is ahead", "zeroline": False},
        y={**marks.named_rows([name_of(test.method) for test in order]), "range": [-0.6, len(order) - 0.4]},
        height=128 + 30 * max(2, len(order)),
        left=10,
        top=30,
        bottom=68,
        legend=marks.LEGEND,
    )
    figure.add_vline(x=0, line={"color": ink.text, "width": 1.2})
    return figure
