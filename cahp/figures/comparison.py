"""Figures of a comparison for the page: an outcome by budget, and differences between methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cahp.board.colours import CLUSTER_COLOURS, NEUTRAL
from cahp.comparison import SplitResults
from cahp.comparison.document import Mean, Verdict
from cahp.comparison.sentences import after, describe_p, describe_tie, method_label, name_outcome
from cahp.figures import marks, palette
from cahp.figures.marks import label
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
    drawn = {name: Style(NEUTRAL, _RANDOM, f"{_SYMBOLS[at % len(_SYMBOLS)]}-open") for at, name in enumerate(random)}
    hues = CLUSTER_COLOURS
    for at, name in enumerate(others):
        # The next dash follows once all symbols are used.
        dash = _DASHES[at // len(_SYMBOLS) % len(_DASHES)]
        drawn[name] = Style(hues[at] if at < len(hues) else NEUTRAL, dash, _SYMBOLS[at % len(_SYMBOLS)])
    return drawn


def name_of(method: str) -> str:
    """A method's name as a label."""
    return label(method_label(method), limit=28)


# An outcome by budget -----------------------------------------------------------------------------------------


def curve_figure(
    results: SplitResults, recovery: str, methods: Sequence[str], others: Sequence[str] = (), *, dark: bool
) -> Any:
    """The outcome of the results against the number of heads, a line per method with its interval as a band.

    Budgets of up to 20 % of the heads are shaded, and divergences have a logarithmic axis. The legend lists ``methods``
    in the order in which their lines end; ``others`` are faint, named in the tooltip.
    """
    drawn, ink = styles(results), palette.ink(dark=dark)
    lines = {
        name: [results.means[key] for at in results.budgets if (key := (recovery, name, at)) in results.means]
        for name in (*methods, *others)
    }
    shown, faint = ([name for name in names if lines[name]] for names in (methods, others))
    budgets = sorted({mean.budget for name in shown for mean in lines[name]})
    row = OUTCOMES[results.outcome]
    scale = 100 if row.unit == "share" else 1
    traces: list[dict[str, Any]] = []
    if len(budgets) > 1:
        random = [name for name in shown if results.methods[name].random]
        banded = shown if len(shown) <= _BANDS else [results.against, *random[:1]]
        style = Style(ink.faint, "solid", "circle")
        traces += [_line(results, lines[name], style, width=1.2, size=4) for name in faint]
        traces += [_band(results, lines[name], drawn[name].colour) for name in shown if name in banded]
        traces = [{**trace, "showlegend": False} for trace in traces]
        for name in shown:
            line = _line(results, lines[name], drawn[name], width=3 if name == results.against else 1.8)
            traces.append({**line, "legendrank": round(1000 * (1 - results.estimate(lines[name][-1]).value))})
        step = (budgets[-1] - budgets[0]) * 0.03
        ends = (budgets[0] - step, budgets[-1] + 2 * step)
        axis = {"title": f"heads kept (of {results.total})", "tickvals": budgets}
    else:
        traces += [_line(results, lines[name], drawn[name], place=place) for place, name in enumerate(shown)]
        ends = (-0.5, len(shown) - 0.5)
        axis = {
            "title": f"method, {budgets[0] if budgets else 0} of {results.total} heads kept",
            "tickvals": list(range(len(shown))),
            "ticktext": [name_of(name) for name in shown],
        }
    # The full model, which some recoveries change; it does not differ from itself.
    levels = [] if row.difference else [("none", f"all heads {results.full_text()}", "solid")]
    if recovery != "none" and recovery in results.full:
        levels.append((recovery, f"all heads {after(recovery)} {results.full_text(recovery)}", "dash"))
    for name, words, dash in levels:
        line, level = {"color": ink.text, "width": 1.4, "dash": dash}, results.full[name]
        place = {"x": ends, "y": [scale * level] * 2, "legendrank": round(1000 * (1 - level))}
        traces.append({"type": "scatter", **place, "mode": "lines", "name": words, "line": line, "hoverinfo": "name"})
    shaded = len(budgets) > 1 and budgets[0] <= 0.2 * results.total
    small = {"type": "rect", "xref": "x", "yref": "paper", "x0": ends[0], "x1": min(0.2 * results.total, ends[1])}
    small |= {"y0": 0, "y1": 1, "fillcolor": ink.faint, "opacity": 0.12, "line": {"width": 0}, "layer": "below"}
    unit = "%" if row.unit == "share" else f"{row.unit}, less is better"
    logarithmic = row.unit == "nats" and all(results.estimate(mean).value > 0 for name in shown for mean in lines[name])
    return marks.draw(
        traces,
        x={**axis, "showgrid": False, "zeroline": False, "range": ends},
        y={
            "title": f"{name_outcome(results.outcome)} on {label(results.split)} ({unit})",
            "zeroline": False,
            "type": "log" if logarithmic else "linear",
        },
        shapes=[small] if shaded else [],
        height=max(430, 90 + _ROW * (len(shown) + len(levels))),
        left=60,
        top=16,
        bottom=50,
        legend={},
        hovermode="closest",
    )


