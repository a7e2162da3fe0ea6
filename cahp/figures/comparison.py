"""Figures of a comparison for the page: accuracies, and their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cahp.comparison import Reading
from cahp.comparison.sentences import AFTER, called
from cahp.comparison.summary import Mean, Verdict
from cahp.figures import palette
from cahp.figures.labels import label
from cahp.figures.line_names import ROW, LineName, name_lines, room_for

#: Chance is dotted, its markers hollow.
_DASHES, _CHANCE = ("solid", "dash", "dashdot", "longdash"), "dot"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "hourglass", "bowtie")
#: With more methods, bands would hide each other: two of them are drawn, the rest is told when pointed at.
_BANDS = 8


@dataclass(frozen=True)
class Style:
    """How a method is drawn, wherever it is drawn: two methods never share all three."""

    colour: str
    dash: str
    symbol: str


def styles(found: Reading) -> dict[str, Style]:
    """The style of every method: the reference first, eight hues for methods that choose, grey for chance and the rest.

    Filters do not change it: a method keeps its style.
    """
    order = sorted(found.methods, key=lambda name: name != found.against)
    chance = [name for name in order if found.methods[name].chance]
    choosing = [name for name in order if not found.methods[name].chance]
    made = {
        name: Style(palette.NEUTRAL, _CHANCE, f"{_SYMBOLS[at % len(_SYMBOLS)]}-open") for at, name in enumerate(chance)
    }
    hues = palette.CLUSTER_COLOURS
    for at, name in enumerate(choosing):
        # Dashes turn once all symbols were used.
        dash = _DASHES[at // len(_SYMBOLS) % len(_DASHES)]
        made[name] = Style(hues[at] if at < len(hues) else palette.NEUTRAL, dash, _SYMBOLS[at % len(_SYMBOLS)])
    return made


def name_of(method: str) -> str:
    """A method's name as a label."""
    return label(called(method), limit=28)


def accuracy_figure(
    found: Reading, recovery: str, methods: Sequence[str], *, others: Sequence[str] = (), dark: bool
) -> Any:
    """Right answers against the number of heads, a line a method with its interval as a band.

    Every line of ``methods`` bears its name at its end; ``others`` are faint and named when pointed at.
    """
    import plotly.graph_objects as go

    figure, drawn, ink = go.Figure(), styles(found), palette.ink(dark=dark)
    shown, faint = (_measured(found, recovery, names) for names in (methods, others))
    budgets = [budget for budget in found.budgets if any((recovery, name, budget) in found.means for name in shown)]
    if len(budgets) > 1:
        for name in faint:
            _line(figure, found, recovery, name, Style(ink.faint, "solid", "circle"), width=1.2, size=4)
        banded = set(shown) if len(shown) <= _BANDS else {found.against, next(iter(_chance(found, shown)), "")}
        for name in shown:
            if name in banded:
                figure.add_trace(_band(found, recovery, name, drawn[name].colour))
        for name in shown:
            _line(figure, found, recovery, name, drawn[name], width=3 if name == found.against else 1.8, size=9)
    else:
        for place, name in enumerate(shown):
            _point(figure, found, recovery, name, drawn[name], place)
    step = (budgets[-1] - budgets[0]) * 0.03 if len(budgets) > 1 else 0.0
    ends = (budgets[0] - step, budgets[-1] + 2 * step) if len(budgets) > 1 else (-0.5, len(shown) - 0.5)
    labelled: list[LineName] = []
    if len(budgets) > 1:
        for name in shown:
            last = max(budget for budget in found.budgets if (recovery, name, budget) in found.means)
            high = 100 * found.means[recovery, name, last].accuracy
            labelled.append(LineName(name_of(name), last, high, drawn[name].colour, bold=name == found.against))
    for level, words, dash in _references(found, recovery):
        figure.add_trace(
            go.Scatter(
                x=ends,
                y=[100 * level] * 2,
                mode="lines",
                name=words,
                line={"color": ink.text, "width": 1.4, "dash": dash},
                hoverinfo="name",
            )
        )
        labelled.append(LineName(words, ends[1], 100 * level, ink.text))
    axis = {"title": {"text": f"heads kept (of {found.total})"}, "tickvals": budgets}
    if len(budgets) == 1:
        axis = {
            "title": {"text": f"method, {budgets[0]} of {found.total} heads kept"},
            "tickvals": list(range(len(shown))),
            "ticktext": [name_of(name) for name in shown],
        }
    height = max(430, 90 + ROW * len(labelled))
    span = _span(found, recovery, [*shown, *faint])
    name_lines(figure, labelled, right=ends[1], span=span, pixels=height - 66, ink=ink)
    figure.update_layout(
        xaxis={**axis, "showgrid": False, "zeroline": False, "range": ends},
        yaxis={"title": {"text": f"right answers on {label(found.split)} (%)"}, "zeroline": False, "range": span},
        height=height,
        margin={"l": 60, "r": 10 + room_for(labelled), "t": 16, "b": 50},
        showlegend=False,
        hovermode="closest",
    )
    return figure


def _measured(found: Reading, recovery: str, methods: Sequence[str]) -> list[str]:
    return [name for name in methods if any((recovery, name, budget) in found.means for budget in found.budgets)]


