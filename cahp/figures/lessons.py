"""What Learn draws: a guess beside the truth, and the variants of a model beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.figures import palette
from cahp.studies.answers import Answer


def distance(guess: int, answer: Answer, *, unit: str, dark: bool) -> Any:
    """The guess (hollow diamond) and what was measured (dot, with its 95 % interval) on one axis that fits both."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    low, high = answer.interval or (answer.value, answer.value)
    ends = [guess, answer.value, low, high]
    margin = max(1.0, 0.12 * (max(ends) - min(ends)))
    figure = go.Figure(
        [
            go.Scatter(
                x=[guess, answer.value],
                y=[0, 0],
                mode="lines",
                line={"color": colours.text, "width": 1, "dash": "dot"},
                hoverinfo="skip",
            ),
            go.Scatter(
                x=[answer.value],
                y=[0],
                mode="markers+text",
                text=["measured"],
                textposition="top center",
                marker={"size": 12, "color": colours.accent},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - answer.value],
                    "arrayminus": [answer.value - low],
                    "color": colours.accent,
                    "thickness": 2,
                },
                hovertemplate=f"measured: %{{x:.1f}} {unit}<extra></extra>",
            ),
            go.Scatter(
                x=[guess],
                y=[0],
                mode="markers+text",
                text=["your guess"],
                textposition="bottom center",
                marker={"size": 13, "symbol": "diamond-open", "color": colours.text, "line": {"width": 2}},
                hovertemplate=f"your guess: %{{x}} {unit}<extra></extra>",
            ),
        ]
    )
    figure.update_layout(
        xaxis={"title": {"text": unit}, "range": [min(ends) - margin, max(ends) + margin], "zeroline": False},
        yaxis={"visible": False, "range": [-1, 1], "fixedrange": True},
        height=150,
        margin={"l": 10, "r": 10, "t": 10, "b": 45},
        showlegend=False,
    )
    return figure


def guesses(values: Sequence[int], answer: Answer, *, unit: str, own: int | None, dark: bool) -> Any:
    """How often each guess was made, what was measured (line, with its 95 % interval) and one's own guess (diamond)."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    highest = max(*values, *(answer.interval or (answer.value,)), 5)
    width = max(1, round(highest / 30))
    counts = Counter(value // width * width for value in values)
    figure = go.Figure(
        go.Bar(
            x=[low + (width - 1) / 2 for low in counts],
            y=list(counts.values()),
            width=0.9 * width,
            marker={"color": colours.text, "opacity": 0.45},
            customdata=[f"{low}" if width == 1 else f"{low} to {low + width - 1}" for low in counts],
            hovertemplate=f"%{{y}} guessed %{{customdata}} {unit}<extra></extra>",
        )
    )
    if answer.interval is not None:
        figure.add_vrect(*answer.interval, fillcolor=colours.accent, opacity=0.2, line_width=0)
    figure.add_vline(
        answer.value, line={"color": colours.accent, "width": 3}, annotation={"text": "measured", "yanchor": "bottom"}
    )
    if own is not None:
        figure.add_trace(
            go.Scatter(
                x=[own],
                y=[0],
                mode="markers",
                cliponaxis=False,
                marker={"size": 13, "symbol": "diamond-open", "color": colours.text, "line": {"width": 2}},
                hovertemplate=f"your guess: %{{x}} {unit}<extra></extra>",
            )
        )
    figure.update_layout(
        xaxis={
            "title": {"text": unit},
            "range": [-0.04 * highest - width / 2, 1.04 * highest + width / 2],
            "zeroline": False,
        },
        yaxis={"title": {"text": "guesses"}, "rangemode": "tozero", "dtick": max(1, max(counts.values()) // 4)},
        height=260,
        margin={"l": 10, "r": 10, "t": 30, "b": 45},
        showlegend=False,
    )
    return figure


def accuracies(answer: Answer, *, dark: bool) -> Any:
    """Right answers in per cent: dots with 95 % intervals for the variants, hollow dots for random choices."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    centre = np.array([bar.accuracy for bar in answer.bars]) * 100
    figure = go.Figure(
        go.Scatter(
            x=centre,
            y=[bar.name for bar in answer.bars],
            mode="markers",
            marker={"size": 11, "color": colours.accent},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.array([bar.high for bar in answer.bars]) * 100 - centre,
                "arrayminus": centre - np.array([bar.low for bar in answer.bars]) * 100,
                "color": colours.accent,
                "thickness": 2,
            },
            hovertemplate="%{y}<br>%{x:.1f} % right<extra></extra>",
        )
    )
    for draws in answer.draws:
        figure.add_trace(
            go.Scatter(
                x=np.array(draws.accuracies) * 100,
                y=[draws.name] * len(draws.accuracies),
                mode="markers",
                marker={
                    "size": 11,
                    "symbol": "circle-open",
                    "color": colours.text,
                    "opacity": 0.7,
                    "line": {"width": 1.5},
                },
                hovertemplate="a random choice<br>%{x:.1f} % right<extra></extra>",
            )
        )
    rows = len(answer.bars) + len(answer.draws)
    figure.update_layout(
        xaxis={"title": {"text": "right answers in %"}},
        yaxis={"autorange": "reversed", "title": None},
        height=90 + 34 * rows,
        margin={"l": 10, "r": 10, "t": 10, "b": 50},
        showlegend=False,
    )
    return figure
