"""Figures of a comparison for the page: accuracies, and their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cahp.comparison import SplitResults
from cahp.comparison.document import Mean, Verdict
from cahp.comparison.sentences import after, method_label
from cahp.figures import palette
from cahp.figures.labels import label
from cahp.outcomes import OUTCOMES

#: Random selection is dotted, with hollow markers.
_DASHES, _RANDOM = ("solid", "dash", "dashdot", "longdash"), "dot"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "hourglass", "bowtie")
#: With more methods, bands would hide each other: then only two are drawn.
_BANDS = 8
#: Pixels from one name in the legend to the next.
_ROW = 19


@dataclass(frozen=True)
class Style:
    """The style of a method in every figure: two methods never share all three."""

    colour: str
    dash: str
    symbol: str


def styles(results: SplitResults) -> dict[str, Style]:
    """The style of every method: the reference first, eight hues, grey for random selection and the rest.

    Filters do not change it: a method keeps its style.
    """
    order = sorted(results.methods, key=lambda name: name != results.against)
    random = [name for name in order if results.methods[name].random]
    others = [name for name in order if not results.methods[name].random]
    drawn = {
        name: Style(palette.NEUTRAL, _RANDOM, f"{_SYMBOLS[at % len(_SYMBOLS)]}-open") for at, name in enumerate(random)
    }
    hues = palette.CLUSTER_COLOURS
    for at, name in enumerate(others):
        # The next dash follows once all symbols are used.
        dash = _DASHES[at // len(_SYMBOLS) % len(_DASHES)]
        drawn[name] = Style(hues[at] if at < len(hues) else palette.NEUTRAL, dash, _SYMBOLS[at % len(_SYMBOLS)])
    return drawn


def name_of(method: str) -> str:
    """A method's name as a label."""
    return label(method_label(method), limit=28)


# Accuracy ----------------------------------------------------------------------------------------------------


def accuracy_figure(
    results: SplitResults, recovery: str, methods: Sequence[str], *, others: Sequence[str] = (), dark: bool
) -> Any:
    """Accuracy against the number of heads, a line per method with its interval as a band.

    The legend lists ``methods`` in the order in which their lines end; ``others`` are faint, named in the tooltip.
    """
    import plotly.graph_objects as go

    figure, drawn, ink = go.Figure(), styles(results), palette.ink(dark=dark)
    lines = {
        name: [results.means[key] for at in results.budgets if (key := (recovery, name, at)) in results.means]
        for name in (*methods, *others)
    }
    shown, faint = ([name for name in names if lines[name]] for names in (methods, others))
    budgets = sorted({mean.budget for name in shown for mean in lines[name]})
    if len(budgets) > 1:
        random = [name for name in shown if results.methods[name].random]
        banded = shown if len(shown) <= _BANDS else [results.against, *random[:1]]
        figure.add_traces(
            [_line(lines[name], Style(ink.faint, "solid", "circle"), width=1.2, size=4) for name in faint]
            + [_band(lines[name], drawn[name].colour) for name in shown if name in banded]
        )
        figure.update_traces(showlegend=False)
        figure.add_traces(
            [
                _line(lines[name], drawn[name], width=3 if name == results.against else 1.8).update(
                    legendrank=round(1000 * (1 - lines[name][-1].accuracy.value))
                )
                for name in shown
            ]
        )
        step = (budgets[-1] - budgets[0]) * 0.03
        ends = (budgets[0] - step, budgets[-1] + 2 * step)
        axis = {"title": {"text": f"heads kept (of {results.total})"}, "tickvals": budgets}
    else:
        figure.add_traces([_line(lines[name], drawn[name], place=place) for place, name in enumerate(shown)])
        ends = (-0.5, len(shown) - 0.5)
        axis = {
            "title": {"text": f"method, {budgets[0] if budgets else 0} of {results.total} heads kept"},
            "tickvals": list(range(len(shown))),
            "ticktext": [name_of(name) for name in shown],
        }
    # Accuracies of the full model, which some recoveries change.
    levels = [(results.full["none"], f"all heads {100 * results.full['none']:.1f} %", "solid")]
    if recovery != "none" and recovery in results.full:
        level = results.full[recovery]
        levels.append((level, f"all heads {after(recovery)} {100 * level:.1f} %", "dash"))
    for level, words, dash in levels:
        figure.add_trace(
            go.Scatter(
                x=ends,
                y=[100 * level] * 2,
                mode="lines",
                name=words,
                line={"color": ink.text, "width": 1.4, "dash": dash},
                hoverinfo="name",
                legendrank=round(1000 * (1 - level)),
            )
        )
    figure.update_layout(
        xaxis={**axis, "showgrid": False, "zeroline": False, "range": ends},
        yaxis={"title": {"text": f"accuracy on {label(results.split)} (%)"}, "zeroline": False},
        height=max(430, 90 + _ROW * (len(shown) + len(levels))),
        margin={"l": 60, "r": 10, "t": 16, "b": 50},
        showlegend=True,
        hovermode="closest",
    )
    return figure


