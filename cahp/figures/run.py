"""Figures of a run: curves over numbers of heads or clusters, and the heads in the plane of the projection."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cahp.board.colourings import HeadMarks
from cahp.figures import marks
from cahp.figures.head_grid import head_traces
from cahp.figures.marks import LEGEND, draw, error_bars, legend, points
from cahp.run.settings import Settings
from cahp.values import Estimate, Floats, HeadMask, Ints, JsonObject


def silhouette(ks: Ints, mss: Floats, knee: int | None, *, null: Floats | None = None, dark: bool) -> Any:
    """Draw the mean simplified silhouette ``mss (K,)`` over the numbers of clusters ``ks (K,)``, the knee marked.

    ``null (2, K)`` is the band of unstructured data (None: it is not drawn).
    """
    band = []
    if null is not None:
        shade = {"type": "scatter", "x": ks, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        fill = {"fill": "tonexty", "fillcolor": marks.ink(dark=dark).faint}
        band = [{**shade, "y": null[0]}, {**shade, "y": null[1], **fill}]
    figure = _curve({"x": ks, "y": mss}, "clusters k", "mean simplified silhouette", under=band, dark=dark)
    if knee is not None:
        figure.add_vline(x=knee, line={"dash": "dash", "color": marks.ink(dark=dark).text, "width": 1})
    return figure


def by_budget(measured: Mapping[int, Estimate], label: str, *, level: float | None = None, dark: bool) -> Any:
    """Draw an outcome, or the relative time, with its 95 % interval at every measured budget; a line at ``level``."""
    scale = 1
    unit = next(iter(measured.values())).unit
    words = {"share": " in %", "number": "", "ratio": ""}.get(unit, f" in {unit}")
    if unit == "share":
        scale = 100
    ends = [(scale * estimate.low, scale * estimate.high) for estimate in measured.values()]
    values = scale * np.array([estimate.value for estimate in measured.values()])
    trace = {
        "x": list(measured),
        "y": values,
        "error_y": error_bars(values, ends, marks.ink(dark=dark).accent, thickness=1.2, width=3),
        "hovertext": [f"{budget} heads: {label} {estimate}" for budget, estimate in measured.items()],
        "hoverinfo": "text",
    }
    figure = _curve(trace, "heads kept", f"{label}{words}", dark=dark)
    if level is not None:
        figure.add_hline(y=level, line={"dash": "dash", "color": marks.ink(dark=dark).text, "width": 1})
    return figure


def _curve(trace: JsonObject, x: str, y: str, *, under: Sequence[JsonObject] = (), dark: bool) -> Any:
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "line": {"color": marks.ink(dark=dark).accent},
        "marker": {"size": 4},
        **trace,
    }
    # A long title has two lines: one would be higher than the plot.
    return draw(
        [*under, line], x={"title": x}, y={"title": "<br>".join(textwrap.wrap(y, 26))}, height=260, left=60, bottom=50
    )


_AXES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "PCA"}


def space_figure(
    embedding: Floats,
    salience: Floats,
    groups: HeadMarks,
    mask: HeadMask,
    settings: Settings,
    *,
    unit: str,
    dark: bool,
) -> Any:
    """Draw the heads in the plane of the projection: kept ones solid, with their cluster's colour and name.

    ``embedding (N, 2)``, ``salience (L, H)`` in 0..1 (the size of a point) and the ``groups`` of the clusters belong to
    the run of ``settings``. A point is a ``unit``.
    """
    ink = marks.ink(dark=dark)
    names = groups.names
    _, labels = np.unique(names, return_inverse=True)
    x, y = embedding.T
    salience = salience.ravel()
    size = 9 + 15 * np.sqrt(salience)
    written = names
    if len(names) > 160:
        written = []
    traces = head_traces(
        mask,
        groups,
        embedding,
        "circle",
        size,
        unit=unit,
        dark=dark,
        names=written,
        # Points that overlap stay apart.
        outline=1,
        textposition="top center",
        textfont={"size": 10, "color": ink.text},
        showlegend=False,
    )
    for trace in traces:
        trace["hovertext"] = [
            f"{words}<br>salience {salience[head]:.2f}"
            for words, head in zip(trace["hovertext"], trace["customdata"], strict=True)
        ]
    order = np.argsort(-salience, kind="stable")
    best = order[np.unique(labels[order], return_index=True)[1]]
    name = "most salient of its cluster"
    rings = points(x[best], y[best], "circle-open", ink.text, size=size[best] + 7, outline=1.5, name=name)
    traces += [*legend(ink), rings]
    # The coordinates have no unit.
    axis = {"showticklabels": False, "zeroline": False}
    return draw(traces, x={**axis, "title": _AXES[settings.projection]}, y=axis, height=460, top=30, legend=LEGEND)