def _scaled(results: SplitResults, means: Sequence[Mean]) -> list[tuple[float, float, float]]:
    """Value and interval of each mean, shares in per cent."""
    scale = 100 if OUTCOMES[results.outcome].unit == "share" else 1
    estimates = [results.estimate(mean) for mean in means]
    return [(scale * one.value, scale * one.low, scale * one.high) for one in estimates]


def _line(
    results: SplitResults,
    means: Sequence[Mean],
    style: Style,
    *,
    width: float = 1.8,
    size: int = 9,
    place: int | None = None,
) -> dict[str, Any]:
    """The means of a method as a line over the budgets, or at a ``place`` as points with their intervals."""
    scaled = _scaled(results, means)
    values, ends = [value for value, _, _ in scaled], [[low, high] for _, low, high in scaled]
    drawn: dict[str, Any] = {
        "mode": "lines+markers",
        "line": {"color": style.colour, "dash": style.dash, "width": width},
    }
    if place is not None:
        bars = marks.error_bars(values, ends, style.colour, thickness=1.2, width=5)
        drawn = {"error_y": bars, "showlegend": False}
    return marks.points(
        [mean.budget if place is None else place for mean in means],
        values,
        style.symbol,
        style.colour,
        size=size,
        hover=[_describe(results, mean) for mean in means],
        name=name_of(means[0].method),
        **drawn,
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
        "fillcolor": f"rgba({red},{green},{blue},0.13)",
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "name": f"{name_of(means[0].method)}, 95 % interval",
    }


def _describe(results: SplitResults, mean: Mean) -> str:
    estimate = results.estimate(mean)
    lines = [
        f"<b>{name_of(mean.method)}</b>, {mean.budget} heads, {after(mean.recovery)}",
        f"{name_outcome(results.outcome)} {estimate.text}, 95 % interval {estimate.span}",
        f"n = {estimate.n:,}, {mean.seeds} seed{'' if mean.seeds == 1 else 's'}, {mean.masks} "
        f"mask{'' if mean.masks == 1 else 's'}",
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


def difference_figure(against: str, tests: Sequence[Verdict], *, dark: bool) -> Any:
    """By how much ``against`` is better than each other method: solid if significant."""
    ink, traces = palette.ink(dark=dark), []
    measure, unit = (name_outcome(tests[0].outcome), tests[0].unit) if tests else ("accuracy", "points")
    order = sorted(tests, key=lambda test: test.pp)
    results = [describe_tie(test) if test.tie else "significant" for test in order]
    for name in sorted(set(results), reverse=True):
        tie = name != "significant"
        symbol = "circle-open" if name.startswith("not") else "diamond-open" if tie else "circle"
        places = [place for place, result in enumerate(results) if result == name]
        shown = [order[place] for place in places]
        values, ends = [test.pp for test in shown], [test.ci95 for test in shown]
        hover = [
            f"<b>{name_of(test.method)}</b><br>{test.lead}, 95 % interval {test.span}<br>"
            f"{describe_p(test)}{' after Holm' if test.tested else ''}"
            for test in shown
        ]
        if shown:
            bars = marks.error_bars(values, ends, ink.accent, thickness=1.0 if tie else 1.6, width=4)
            traces.append(
                marks.points(values, places, symbol, ink.accent, outline=2, hover=hover, name=name, error_x=bars)
            )
    names = [name_of(test.method) for test in order]
    figure = marks.draw(
        traces,
        x={"title": f"{unit} of {measure}<br>that {name_of(against)} is ahead", "zeroline": False},
        y={**marks.named_rows(names), "range": [-0.6, len(order) - 0.4]},
        height=128 + 30 * max(2, len(order)),
        left=10,
        top=30,
        bottom=68,
        legend=marks.LEGEND,
    )
    figure.add_vline(x=0, line={"color": ink.text, "width": 1.2})
    return figure
