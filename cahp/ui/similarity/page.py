"""Similar heads: on a person's own text, one head over all texts, and all heads at a glance."""

from __future__ import annotations

import streamlit as st

from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen, on_text, over_texts

#: By the name of a view in links: its label, the function that draws it, and its description.
_VIEWS = {
    "text": (
        "On a text",
        on_text.draw,
        "Give the model a text and see which heads attend alike on it, and whether the kept heads cover all groups.",
    ),
    "head": (
        "One head",
        over_texts.draw_head,
        "This view shows the targets of one head, over the evaluation texts.",
    ),
    "all": (
        "All heads at a glance",
        over_texts.draw_all,
        "This view shows the mean attention map of each head, over the evaluation texts.",
    ),
}


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which heads attend alike?")
    linked = chosen.linked("view")
    if linked in _VIEWS:
        st.session_state[chosen.VIEW] = linked
    elif st.session_state.get(chosen.VIEW) not in _VIEWS:
        st.session_state[chosen.VIEW] = "text"
    name = st.segmented_control(
        "Look at",
        list(_VIEWS),
        required=True,
        format_func=lambda name: _VIEWS[name][0],
        key=chosen.VIEW,
        persist_state="session",
        label_visibility="collapsed",
    )
    chosen.write("view", str(name))
    _, draw_view, about = _VIEWS[str(name)]
    st.markdown(f"A **head** is a part of a layer that decides which words attend to which. {about}")
    draw_view(explorer)