def _line(figure: Any, found: Reading, recovery: str, name: str, style: Style, *, width: float, size: int) -> None:
    import plotly.graph_objects as go

    own = [budget for budget in found.budgets if (recovery, name, budget) in found.means]
    figure.add_trace(
        go.Scatter(
            x=own,
            y=[100 * found.means[recovery, name, budget].accuracy for budget in own],
            mode="lines+markers",
            name=name_of(name),
            line={"color": style.colour, "dash": style.dash, "width": width},
            marker={"symbol": style.symbol, "size": size, "color": style.colour},
            hovertext=[_told(found, recovery, name, budget) for budget in own],
            hoverinfo="text",
        )
    )


def _point(figure: Any, found: Reading, recovery: str, name: str, style: Style, place: int) -> None:
    import plotly.graph_objects as go

    own = [budget for budget in found.budgets if (recovery, name, budget) in found.means]
    means = [found.means[recovery, name, budget] for budget in own]
    figure.add_trace(
        go.Scatter(
            x=[place] * len(own),
            y=[100 * mean.accuracy for mean in means],
            mode="markers",
            name=name_of(name),
            marker={"symbol": style.symbol, "size": 9, "color": style.colour},
            error_y=_bars(means),
            hovertext=[_told(found, recovery, name, budget) for budget in own],
            hoverinfo="text",
        )
    )


def _told(found: Reading, recovery: str, name: str, budget: int) -> str:
    mean = found.means[recovery, name, budget]
    return f"<b>{name_of(name)}</b>, {budget} heads {AFTER[recovery]}<br>{_said(mean)}"


def _span(found: Reading, recovery: str, methods: Sequence[str]) -> tuple[float, float]:
    """The least and the most of what is drawn, in per cent, with room around it."""
    means = [mean for (how, name, _), mean in found.means.items() if how == recovery and name in methods]
    levels = [100 * level for level, _, _ in _references(found, recovery)]
    low = min([*levels, *(100 * mean.low for mean in means)])
    high = max([*levels, *(100 * mean.high for mean in means)])
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def _chance(found: Reading, shown: Sequence[str]) -> list[str]:
    return [name for name in shown if found.methods[name].chance]


def _band(found: Reading, recovery: str, name: str, colour: str) -> Any:
    import plotly.graph_objects as go

    own = [budget for budget in found.budgets if (recovery, name, budget) in found.means]
    means = [found.means[recovery, name, budget] for budget in own]
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return go.Scatter(
        x=[*own, *reversed(own)],
        y=[*(100 * mean.high for mean in means), *(100 * mean.low for mean in reversed(means))],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.13)",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        name=f"{name_of(name)}, 95 % interval",
    )


def _bars(means: Sequence[Mean]) -> dict[str, Any]:
    return {
        "array": [100 * (mean.high - mean.accuracy) for mean in means],
        "arrayminus": [100 * (mean.accuracy - mean.low) for mean in means],
        "thickness": 1.2,
        "width": 5,
    }


def _said(mean: Mean) -> str:
    lines = [
        f"{mean.accuracy:.1%} right, 95 % interval {mean.low:.1%} to {mean.high:.1%}",
        f"n = {mean.n:,}, {mean.seeds} seed{'' if mean.seeds == 1 else 's'}, {mean.masks} "
        f"mask{'' if mean.masks == 1 else 's'}",
    ]
    if mean.macro_f1 is not None:
        lines.append(f"macro-F1 {mean.macro_f1:.3f}")
    if mean.agreement is not None:
        lines.append(f"same answer as all heads {mean.agreement:.1%}")
    return "<br>".join(lines).replace("%", " %").replace("  %", " %")


def _references(found: Reading, recovery: str) -> list[tuple[float, str, str]]:
    levels = [(found.full["none"], f"all heads {100 * found.full['none']:.1f} %", "solid")]
    if recovery != "none" and recovery in found.full:
        level = found.full[recovery]
        levels.append((level, f"all heads {AFTER[recovery]} {100 * level:.1f} %", "dash"))
    return levels


def difference_figure(against: str, tests: Sequence[Verdict], *, dark: bool) -> Any:
    """By how many points ``against`` is better than each other method: solid where it passed the test."""
    import plotly.graph_objects as go

    ink, figure = palette.ink(dark=dark), go.Figure()
    order = sorted(tests, key=lambda one: one.pp)
    for better, symbol, name in (
        (True, "circle", "passed the test"),
        (False, "circle-open", "no difference at this n"),
    ):
        these = [(place, one) for place, one in enumerate(order) if (not one.tie) == better]
        if not these:
            continue
        figure.add_trace(
            go.Scatter(
                x=[one.pp for _, one in these],
                y=[place for place, _ in these],
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 11, "color": ink.accent, "line": {"width": 2}},
                error_x={
                    "array": [one.high - one.pp for _, one in these],
                    "arrayminus": [one.pp - one.low for _, one in these],
                    "color": ink.accent,
                    "thickness": 1.6 if better else 1.0,
                    "width": 4,
                },
                hovertext=[
                    f"<b>{name_of(one.method)}</b><br>{one.pp:+.1f} pp, 95 % interval {one.low:+.1f} to "
                    f"{one.high:+.1f}<br>p = {one.p_holm:.2g} after Holm ({one.p:.2g} alone)"
                    for _, one in these
                ],
                hoverinfo="text",
            )
        )
    figure.add_vline(x=0, line={"color": ink.text, "width": 1.2})
    ours = name_of(against)
    figure.update_layout(
        xaxis={
            "title": {"text": f"points of accuracy<br>that {ours} is ahead"},
            "zeroline": False,
        },
        yaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [name_of(one.method) for one in order],
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
