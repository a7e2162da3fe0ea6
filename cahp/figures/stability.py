"""Figures of the resamples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.figures import palette
from cahp.figures.head_grid import share_figure
from cahp.studies.stability import Stability
from cahp.values import HeadMask
from cahp.words import span


def frequency_figure(result: Stability, mask: HeadMask, *, dark: bool) -> Any:
    """How often each head was kept: layers by heads, with the heads kept now framed."""
    heads = result.frequency.shape[1]
    n = len(result.found)
    counts = np.rint(result.frequency * n).astype(int)
    ends = {times: result.share_ci95(times) for times in range(n + 1)}

    def interval_of(times: int) -> str:
        found = ends[times]
        return "" if found is None else f"<br>95 % interval {span(100 * found[0], 100 * found[1], 0)} %"

    return share_figure(
        result.frequency,
        # A frame around everything says nothing.
        framed=() if mask.is_full else [divmod(head, heads) for head in mask.flat],
        scale="resamples that keep it (%)",
        said="kept in %{z:.0f} % of the resamples%{customdata}",
        told=[[f" ({times} of {n}){interval_of(times)}" for times in row] for row in counts.tolist()],
        width=450,
        dark=dark,
    )


def knee_figure(result: Stability, column: str, *, dark: bool) -> Any:
    """Clusters at the knee and heads kept, resample by resample."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    kept = result.keep.sum(axis=(1, 2))
    figure = go.Figure()
    lines: tuple[tuple[str, Sequence[int], str, str], ...] = (
        ("heads kept", kept.tolist(), "square-open", colours.text),
        ("clusters at the knee", result.knees.tolist(), "circle", colours.accent),
    )
    for name, values, symbol, colour in lines:
        figure.add_trace(
            go.Scatter(
                x=[str(value) for value in result.values],
                y=[value or None for value in values],
                mode="lines+markers" if result.axis == "degree" else "markers",
                name=name,
                marker={"symbol": symbol, "size": 10, "color": colour, "line": {"width": 1.5}},
                line={"color": colour, "width": 1},
                hovertemplate=f"%{{x}}<br>{name}: %{{y}}<extra></extra>",
            )
        )
    figure.update_layout(
        xaxis={"title": {"text": column}, "type": "category"},
        yaxis={"title": {"text": "heads"}, "rangemode": "tozero"},
        height=330,
        margin={"l": 50, "r": 10, "t": 34, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure


def overlap_figure(result: Stability, *, dark: bool) -> Any:
    """The overlap of every pair of resamples, against chance."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    # Spread evenly upwards, so that equal overlaps do not hide each other; the height means nothing.
    height = np.argsort(np.argsort(result.overlaps, kind="stable")) * 0.618 % 1
    figure = go.Figure(
        go.Scatter(
            x=result.overlaps,
            y=height,
            mode="markers",
            marker={"size": 8, "color": colours.accent, "opacity": 0.7},
            hovertemplate="two resamples share %{x:.0%}<extra></extra>",
        )
    )
    for value, name, dash in ((result.chance, "chance", "dash"), (result.overlap, "mean", "solid")):
        figure.add_vline(
            x=value,
            line={"color": colours.text, "width": 1.5, "dash": dash},
            annotation={"text": f"{name} {value:.2f}", "font": {"color": colours.text}, "yanchor": "bottom", "y": 1},
        )
    figure.update_layout(
        xaxis={"title": {"text": "overlap of two resamples (Jaccard index, 0..1)"}, "range": [-0.02, 1.04]},
        yaxis={"visible": False, "range": [-0.1, 1.1]},
        height=190,
        margin={"l": 20, "r": 10, "t": 30, "b": 46},
        showlegend=False,
    )
    return figure
