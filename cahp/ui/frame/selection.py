"""How heads are selected: the switch for even layers and what it costs, and where the published rule stops."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.figures.run import silhouette
from cahp.run.document import Evenness
from cahp.ui.parts import display
from cahp.ui.parts.display import note_refusal, plain
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.words import capital


def draw_setting(explorer: Explorer, widget: Any, label: str, name: str, *args: Any, place: str, **look: Any) -> None:
    """Draw a ``widget`` for the setting of this ``name`` in a ``place`` of a page."""
    key = f"{place}-{name}"

    def change() -> None:
        with note_refusal():
            explorer.change(**{name: st.session_state[key]})

    set_value(key, getattr(explorer.settings, name))
    widget(label, *args, key=key, on_change=change, **look)


def draw_evenness(explorer: Explorer, *, place: str, measured: Evenness | None = None) -> None:
    """Draw the switch in a ``place`` of a page; below it what it costs, where that was measured."""
    draw_setting(
        explorer,
        st.toggle,
        f"The same number of {explorer.card.unit}s in every layer",
        "even",
        place=place,
        help="A language model that is pruned evenly can be exported as a standard checkpoint.",
    )
    if measured is not None:
        st.caption(plain(capital(measured.finding)))


# The silhouette curve with the band of unstructured data -----------------------------------------------------


def draw_knee(explorer: Explorer, *, place: str) -> None:
    """Draw the curve, and where the run computed it the band of unstructured data with what follows from both."""
    if explorer.clusters is None:
        return
    curve = explorer.clusters.clustering
    null = explorer.results.null
    data = {"k": curve.ks.tolist(), "silhouette": curve.mss.tolist()}
    band = None
    if null is not None:
        band = null.band
        data |= {"lowest null": band[0].tolist(), "highest null": band[1].tolist()}
    title = "The published rule does not stop"
    if curve.knee:
        title = f"The published rule stops at {curve.knee} clusters"
    display.show(
        silhouette(curve.ks, curve.mss, curve.knee or None, null=band, dark=display.is_dark()),
        title=title,
        help="The line is the mean silhouette of k clusters of heads; it rises with k for any data. The dashed line "
        "marks the knee of the curve, smoothed by a polynomial: the published rule stops there. The grey band contains "
        "the curves of unstructured data. In these data a random rotation has mixed the features of the heads: means "
        "and covariances stay, clusters disappear. The test is of the mean over all numbers of clusters, so a curve "
        "may leave the band at some of them.",
        name=f"knee-{place}",
        data=data,
    )
    if null is not None:
        degree = explorer.settings.poly_degree
        stops = display.cache_with(null, degree, lambda: null.knee(degree))
        sentence = ""
        if stops is not None:
            sentence = f"{capital(stops.describe(curve.knee))}."
        st.markdown(f"{null.describe(curve.mss)} {sentence}")
