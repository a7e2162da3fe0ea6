"""Figures of the Learn page: a guess beside the measured answer, and the variants of a model beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cahp.figures import palette
from cahp.figures.marks import draw, error_bars, points
from cahp.studies.answers import Answer


def distance(guess: int, answer: Answer, *, unit: str, dark: bool) -> Any:
    """Draw the guess (hollow diamond) and the measured answer (dot with its 95 % interval) on one axis."""
    colours = palette.ink(dark=dark)
    interval = answer.interval or (answer.value, answer.value)
    ends = [guess, answer.value, *interval]
    margin = max(1.0, 0.12 * (max(ends) - min(ends)))
    line = {"color": colours.text, "width": 1, "dash": "dot"}
    joined = {"type": "scatter", "x": [guess, answer.value], "y": [0, 0], "mode": "lines", "line": line}
    traces = [
        {**joined, "hoverinfo": "skip"},
        points(
            [answer.value],
            [0],
            "circle",
            colours.accent,
            size=12,
            hover=[f"measured: {answer.value:.1f} {unit}"],
            mode="markers+text",
            text=["measured"],
            textposition="top center",
            error_x=error_bars([answer.value], interval, colours.accent, thickness=2),
        ),
        _guess(guess, unit, colours, mode="markers+text", text=["your guess"], textposition="bottom center"),
    ]
    return draw(
        traces,
        x={"title": unit, "range": [min(ends) - margin, max(ends) + margin], "zeroline": False},
        y={"visible": False, "range": [-1, 1], "fixedrange": True},
        height=150,
        left=10,
        bottom=45,
    )


def _guess(guess: int, unit: str, colours: palette.Ink, **trace: Any) -> dict[str, Any]:
    hover = [f"your guess: {guess} {unit}"]
    return points([guess], [0], "diamond-open", colours.text, size=13, outline=2, hover=hover, **trace)


def guesses(values: Sequence[int], answer: Answer, *, unit: str, own: int | None, dark: bool) -> Any:
    """Draw how often each guess was made, the measured answer (line, 95 % interval) and the own guess (diamond)."""
    colours = palette.ink(dark=dark)
    highest = max(*values, *(answer.interval or (answer.value,)), 5)
    width = max(1, round(highest / 30))
    counts = Counter(value // width * width for value in values)
    bars = {
        "type": "bar",
        "x": [low + (width - 1) / 2 for low in counts],
        "y": list(counts.values()),
        "width": 0.9 * width,
        "marker": {"color": colours.text, "opacity": 0.45},
        "customdata": [f"{low}" if width == 1 else f"{low} to {low + width - 1}" for low in counts],
        "hovertemplate": f"%{{y}} guessed %{{customdata}} {unit}<extra></extra>",
    }
    own_guess = [] if own is None else [_guess(own, unit, colours, cliponaxis=False)]
    margin = 0.04 * highest
    figure = draw(
        [bars, *own_guess],
        x={"title": unit, "range": [-margin - width / 2, highest + margin + width / 2], "zeroline": False},
        y={"title": "guesses", "rangemode": "tozero", "dtick": max(1, max(counts.values()) // 4)},
        height=260,
        left=10,
        top=30,
        bottom=45,
    )
    if answer.interval is not None:
        figure.add_vrect(*answer.interval, fillcolor=colours.accent, opacity=0.2, line_width=0)
    line, note = {"color": colours.accent, "width": 3}, {"text": "measured", "yanchor": "bottom"}
    return figure.add_vline(answer.value, line=line, annotation=note)


def accuracy_figure(answer: Answer, *, dark: bool) -> Any:
    """Draw the accuracy of each variant (dots with 95 % intervals) and of random selections (hollow dots)."""
    colours = palette.ink(dark=dark)
    centre = [100 * accuracy.value for accuracy in answer.bars.values()]
    ends = [(100 * accuracy.low, 100 * accuracy.high) for accuracy in answer.bars.values()]
    traces = [
        points(
            centre,
            list(answer.bars),
            "circle",
            colours.accent,
            hover=[f"{name}<br>accuracy {accuracy.text}" for name, accuracy in answer.bars.items()],
            error_x=error_bars(centre, ends, colours.accent, thickness=2),
        )
    ]
    for name, accuracies in answer.draws.items():
        shares = [100 * share for share in accuracies]
        hover = [f"random selection<br>accuracy {share:.1f} %" for share in shares]
        rows = [name] * len(shares)
        traces.append(points(shares, rows, "circle-open", colours.text, outline=1.5, opacity=0.7, hover=hover))
    height = 90 + 34 * (len(answer.bars) + len(answer.draws))
    return draw(traces, x="accuracy in %", y={"autorange": "reversed"}, height=height, left=10, bottom=50)
