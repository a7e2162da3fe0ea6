"""Curves over numbers of heads or clusters."""

from __future__ import annotations

from typing import Any

import numpy as np

from cahp.figures import palette
from cahp.studies.budget_sweep import BudgetTable
from cahp.values import Clustering, Floats, Ints


def silhouette_figure(clustering: Clustering, *, dark: bool) -> Any:
    """How well the heads fall into k clusters, the knee marked."""
    return _line(
        clustering.ks, clustering.mss, "clusters k", "mean simplified silhouette", mark=clustering.knee, dark=dark
    )


def accuracy_by_budget(table: BudgetTable, *, dark: bool) -> Any:
    """Right answers at every budget that was measured, with nothing between them made up."""
    measured = [(row.budget, row.quality.accuracy) for row in table.rows() if row.quality is not None]
    budgets, accuracies = np.array(measured).T
    return _line(budgets, 100 * accuracies, "heads kept", "right answers in %", mark=None, dark=dark)


def _line(xs: Ints | Floats, ys: Floats, x_title: str, y_title: str, *, mark: int | None, dark: bool) -> Any:
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    figure = go.Figure(go.Scatter(x=xs, y=ys, mode="lines+markers", line={"color": colours.accent}, marker={"size": 4}))
    if mark is not None:
        figure.add_vline(x=mark, line={"dash": "dash", "color": colours.text, "width": 1})
    figure.update_layout(
        xaxis={"title": {"text": x_title}},
        yaxis={"title": {"text": y_title}},
        height=260,
        margin={"l": 60, "r": 10, "t": 10, "b": 50},
        showlegend=False,
    )
    return figure
