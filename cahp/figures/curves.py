"""Curves over numbers of heads or clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.figures import palette
from cahp.head_statistics import Clustering
from cahp.studies.budget_sweep import Row
from cahp.values import Floats, Ints


def silhouette_figure(clustering: Clustering, *, dark: bool) -> Any:
    """How well the heads fall into k clusters, the knee marked."""
    return silhouette(clustering.ks, clustering.mss, clustering.knee or None, dark=dark)


def silhouette(ks: Ints, mss: Floats, knee: int | None, *, dark: bool) -> Any:
    """The mean simplified silhouette ``mss (K,)`` over the numbers of clusters ``ks (K,)``."""
    figure = _curve(ks, mss, "clusters k", "mean simplified silhouette", dark=dark)
    if knee is not None:
        figure.add_vline(x=knee, line={"dash": "dash", "color": palette.ink(dark=dark).text, "width": 1})
    return figure


def accuracy_by_budget(rows: Sequence[Row], *, dark: bool) -> Any:
    """Right answers with their 95 % intervals at every budget that was measured; nothing is made up between them."""
    measured = [(row.budget, row.outcomes["accuracy"]) for row in rows if row.outcomes is not None]
    return _curve(
        np.array([budget for budget, _ in measured]),
        np.array([100 * accuracy.value for _, accuracy in measured]),
        "heads kept",
        "accuracy in %",
        dark=dark,
        ends=100 * np.array([(accuracy.low, accuracy.high) for _, accuracy in measured]),
        said=[f"{budget} heads: accuracy {accuracy}" for budget, accuracy in measured],
    )


def latency_by_budget(rows: Sequence[Row], *, dark: bool) -> Any:
    """Time of the really smaller model against the full one, with 95 % intervals, at every budget that was timed."""
    timed = [(row.budget, row.speed) for row in rows if row.speed is not None]
    figure = _curve(
        np.array([budget for budget, _ in timed]),
        np.array([speed.ratio.value for _, speed in timed]),
        "heads kept",
        "time per batch, pruned / full",
        dark=dark,
        ends=np.array([(speed.ratio.low, speed.ratio.high) for _, speed in timed]),
        said=[
            f"{budget} heads: {speed.ratio.text if speed.ratio.excludes(1) else 'no measurable change'} "
            f"{speed.ratio.interval}, n = {speed.ratio.n} rounds, {speed.full_ms:.1f} ms -> {speed.pruned_ms:.1f} ms"
            f"{', the machine was busy' if speed.busy else ''}"
            for budget, speed in timed
        ],
    )
    figure.add_hline(y=1, line={"dash": "dash", "color": palette.ink(dark=dark).text, "width": 1})
    return figure


def _curve(
    xs: Ints,
    ys: Floats,
    x_title: str,
    y_title: str,
    *,
    dark: bool,
    ends: Floats | None = None,
    said: Sequence[str] | None = None,
) -> Any:
    """A curve; ``ends (n, 2)`` are the intervals of its points, ``said`` what they say when pointed at."""
    import plotly.graph_objects as go

    accent = palette.ink(dark=dark).accent
    bars: dict[str, Any] = {}
    if ends is not None:
        bars = {"array": ends[:, 1] - ys, "arrayminus": ys - ends[:, 0], "thickness": 1.2, "width": 3, "color": accent}
    figure = go.Figure(
        go.Scatter(
            x=xs,
            y=ys,
            mode="lines+markers",
            line={"color": accent},
            marker={"size": 4},
            error_y=bars or None,
            hovertext=said,
            hoverinfo=None if said is None else "text",
        )
    )
    figure.update_layout(
        xaxis={"title": {"text": x_title}},
        yaxis={"title": {"text": y_title}},
        height=260,
        margin={"l": 60, "r": 10, "t": 10, "b": 50},
        showlegend=False,
    )
    return figure
