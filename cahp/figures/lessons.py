"""What Learn draws: a guess beside the truth, and the variants of a model beside each other."""

from __future__ import annotations

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