def _line(means: Sequence[Mean], style: Style, *, width: float = 1.8, size: int = 9, place: int | None = None) -> Any:
    """The means of a method as a line over the budgets, or at a ``place`` as points with their intervals."""
    import plotly.graph_objects as go

    accuracies = [mean.accuracy for mean in means]
    trace = go.Scatter(
        x=[mean.budget if place is None else place for mean in means],
        y=[100 * accuracy.value for accuracy in accuracies],
        mode="lines+markers" if place is None else "markers",
        name=name_of(means[0].method),
        marker={"symbol": style.symbol, "size": size, "color": style.colour},
        hovertext=[_describe(mean) for mean in means],
        hoverinfo="text",
    )
    if place is None:
        return trace.update(line={"color": style.colour, "dash": style.dash, "width": width})
    above = [100 * (accuracy.high - accuracy.value) for accuracy in accuracies]
    below = [100 * (accuracy.value - accuracy.low) for accuracy in accuracies]
    error = {"array": above, "arrayminus": below, "thickness": 1.2, "width": 5}
    return trace.update(error_y=error, showlegend=False)


def _band(means: Sequence[Mean], colour: str) -> Any:
    """The intervals of a method."""
    import plotly.graph_objects as go

    budgets = [mean.budget for mean in means]
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return go.Scatter(
        x=[*budgets, *reversed(budgets)],
        y=[*(100 * mean.accuracy.high for mean in means), *(100 * mean.accuracy.low for mean in reversed(means))],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.13)",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name=f"{name_of(means[0].method)}, 95 % interval",
    )


def _describe(mean: Mean) -> str:
    lines = [
        f"<b>{name_of(mean.method)}</b>, {mean.budget} heads, {after(mean.recovery)}",
        f"accuracy {mean.accuracy.text}, 95 % interval {mean.accuracy.span}",
        f"n = {mean.accuracy.n:,}, {mean.seeds} seed{'' if mean.seeds == 1 else 's'}, {mean.masks} "
        f"mask{'' if mean.masks == 1 else 's'}",
    ]
    others = [name for name in OUTCOMES if name in mean.outcomes and name != "accuracy"]
    return "<br>".join([*lines, *(f"{OUTCOMES[name].label} {mean.outcomes[name].text}" for name in others)])


# Differences -------------------------------------------------------------------------------------------------


def difference_figure(against: str, tests: Sequence[Verdict], *, dark: bool) -> Any:
    """By how many points ``against`` is better than each other method: solid if significant."""
    import plotly.graph_objects as go

    ink, figure = palette.ink(dark=dark), go.Figure()
    order = sorted(tests, key=lambda test: test.pp)
    for tie, symbol, name in ((False, "circle", "significant"), (True, "circle-open", "no difference at this n")):
        shown = [(place, test) for place, test in enumerate(order) if test.tie == tie]
        if not shown:
            continue
        figure.add_trace(
            go.Scatter(
                x=[test.pp for _, test in shown],
                y=[place for place, _ in shown],
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 11, "color": ink.accent, "line": {"width": 2}},
                error_x={
                    "array": [test.high - test.pp for _, test in shown],
                    "arrayminus": [test.pp - test.low for _, test in shown],
                    "color": ink.accent,
                    "thickness": 1.0 if tie else 1.6,
                    "width": 4,
                },
                hovertext=[
                    f"<b>{name_of(test.method)}</b><br>{test.pp:+.1f} pp, 95 % interval {test.low:+.1f} to "
                    f"{test.high:+.1f}<br>p = {test.p_holm:.2g} after Holm ({test.p:.2g} alone)"
                    for _, test in shown
                ],
                hoverinfo="text",
            )
        )
    figure.add_vline(x=0, line={"color": ink.text, "width": 1.2})
    figure.update_layout(
        xaxis={"title": {"text": f"points of accuracy<br>that {name_of(against)} is ahead"}, "zeroline": False},
        yaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [name_of(test.method) for test in order],
            "range": [-0.6, len(order) - 0.4],
            "showgrid": False,
            "automargin": True,
        },
        height=128 + 30 * max(2, len(order)),
        margin={"l": 10, "r": 10, "t": 30, "b": 68},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        showlegend=True,
    )
    return figure
