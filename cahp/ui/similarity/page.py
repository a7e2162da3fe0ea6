"""Similar heads: on a person's own text, one head over all texts, and all heads at a glance."""

from __future__ import annotations

import streamlit as st

from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen, on_text, over_texts

#: The function that draws each view, and its description.
_VIEWS = {
    "text": (
        on_text.draw,
        "Give the model a text and see which heads attend alike on it, and whether the kept heads cover all groups.",
    ),
    "head": (
        over_texts.draw_head,
        "This is one of them over the evaluation texts: what it attends to, and what removing it costs.",
    ),
    "all": (over_texts.draw_all, "These are all of them, each with its mean attention map over the evaluation texts."),
}


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which heads attend alike?")
    draw_view, about = _VIEWS[chosen.choose_view()]
    st.markdown(f"A **head** is a part of a layer that decides which words attend to which. {about}")
    draw_view(explorer)
