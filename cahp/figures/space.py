"""The heads in the plane in which they are clustered."""

from __future__ import annotations

from typing import Any

import numpy as np

from cahp.board.colourings import HeadMarks
from cahp.figures import palette
from cahp.figures.head_grid import head_name
from cahp.figures.marks import LEGEND, by_state, clickable, draw, legend, points, symbols
from cahp.run.settings import Settings
from cahp.values import Floats, HeadMask

_AXES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "PCA"}


def space_figure(
    embedding: Floats,
    salience: Floats,
    marks: HeadMarks,
    mask: HeadMask,
    settings: Settings,
    *,
    lit: int | None = None,
    unit: str = "head",
    dark: bool,
) -> Any:
    """Draw the heads in the plane of the projection: kept ones solid, with their cluster's colour and name.

    ``embedding (N, 2)``, ``salience (L, H)`` in 0..1 (the size of a point) and the ``marks`` of the clusters belong to
    the run of ``settings``. A point is a ``unit``. Those of the cluster of the head ``lit`` are framed.
    """
    ink = palette.ink(dark=dark)
    names = marks.names
    _, labels = np.unique(names, return_inverse=True)
    x, y = embedding.T
    salience = salience.ravel()
    size = 9 + 15 * np.sqrt(salience)
    mode = "markers+text" if len(names) <= 160 else "markers"
    traces = []
    for shown, fills, state in by_state(mask, marks.colours, ink):
        hover = [
            f"{head_name(head, mask.heads, unit)}<br>{state}, cluster {names[head]}<br>salience {salience[head]:.2f}"
            for head in shown.tolist()
        ]
        traces.append(
            points(
                x[shown],
                y[shown],
                symbols("circle", marks, shown),
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
