"""Figures of a comparison: methods ranked at a number of heads, an outcome by budget, and leads over other methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from cahp.board.colourings import NEUTRAL
from cahp.comparison import SplitResults
from cahp.comparison.claims import RANDOM
from cahp.comparison.sentences import method_label, name_outcome
from cahp.figures import marks
from cahp.figures.marks import label
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, RECOVERIES
from cahp.values import JsonObject
from cahp.words import counted

#: The colours of the best other method and of random selection, by day and by night, readable as text; the reference
#: has the accent, other methods are grey.
_BEST = ("#B84A00", "#F08A3C")
_RANDOM = ("#7A3FD6", "#B08CF0")
#: The opacity of the band, and of methods whose difference from the reference is not significant.
_BAND = 0.15
_PALE = 0.4
#: Pixels of a row of the ranking.
_ROW = 24


def colours(results: SplitResults, recovery: str, budget: int, *, dark: bool) -> dict[str, str]:
    """Return the colour of every method: the reference, the best other one and random selection have their own.

    The best is that with the best mean at ``budget`` after ``recovery``.
    """
    drawn = dict.fromkeys(results.methods, NEUTRAL)
    ranked = [mean.method for mean in results.rank(recovery, budget)]
    others = [name for name in ranked if name != results.against and results.methods[name].draws == 1]
    for name in others[:1]:
        drawn[name] = _BEST[dark]
    return {**drawn, RANDOM: _RANDOM[dark], results.against: marks.ink(dark=dark).accent}


def name_of(method: str) -> str:
    """A method's name as a label."""
    return label(method_label(method), limit=28)


def _axis(results: SplitResults, values: pd.Series[float]) -> JsonObject:
    """The axis of the outcome, with shares in per cent; that of divergences is logarithmic."""
    row = OUTCOMES[results.outcome]
    unit = "%" if row.unit == "share" else f"{row.unit}, less is better"
    axis = {"title": f"{name_outcome(results.outcome)} on {label(results.split)} ({unit})", "zeroline": False}
    if row.unit == "nats" and (values > 0).all():
        axis |= {"type": "log", "dtick": "D1"}
    return axis


def _tabulate(results: SplitResults) -> pd.DataFrame:
    """The means in the units of the axis, with their tooltips, by recovery, method and budget."""
    scale = 100 if OUTCOMES[results.outcome].unit == "share" else 1
    rows = {}
    for (recovery, method, budget), mean in results.means.items():
        estimate = results.estimate(mean)
        hover = (
            f"<b>{name_of(method)}</b>, {budget} {results.units}, {RECOVERIES[recovery].beside}<br>"
            f"{name_outcome(results.outcome)} {estimate.text}, 95 % interval {estimate.span}<br>"
            f"n = {estimate.n:,}, {counted(mean.seeds, 'seed')}, {counted(mean.masks, 'mask')}"
        )
        # A logarithmic axis has no place for an end at 0.
        low = max(estimate.low, estimate.value / 100)
        rows[recovery, method, budget] = (scale * estimate.value, scale * low, scale * estimate.high, hover)
    places = pd.MultiIndex.from_tuples(rows)
    return pd.DataFrame(list(rows.values()), index=places, columns=["value", "low", "high", "hover"])


def _bars(rows: pd.DataFrame, colour: str) -> JsonObject:
    return marks.error_bars(rows["value"], rows[["low", "high"]].to_numpy(), colour, width=4)


def _add_full_model(figure: Any, results: SplitResults, add: str, *, dark: bool) -> Any:
    """Draw the outcome of the full model as a dashed line, unless it is its difference from itself."""
    row = OUTCOMES[results.outcome]
    if not row.difference:
        value = results.full[NONE.name]
        if row.unit == "share":
            value *= 100
        line = {"color": marks.ink(dark=dark).text, "width": 1.4, "dash": "dash"}
        words = f"all {results.units} {results.full_text()}"
        getattr(figure, add)(value, line=line, annotation_text=words, annotation_position="bottom right")
    return figure


def ranking_figure(results: SplitResults, recovery: str, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """The outcome of each method at a number of heads, the best on top, with the band of random selection.

    A method is pale where its difference from the reference is not significant.
    """
    drawn = colours(results, recovery, budget, dark=dark)
    names = [mean.method for mean in results.rank(recovery, budget) if mean.method in methods]
    significant = {results.against, *(test.method for test in results.tests_at(recovery, budget) if not test.tie)}
    table = _tabulate(results)
    rows = table.loc[[(recovery, name, budget) for name in names]]
    dots = marks.points(
        rows["value"].tolist(),
        list(range(len(names))),
        "circle",
        [drawn[name] for name in names],
        opacity=[1 if name in significant else _PALE for name in names],
        hover=rows["hover"].tolist(),
        error_x=_bars(rows, NEUTRAL),
    )
    figure = marks.draw(
        [dots],
        x=_axis(results, table["value"]),
        y=marks.named_rows([name_of(name) for name in names]),
        height=100 + _ROW * len(names),
        left=10,
        bottom=50,
    )
    if RANDOM in names:
        band = table.loc[(recovery, RANDOM, budget)]
        figure.add_vrect(band["low"], band["high"], fillcolor=_RANDOM[dark], opacity=_BAND, line_width=0, layer="below")
    return _add_full_model(figure, results, "add_vline", dark=dark)


def curve_figure(results: SplitResults, recovery: str, budget: int, methods: Sequence[str], *, dark: bool) -> Any:
    """The outcome by number of heads: a line per method, with intervals and a name in the legend for those in colour.

    Divergences have a logarithmic axis.
    """
    budgets = results.budgets_after(recovery)
    drawn = colours(results, recovery, budget, dark=dark)
    table = _tabulate(results)
    traces = []
    # The coloured ones last, on top of the others.
    for name in sorted(methods, key=lambda name: drawn[name] != NEUTRAL):
        own = [at for at in budgets if (recovery, name, at) in table.index]
        rows = table.loc[[(recovery, name, at) for at in own]]
        colour = drawn[name]
        style: JsonObject = {"size": 5, "showlegend": False}
        if colour != NEUTRAL:
            style = {"size": 8, "error_y": _bars(rows, colour)}
        traces.append(
            marks.points(
                own,
                rows["value"].tolist(),
                "circle",
                colour,
                hover=rows["hover"].tolist(),
                name=name_of(name),
                mode="lines+markers",
                line={"color": colour, "width": style["size"] / 4},
                **style,
            )
        )
    margin = (budgets[-1] - budgets[0]) * 0.03
    ends = (budgets[0] - margin, budgets[-1] + margin)
    figure = marks.draw(
        traces,
        x=marks.ticks(f"{results.units} kept (of {results.total})", budgets, ends),
        y=_axis(results, table["value"]),
        height=426,
        left=60,
        bottom=50,
        legend=marks.LEGEND,
        hovermode="closest",
    )
    return _add_full_model(figure, results, "add_hline", dark=dark)
