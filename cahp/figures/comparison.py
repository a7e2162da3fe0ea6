"""Figures of a comparison: methods ranked at a number of heads, an outcome by budget, and leads over other methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from cahp.board.colours import NEUTRAL
from cahp.comparison import SplitResults
from cahp.comparison.claims import RANDOM
from cahp.comparison.document import Mean, Verdict
from cahp.comparison.sentences import after, describe_p, describe_tie, method_label, name_outcome
from cahp.figures import marks, palette
from cahp.figures.marks import label
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, QUICK, RECOVERIES

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
        results.against: Style(palette.ink(dark=dark).accent, "solid", "circle", 3),
    }
    for place, (name, method) in enumerate(results.methods.items()):
        symbol = _SYMBOLS[place % len(_SYMBOLS)]
        dash = "dot" if method.random else "solid"
        drawn[name] = coloured.get(name) or Style(NEUTRAL, dash, symbol, 1.2)
    return drawn


def name_of(method: str) -> str:
    """A method's name as a label."""
    return label(method_label(method), limit=28)


def _tinted(text: str, style: Style, colours: palette.Ink) -> str:
    """A label in the colour of its method; grey methods have the colour of text."""
    colour = style.colour
    if colour == NEUTRAL:
        colour = colours.text
    return f'<span style="color:{colour}">{text}</span>'


def _beside(y: float, text: str, *, yref: str) -> dict[str, Any]:
    """An annotation at the right edge of the figure."""
    place = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 6, "y": y, "yref": yref, "yanchor": "middle"}
    return {**place, "text": text, "showarrow": False, "align": "left"}


def _axis(results: SplitResults, means: Sequence[Mean]) -> dict[str, Any]:
    """The axis of the outcome, with shares in per cent; that of divergences is logarithmic."""
    row = OUTCOMES[results.outcome]
    unit = "%" if row.unit == "share" else f"{row.unit}, less is better"
    axis = {"title": f"{name_outcome(results.outcome)} on {label(results.split)} ({unit})", "zeroline": False}
    if row.unit == "nats" and all(results.estimate(mean).value > 0 for mean in means):
        ticks = [digit * 10.0**power for power in range(-5, 3) for digit in (1, 2, 5)]
        axis |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return axis


def _scaled(results: SplitResults, means: Sequence[Mean]) -> list[tuple[float, float, float]]:
    """Value and interval of each mean, shares in per cent."""
    scale = 100 if OUTCOMES[results.outcome].unit == "share" else 1
    estimates = [results.estimate(mean) for mean in means]
    return [(scale * estimate.value, scale * estimate.low, scale * estimate.high) for estimate in estimates]


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


def _level(colours: palette.Ink, x: Sequence[float], y: Sequence[float], name: str) -> dict[str, Any]:
    """The level of the full model as a dashed line."""
    line = {"color": colours.text, "width": 1.4, "dash": "dash"}
    return {"type": "scatter", "x": x, "y": y, "mode": "lines", "line": line, "name": name, "hoverinfo": "name"}


# Methods at a budget -----------------------------------------------------------------------------------------


