"""Figures of the Learn page: a guess beside the answer, and the variants of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cahp.features.learn.lessons import Answer, Step
from cahp.figures import palette
from cahp.figures.marks import draw, error_bars, points
from cahp.outcomes import OUTCOMES

#: Pixels of a head on the small board, at most.
_CELL = 26.0
#: Pixels of the whole board.
_BOARD = 250.0


def guess_figure(step: Step, answer: Answer, own: int | None, others: Sequence[int] = (), *, dark: bool) -> Any:
    """Draw the measured answer (line, 95 % interval), the own guess (diamond) and how often others made each guess.

    The axis is the range of the guess, and longer only where the answer lies outside.
    """
    colours = palette.ink(dark=dark)
    unit = step.unit
    own_guess = []
    if own is not None:
        own_guess.append(own)
    ends = [0, step.highest, answer.value, *(answer.interval or ())]
    width = max(1, round(max(ends) / 30))
    counts = Counter(value // width * width for value in others)
    guessed = [f"{low} to {low + width - 1}" for low in counts]
    if width == 1:
        guessed = [f"{low}" for low in counts]
    bars = {
        "type": "bar",
        "x": [low + (width - 1) / 2 for low in counts],
        "y": list(counts.values()),
        "width": 0.9 * width,
        "marker": {"color": colours.text, "opacity": 0.45},
        "customdata": guessed,
        "hovertemplate": f"%{{y}} guessed %{{customdata}} {unit}<extra></extra>",
    }
    hover = [f"your guess: {guess} {unit}" for guess in own_guess]
    diamond = points(own_guess, [0], "diamond-open", colours.text, size=13, outline=2, hover=hover, cliponaxis=False)
    margin = 0.04 * (max(ends) - min(ends)) + width / 2
    y: dict[str, Any] = {"visible": False, "range": [-1, 1], "fixedrange": True}
    height = 115
    if counts:
        y = {"title": "guesses", "rangemode": "tozero", "dtick": max(1, max(counts.values()) // 4)}
        height = 230
    figure = draw(
        [bars, diamond],
        x={"title": unit, "range": [min(ends) - margin, max(ends) + margin], "zeroline": False},
        y=y,
        height=height,
        left=10,
        top=30,
        bottom=45,
    )
    if answer.interval is not None:
        figure.add_vrect(*answer.interval, fillcolor=colours.accent, opacity=0.2, line_width=0)
    # The word stays inside of the chart.
    side = "right" if answer.value > (min(ends) + max(ends)) / 2 else "left"
    note = {"text": "measured", "yanchor": "bottom", "xanchor": side}
    return figure.add_vline(answer.value, line={"color": colours.accent, "width": 3}, annotation=note)


def variants_figure(answer: Answer, *, dark: bool) -> Any:
    """Draw the share ``answer.outcome`` of each variant (dots with 95 % intervals), and random selections (hollow)."""
    colours = palette.ink(dark=dark)
    label = OUTCOMES[answer.outcome].label
    centre = [100 * share.value for share in answer.bars.values()]
    ends = [(100 * share.low, 100 * share.high) for share in answer.bars.values()]
    traces = [
        points(
            centre,
            list(answer.bars),
            "circle",
            colours.accent,
            hover=[f"{name}<br>{label} {share.text}" for name, share in answer.bars.items()],
            error_x=error_bars(centre, ends, colours.accent, thickness=2),
        )
    ]
    for name, drawn in answer.draws.items():
        shares = [100 * share for share in drawn]
        hover = [f"random selection<br>{label} {share:.1f} %" for share in shares]
        rows = [name] * len(shares)
        traces.append(points(shares, rows, "circle-open", colours.text, outline=1.5, opacity=0.7, hover=hover))
    height = 90 + 34 * (len(answer.bars) + len(answer.draws))
    return draw(traces, x=f"{answer.outcome} in %", y={"autorange": "reversed"}, height=height, left=10, bottom=50)
