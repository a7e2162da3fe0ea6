"""The page My text: heads compared on a person's own text; below, in tabs, details of it and heads over many texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import streamlit as st

from cahp import features
from cahp.ui.frame.page import link
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen, on_text

#: The tabs about the text: their labels by their names in links. Features bring those about many texts.
_ON_TEXT: Mapping[str, tuple[str, Callable[[on_text.Compared], None]]] = {
    "text": ("Most alike", on_text.draw_nearest),
    "communities": ("All communities", on_text.draw_communities),
    "distances": ("All distances", on_text.draw_distances),
}


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    unit = explorer.card.unit
    over_texts = {panel.name: panel for panel in features.panels("Similarity")}
    st.title(f"Which {unit}s attend alike on your text?")
    compared = on_text.compare(explorer)
    head = chosen.choose_head(explorer.mask, lambda: _start_head(explorer, compared))
    drawn = None
    if compared is not None:
        drawn = on_text.draw(explorer, compared, head)
    linked = chosen.linked("view")
    labels = {name: label for name, (label, _) in _ON_TEXT.items()}
    labels |= {name: panel.label for name, panel in over_texts.items()}
    if linked in labels:
        st.session_state[chosen.VIEW] = linked
    elif st.session_state.get(chosen.VIEW) not in labels:
        st.session_state[chosen.VIEW] = "text"
    if drawn is None:
        # Without a text, or before its heads are compared, there is nothing to show about it.
        if st.session_state[chosen.VIEW] in _ON_TEXT:
            return
        labels = {name: labels[name] for name in over_texts}
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="similarity-more"):
        name = st.segmented_control(
            "More",
            list(labels),
            required=True,
            format_func=labels.__getitem__,
            key=chosen.VIEW,
            persist_state="session",
            label_visibility="collapsed",
        )
        with st.container(width=260):
            chosen.box(explorer.mask, unit)
    chosen.write("view", str(name))
    if name in over_texts:
        over_texts[str(name)].draw(explorer, head)
    elif drawn is not None:
        _ON_TEXT[str(name)][1](drawn)
    with st.container(horizontal=True, gap="medium"):
        link("budget", f"Keep or remove {unit}s on the board →")
        link("budget", f"{explorer.card.words.own_text}, with fewer {unit}s →", panel="text")


def _start_head(explorer: Explorer, compared: on_text.ComparedHeads | None) -> int:
    """Return the head that the page begins with: the clicked one, one of the most alike, or the most salient one."""
    if explorer.selected is not None:
        return explorer.selected
    if compared is not None:
        return compared.start_head
    if explorer.clusters is None:
        return 0
    return int(np.argmax(explorer.clusters.salience))
