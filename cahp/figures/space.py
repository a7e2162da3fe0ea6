"""Where the heads lie: the plane in which they are clustered."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.figures import palette
from cahp.figures.head_grid import head_name
from cahp.figures.marks import UNDIMMED, legend, symbols
from cahp.run.settings import Settings
from cahp.values import Floats, HeadMask, Ints

_AXES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "PCA"}


def space_figure(
    embedding: Floats,
    salience: Floats,
    labels: Ints,
    mask: HeadMask,
    settings: Settings,
    *,
    lit: int | None = None,
    dark: bool,
) -> Any:
    """The heads in the plane of the projection: kept ones solid, coloured and lettered by cluster, sized by salience.

    ``embedding (N, 2)``, ``salience (L, H)`` in 0..1 and ``labels (N,)`` are of the run that ``settings`` ask for. The
    heads of the cluster ``lit`` are framed.
    """
    import plotly.graph_objects as go

    colours, ink = palette.hues(labels), palette.ink(dark=dark)
    x, y = embedding.T
    salience = salience.ravel()
    kept = mask.keep.ravel()
    size = 9 + 15 * np.sqrt(salience)
    # Plain dictionaries, given to Plotly all together: of objects that are added one by one it checks each part thrice,
    # which takes more than twice as long, and this is drawn anew for every budget.
    traces: list[dict[str, Any]] = []
    for here, symbol, name in ((kept, "circle", "kept"), (~kept, "circle-open", "pruned")):
        shown = np.flatnonzero(here)
        traces.append(
            {
                "type": "scatter",
                "x": x[shown],
                "y": y[shown],
                "mode": "markers+text" if len(labels) <= 160 else "markers",
                "text": [palette.letters(int(labels[head])) for head in shown],
                "textposition": "top center",
                "textfont": {"size": 10, "color": ink.text},
                "marker": {
                    "symbol": symbols(symbol, labels, shown),
                    "size": size[shown],
                    "color": [colours[labels[head]] for head in shown],
                    "line": {"width": 2 if symbol == "circle-open" else 0},
                    "opacity": 1,
                },
                "customdata": shown,
                "hovertext": [
                    f"{head_name(int(head), mask.heads)}<br>{name}, cluster "
                    f"{palette.letters(int(labels[head]))}<br>salience {salience[head]:.2f}"
                    for head in shown
                ],
                "hoverinfo": "text",
                "name": name,
                "showlegend": False,
                **UNDIMMED,
            }
        )
    if lit is not None:
        alike = np.flatnonzero(labels == lit)
        traces.append(
            {
                "type": "scatter",
                "x": x[alike],
                "y": y[alike],
                "mode": "markers",
                "marker": {
                    "symbol": "square-open",
                    "size": size[alike] + 11,
                    "color": ink.accent,
                    "line": {"width": 2},
                },
                "hoverinfo": "skip",
                "name": f"cluster {palette.letters(lit)}",
            }
        )
    traces += legend("circle", ink)
    best = _most_salient(labels, salience)
    traces.append(
        {
            "type": "scatter",
            "x": x[best],
            "y": y[best],
            "mode": "markers",
            "marker": {"symbol": "circle-open", "size": size[best] + 7, "color": ink.text, "line": {"width": 1.5}},
            "hoverinfo": "skip",
            "name": "most salient of its cluster",
        }
    )
    axis = _AXES[settings.projection]
    return go.Figure(
        traces,
        {
            "height": 460,
            "margin": {"l": 50, "r": 10, "t": 30, "b": 46},
            "xaxis": {"title": {"text": f"{axis} 1 (no unit)"}, "zeroline": False},
            "yaxis": {"title": {"text": f"{axis} 2 (no unit)"}, "zeroline": False},
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
        },
    )


def _most_salient(labels: Ints, salience: Floats) -> NDArray[np.int64]:
    order = np.argsort(-salience, kind="stable")
    _, first = np.unique(labels[order], return_index=True)
    return np.asarray(order[first])
