"""Where the heads lie: the plane in which they are clustered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.figures import palette
from cahp.figures.head_grid import places
from cahp.figures.space import space_figure
from cahp.studies.head_clusters import HeadClusters
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.ui.session.explorer import Explorer


def draw(explorer: Explorer) -> None:
    """Draw all heads in the plane, coloured by cluster."""
    clusters = explorer.clusters
    assert clusters is not None
    labels, mask, settings, dark = explorer.board.labels, explorer.mask, explorer.settings, display.is_dark()
    asked = explorer.selected
    lit = int(labels[asked]) if asked is not None and asked < len(labels) else None
    display.show(
        cache_with(
            clusters,
            ("space", mask.sha256, labels.tobytes(), settings.projection, lit, dark),
            lambda: space_figure(clusters.embedding, clusters.salience, labels, mask, settings, lit=lit, dark=dark),
        ),
        title=f"{mask.count} kept heads among {len(np.unique(labels))} clusters",
        help="Each point is a head. Heads that separate the classes in a similar way lie close together. Colour and "
        "letter: cluster. Size: salience. Solid: kept; hollow: pruned; ring: the most salient head of its cluster. "
        "Crossed: a cluster that shares its colour with a larger one. Framed: the cluster of the head clicked last. "
        "Distances in this plane are clustered"
        + (", except that here clustering uses all features." if explorer.settings.projection == "none" else "."),
        formula=r"BD=\frac{(\mu_a-\mu_b)^2}{4(v_a+v_b)}+\frac12\ln\frac{v_a+v_b}{2\sqrt{v_av_b}},\quad JM=2(1-e^{-BD})",
        name="space",
        data=lambda: _table(explorer, clusters),
        on_pick=lambda head: setattr(explorer, "selected", head),
    )


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
