"""How heads are chosen: the settings of the method."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.stages.clustering import DEGREES
from cahp.ui.budget import notes
from cahp.ui.parts.display import plain
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError

_PROJECTIONS = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "none (all features)"}
_SALIENCES = {"batch": "per batch (as published)", "example": "per example"}
_REPRESENTATIVES = {"salience": "its most salient head", "medoid": "its medoid"}


def draw(explorer: Explorer) -> None:
    """Draw the settings. Results with other settings are kept."""
    settings = explorer.settings

    def changed(name: str) -> None:
        try:
            explorer.change(**{name: st.session_state[f"method-{name}"]})
        except CahpError as error:
            notes.refuse(error)

    def dial(widget: Any, label: str, name: str, *args: Any, **options: Any) -> None:
        key = f"method-{name}"
        st.session_state[key] = getattr(settings, name)
        widget(label, *args, key=key, on_change=changed, args=(name,), **options)

    dial(
        st.slider,
        "Polynomial degree of the curve",
        "poly_degree",
        DEGREES.start,
        DEGREES.stop - 1,
        help="The only setting of the published method. A low degree puts the knee later and keeps more heads.",
    )
    dial(st.number_input, "Heads kept in every layer, at least", "min_per_layer", 0, explorer.card.heads)
    dial(st.selectbox, "Projection", "projection", list(_PROJECTIONS), format_func=_PROJECTIONS.__getitem__)
    dial(st.selectbox, "Salience", "salience", list(_SALIENCES), format_func=_SALIENCES.__getitem__)
    dial(
        st.selectbox,
        "A cluster keeps",
        "representative",
        list(_REPRESENTATIVES),
        format_func=_REPRESENTATIVES.__getitem__,
    )
    clusters = explorer.clusters
    if clusters is not None:
        rule = clusters.clustering.knee_rule
        st.caption(
            "The curve has no knee."
            if rule == "none"
            else f"The knee is at {clusters.clustering.knee} ({plain(rule)})."
        )
    if explorer.results.run is None:
        st.caption("A change needs a run on this machine; cached results are reused.")
