"""Figures of a run: curves over numbers of heads or clusters, and the heads in the plane of the projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cahp.board.budget_sweep import Row, Speed
from cahp.board.colourings import HeadMarks
from cahp.figures import marks
from cahp.figures.head_grid import head_name
from cahp.figures.marks import LEGEND, by_state, clickable, draw, error_bars, fold, legend, points, symbols
from cahp.outcomes import Outcome
from cahp.run.settings import Settings
from cahp.values import Estimate, Floats, HeadMask, Ints


def silhouette(ks: Ints, mss: Floats, knee: int | None, *, null: Floats | None = None, dark: bool) -> Any:
    """Draw the mean simplified silhouette ``mss (K,)`` over the numbers of clusters ``ks (K,)``, the knee marked.

    ``null (2, K)`` is the band of unstructured data (None: it is not drawn).
    """
    band: list[dict[str, Any]] = []
    if null is not None:
        shade = {"type": "scatter", "x": ks, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        fill = {"fill": "tonexty", "fillcolor": marks.ink(dark=dark).faint}
        band = [{**shade, "y": null[0]}, {**shade, "y": null[1], **fill}]
    figure = _curve({"x": ks, "y": mss}, "clusters k", "mean simplified silhouette", under=band, dark=dark)
    if knee is not None:
        figure.add_vline(x=knee, line={"dash": "dash", "color": marks.ink(dark=dark).text, "width": 1})
    return figure


def outcome_by_budget(measured: Mapping[int, Estimate], head: Outcome, *, dark: bool) -> Any:
    """Draw an outcome with its 95 % interval at every measured budget."""
    hover = [f"{budget} heads: {head.label} {estimate}" for budget, estimate in measured.items()]
    scale = 100 if head.unit == "share" else 1
    unit = {"share": " in %", "number": ""}.get(head.unit, f" in {head.unit}")
    trace = _by_budget(list(measured.items()), hover, scale=scale, dark=dark)
    return _curve(trace, "heads kept", f"{head.label}{unit}", dark=dark)


def latency_by_budget(rows: Sequence[Row], *, dark: bool) -> Any:
    """Draw the time of the cut model relative to the full one, with 95 % intervals, at every timed budget."""
    ratios = []
    hover = []
    for row in rows:
        if row.speed is not None:
            ratios.append((row.budget, row.speed.ratio))
            hover.append(f"{row.budget} heads: {_describe_speed(row.speed)}")
    trace = _by_budget(ratios, hover, scale=1, dark=dark)
    figure = _curve(trace, "heads kept", "time per batch, pruned / full", dark=dark)
    return figure.add_hline(y=1, line={"dash": "dash", "color": marks.ink(dark=dark).text, "width": 1})


def _describe_speed(speed: Speed) -> str:
    change = speed.ratio.text if speed.ratio.excludes(1) else "no measurable change"
    text = (
        f"{change} ({speed.ratio.span}), n = {speed.ratio.n} rounds, {speed.full_ms:.1f} ms -> {speed.pruned_ms:.1f} ms"
    )
    if speed.busy:
        text += ", the machine was busy"
    return text


def _by_budget(
    measured: Sequence[tuple[int, Estimate]], hover: Sequence[str], *, scale: float, dark: bool
) -> dict[str, Any]:
    """Return estimates by budget with their intervals, multiplied by ``scale``, as parts of a trace."""
    values = scale * np.array([estimate.value for _, estimate in measured])
    ends = [(scale * estimate.low, scale * estimate.high) for _, estimate in measured]
    bars = error_bars(values, ends, marks.ink(dark=dark).accent, thickness=1.2, width=3)
    budgets = [budget for budget, _ in measured]
    return {"x": budgets, "y": values, "error_y": bars, "hovertext": hover, "hoverinfo": "text"}


def _curve(trace: dict[str, Any], x: str, y: str, *, under: Sequence[dict[str, Any]] = (), dark: bool) -> Any:
    look = {"mode": "lines+markers", "line": {"color": marks.ink(dark=dark).accent}, "marker": {"size": 4}}
    # A long title has two lines: one would be higher than the plot.
    traces = [*under, {"type": "scatter", **look, **trace}]
    return draw(traces, x=x, y=fold(y, limit=26), height=260, left=60, bottom=50)


_AXES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "PCA"}


def space_figure(
    embedding: Floats,
    salience: Floats,
    groups: HeadMarks,
    mask: HeadMask,
    settings: Settings,
    *,
    lit: int | None = None,
    unit: str = "head",
    dark: bool,
) -> Any:
    """Draw the heads in the plane of the projection: kept ones solid, with their cluster's colour and name.

    ``embedding (N, 2)``, ``salience (L, H)`` in 0..1 (the size of a point) and the ``groups`` of the clusters belong to
    the run of ``settings``. A point is a ``unit``. Those of the cluster of the head ``lit`` are framed.
    """
    ink = marks.ink(dark=dark)
    names = groups.names
    _, labels = np.unique(names, return_inverse=True)
    x, y = embedding.T
    salience = salience.ravel()
    size = 9 + 15 * np.sqrt(salience)
    mode = "markers+text" if len(names) <= 160 else "markers"
    traces = []
    for shown, fills, state in by_state(mask, groups.colours, ink):
        hover = [
            f"{head_name(head, mask.heads, unit)}<br>{state}, cluster {names[head]}<br>salience {salience[head]:.2f}"
            for head in shown.tolist()
        ]
        traces.append(
            points(
                x[shown],
                y[shown],
                symbols("circle", groups, shown),
                fills,
                size=size[shown],
                hover=hover,
                mode=mode,
                text=[names[head] for head in shown],
                textposition="top center",
                textfont={"size": 10, "color": ink.text},
                name=state,
                showlegend=False,
                **clickable(shown),
            )
        )
    if lit is not None:
        alike = np.flatnonzero(labels == labels[lit])
        name = f"cluster {names[lit]}"
        traces.append(
            points(x[alike], y[alike], "square-open", ink.accent, size=size[alike] + 11, outline=2, name=name)
        )
    order = np.argsort(-salience, kind="stable")
    best = order[np.unique(labels[order], return_index=True)[1]]
    name = "most salient of its cluster"
    rings = points(x[best], y[best], "circle-open", ink.text, size=size[best] + 7, outline=1.5, name=name)
    traces += [*legend("circle", ink), rings]
    axes = [{"title": f"{_AXES[settings.projection]} {number} (no unit)", "zeroline": False} for number in (1, 2)]
    return draw(traces, x=axes[0], y=axes[1], height=460, top=30, legend=LEGEND)
