"""Where the heads lie: the plane in which they are clustered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.studies.head_clusters import HeadClusters
from cahp.ui.parts import chart, palette
from cahp.ui.parts.head_grid import head_name, places
from cahp.ui.session.explorer import Explorer


def draw(explorer: Explorer) -> None:
    """All heads in the plane, coloured by cluster."""
    clusters = explorer.clusters
    assert clusters is not None
    labels, mask = explorer.board.labels, explorer.mask
    chart.show(
        _figure(explorer, clusters),
        title=f"{mask.count} survivors among {len(np.unique(labels))} clusters of heads",
        help="Each point is a head, placed so that heads which separate the classes in the same way lie close "
        "together. Colour and letter: its cluster. Size: its salience. Solid: kept; hollow: pruned; a ring: the most "
        "salient of its cluster. Distances in this plane are what is clustered"
        + (", except that here clustering uses all features." if explorer.settings.projection == "none" else "."),
        formula=r"BD=\frac{(\mu_a-\mu_b)^2}{4(v_a+v_b)}+\frac12\ln\frac{v_a+v_b}{2\sqrt{v_av_b}},\quad JM=2(1-e^{-BD})",
        name="space",
        data=_table(explorer, clusters),
        on_pick=lambda head: setattr(explorer, "selected", head),
    )


def _figure(explorer: Explorer, clusters: HeadClusters) -> Any:
    """The heads in the plane of the projection."""
    import plotly.graph_objects as go

    labels, mask = explorer.board.labels, explorer.mask
    colours, ink = palette.hues(labels), palette.ink(dark=palette.dark())
    x, y = clusters.embedding.T
    salience = clusters.salience.ravel()
    kept = mask.keep.ravel()
    size = 9 + 15 * np.sqrt(salience)
    figure = go.Figure()
    for here, symbol, name in ((kept, "circle", "kept"), (~kept, "circle-open", "pruned")):
        shown = np.flatnonzero(here)
        figure.add_trace(
            go.Scatter(
                x=x[shown],
                y=y[shown],
                mode="markers+text" if len(labels) <= 160 else "markers",
                text=[palette.letters(int(labels[head])) for head in shown],
                textposition="top center",
                textfont={"size": 10, "color": ink.text},
                marker={
                    "symbol": symbol,
                    "size": size[shown],
                    "color": [colours[labels[head]] for head in shown],
                    "line": {"width": 2 if symbol == "circle-open" else 0},
                    "opacity": 1,
                },
                customdata=shown,
                hovertext=[
                    f"{head_name(int(head), clusters.heads)}<br>{name}, cluster "
                    f"{palette.letters(int(labels[head]))}<br>salience {salience[head]:.2f}"
                    for head in shown
                ],
                hoverinfo="text",
                name=name,
                selected={"marker": {"opacity": 1}},
                unselected={"marker": {"opacity": 1}},
            )
        )
    best = _most_salient(labels, salience)
    figure.add_trace(
        go.Scatter(
            x=x[best],
            y=y[best],
            mode="markers",
            marker={"symbol": "circle-open", "size": size[best] + 7, "color": ink.text, "line": {"width": 1.5}},
            hoverinfo="skip",
            name="most salient of its cluster",
        )
    )
    names = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "PCA"}
    axis = names[explorer.settings.projection]
    figure.update_layout(
        height=460,
        margin={"l": 50, "r": 10, "t": 30, "b": 46},
        xaxis={"title": {"text": f"{axis} 1 (no unit)"}, "zeroline": False},
        yaxis={"title": {"text": f"{axis} 2 (no unit)"}, "zeroline": False},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
    )
    return figure


def _most_salient(labels: np.ndarray[Any, Any], salience: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    order = np.argsort(-salience, kind="stable")
    _, first = np.unique(labels[order], return_index=True)
    return np.asarray(order[first])


def _table(explorer: Explorer, clusters: HeadClusters) -> dict[str, Sequence[Any]]:
    """The numbers of the figure."""
    return {
        **places(clusters.layers, clusters.heads),
        "x": clusters.embedding[:, 0].tolist(),
        "y": clusters.embedding[:, 1].tolist(),
        "cluster": [palette.letters(int(label)) for label in explorer.board.labels],
        "salience": clusters.salience.ravel().tolist(),
        "kept": [int(kept) for kept in explorer.mask.keep.ravel()],
    }