def ranking_figure(results: SplitResults, recovery: str, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """The outcome of each method at a number of heads, the best on top: dots as pruned, rings after a recovery.

    Order, intervals, numbers and the band of random selection are those after ``recovery``; before any, the rings are
    those after a refit. A method is pale where its difference from the reference is not significant.
    """
    ink = palette.ink(dark=dark)
    drawn = styles(results, recovery, budget, dark=dark)
    rows = [mean for mean in results.rank(recovery, budget) if mean.method in methods]
    significant = {results.against, *(test.method for test in results.tests_at(recovery, budget) if not test.tie)}
    traces: list[dict[str, Any]] = []
    joined: dict[int, list[float]] = {}
    recovered = recovery
    if recovery == NONE.name:
        recovered = QUICK.name
    for stage, symbol, outline in ((NONE.name, "circle", 0), (recovered, "circle-open", 2)):
        keys = [(place, (stage, mean.method, budget)) for place, mean in enumerate(rows)]
        measured = {place: results.means[key] for place, key in keys if key in results.means}
        if not measured:
            continue
        means = list(measured.values())
        scaled = _scaled(results, means)
        values = [value for value, _, _ in scaled]
        for place, value in zip(measured, values, strict=True):
            joined.setdefault(place, []).append(value)
        ends = [(low, high) for _, low, high in scaled]
        bars = None
        if stage == recovery:
            bars = marks.error_bars(values, ends, NEUTRAL, thickness=2, width=0)
        colours = [drawn[mean.method].colour for mean in means]
        opacity = [1 if mean.method in significant else _PALE for mean in means]
        hover = [_describe(results, mean) for mean in means]
        dots = marks.points(
            values,
            list(measured),
            symbol,
            colours,
            size=11,
            outline=outline,
            opacity=opacity,
            hover=hover,
            name=RECOVERIES[stage].beside,
            showlegend=False,
            error_x=bars,
        )
        entry = marks.points([None], [None], symbol, ink.text, size=11, outline=2, name=RECOVERIES[stage].beside)
        traces += [dots, entry]
    traces += [
        _level(ink, [level] * 2, [-0.5, len(rows) - 0.5], words) for level, words in _full_levels(results, recovery)
    ]
    dotted = [
        marks.shape("line", (pair[0], pair[1]), (place, place), color=NEUTRAL, width=1, dash="dot")
        for place, pair in joined.items()
        if len(pair) == 2
    ]
    numbers = [
        _beside(place, _tinted(results.estimate(mean).text, drawn[mean.method], ink), yref="y")
        for place, mean in enumerate(rows)
    ]
    figure = marks.draw(
        traces,
        x=_axis(results, rows),
        y=marks.named_rows([_tinted(name_of(mean.method), drawn[mean.method], ink) for mean in rows]),
        shapes=dotted,
        annotations=numbers,
        height=100 + _ROW * len(rows),
        left=10,
        bottom=50,
        legend=marks.LEGEND,
    )
    figure.update_layout(margin_r=_NUMBER)
    for _, low, high in _scaled(results, [mean for mean in rows if mean.method == RANDOM]):
        figure.add_vrect(x0=low, x1=high, fillcolor=_RANDOM[dark], opacity=_BAND, line_width=0, layer="below")
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

    Divergences have a logarithmic axis. ``others`` are faint, named in the tooltip. With one budget it is the ranking.
    """
    budgets = results.budgets_after(recovery)
    if len(budgets) < 2:
        return ranking_figure(results, recovery, budget, (*methods, *others), dark=dark)
    drawn = styles(results, recovery, budget, dark=dark)
    ink = palette.ink(dark=dark)
    lines: dict[str, list[Mean]] = {}
    for name in (*others, *methods):
        keys = [(recovery, name, at) for at in budgets]
        means = [results.means[key] for key in keys if key in results.means]
        if means:
            lines[name] = means
    # The coloured ones last, on top of the others.
    order = sorted(lines, key=lambda name: (name in methods, drawn[name].width))
    labelled = [name for name in order if name in methods]
    traces = [_band(results, lines[name], drawn[name].colour) for name in labelled if drawn[name].colour != NEUTRAL]
    faint = Style(ink.faint, "solid", "circle", 1.2)
    for name in order:
        style = drawn[name] if name in methods else faint
        traces.append(_line(results, lines[name], style))
    ends = (budgets[0] - (budgets[-1] - budgets[0]) * 0.03, budgets[-1] + (budgets[-1] - budgets[0]) * 0.03)
    levels = _full_levels(results, recovery)
    traces += [_level(ink, ends, [level] * 2, words) for level, words in levels]
    axis = _axis(results, list(chain.from_iterable(lines.values())))
    labels = [(_scaled(results, lines[name][-1:])[0][0], name_of(name), drawn[name]) for name in labelled]
    labels += [(level, words, Style(ink.text, "dash", "", 1.4)) for level, words in levels]
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


def _line(results: SplitResults, means: Sequence[Mean], style: Style) -> dict[str, Any]:
    """The means of a method as a line over the budgets."""
    return marks.points(
        [mean.budget for mean in means],
        [value for value, _, _ in _scaled(results, means)],
        style.symbol,
        style.colour,
        size=4 + round(1.6 * style.width),
        hover=[_describe(results, mean) for mean in means],
        name=name_of(means[0].method),
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": style.width},
    )


def _band(results: SplitResults, means: Sequence[Mean], colour: str) -> dict[str, Any]:
    """The intervals of a method."""
    # A logarithmic axis has no place for an end at 0.
    ends = [(max(low, value / 100), high) for value, low, high in _scaled(results, means)]
    budgets = [mean.budget for mean in means]
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return {
        "type": "scatter",
        "x": [*budgets, *reversed(budgets)],
        "y": [*(high for _, high in ends), *(low for low, _ in reversed(ends))],
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},{_BAND})",
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "name": f"{name_of(means[0].method)}, 95 % interval",
    }


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}s"


def _describe(results: SplitResults, mean: Mean) -> str:
    estimate = results.estimate(mean)
    lines = [
        f"<b>{name_of(mean.method)}</b>, {mean.budget} heads, {after(mean.recovery)}",
        f"{name_outcome(results.outcome)} {estimate.text}, 95 % interval {estimate.span}",
        f"n = {estimate.n:,}, {_count(mean.seeds, 'seed')}, {_count(mean.masks, 'mask')}",
    ]
    others = [name for name in OUTCOMES if name in mean.outcomes and name != results.outcome]
    lines += [f"{OUTCOMES[name].label} {mean.outcomes[name].text}" for name in others]
    overlap = results.overlap.get((mean.method, mean.method, mean.budget))
    if overlap is not None:
        random = results.random_overlap[mean.budget]
        lines.append(f"overlap of its own masks {overlap:.2f} (Jaccard index; random selection {random:.2f})")
    if mean.rejected is not None:
        lines.append(f"{mean.rejected} of {mean.masks} recoveries rejected")
    return "<br>".join(lines)


# Differences -------------------------------------------------------------------------------------------------


_SIGNIFICANT = "significant"


def difference_figure(against: str, tests: Sequence[Verdict], *, dark: bool) -> Any:
    """By how much ``against`` is better than each other method: solid if significant."""
    ink = palette.ink(dark=dark)
    traces = []
    title = "points of accuracy"
    if tests:
        title = f"{tests[0].unit} of {name_outcome(tests[0].outcome)}"
    order = sorted(tests, key=lambda test: test.pp)
    results = [_name_result(test) for test in order]
    for name in sorted(set(results), reverse=True):
        symbol = "diamond-open"
        thickness = 1.0
        if name == _SIGNIFICANT:
            symbol = "circle"
            thickness = 1.6
        elif name.startswith("not"):
            symbol = "circle-open"
        places = [place for place, result in enumerate(results) if result == name]
        shown = [order[place] for place in places]
        values = [test.pp for test in shown]
        ends = [test.interval for test in shown]
        hover = [_describe_lead(test) for test in shown]
        bars = marks.error_bars(values, ends, ink.accent, thickness=thickness, width=4)
        traces.append(marks.points(values, places, symbol, ink.accent, outline=2, hover=hover, name=name, error_x=bars))
    names = [name_of(test.method) for test in order]
    figure = marks.draw(
        traces,
        x={"title": f"{title}<br>that {name_of(against)} is ahead", "zeroline": False},
        y={**marks.named_rows(names), "range": [-0.6, len(order) - 0.4]},
        height=128 + 30 * max(2, len(order)),
        left=10,
        top=30,
        bottom=68,
        legend=marks.LEGEND,
    )
    figure.add_vline(x=0, line={"color": ink.text, "width": 1.2})
    return figure


def _name_result(test: Verdict) -> str:
    return describe_tie(test) if test.tie else _SIGNIFICANT


def _describe_lead(test: Verdict) -> str:
    text = f"<b>{name_of(test.method)}</b><br>{test.lead}, {test.interval_name} {test.span}<br>{describe_p(test)}"
    if test.tested:
        text += " after Holm"
    return text
