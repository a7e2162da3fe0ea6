"""Similar heads: on a person's own texts (up to four), one head over all texts, and all heads at a glance.

Texts and their results live in the browser session only: in no file, shared cache, address or log.
"""

from __future__ import annotations

import streamlit as st

from cahp.ui.parts.inputs import has_words
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen, differences, glance, head_view, one_head, overview, texts
from cahp.ui.similarity.comparing import Seen, compared


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which heads attend alike?")
    draw_view, about = _VIEWS[chosen.view()]
    st.markdown(f"A **head** is a part of a layer that decides which words attend to which. {about}")
    draw_view(explorer)


def _on_text(explorer: Explorer) -> None:
    """Draw the heads compared on texts that a person types."""
    inputs = texts.draw_boxes(explorer)
    if not all(has_words(text) for text in inputs):
        st.info("Type a text, or insert an example. The heads are compared once every box has a text.")
        return
    seen = compared(explorer, inputs)
    if seen is None:
        return
    shown = seen[0]
    if len(seen) > 1:
        place = st.segmented_control(
            "Text on screen",
            range(len(seen)),
            default=0,
            required=True,
            format_func=lambda place: f"Text {place + 1}",
            key="similarity-shown",
            persist_state="session",
        )
        shown = seen[place or 0]
    _cut(shown)
    head = chosen.settle(explorer.mask, lambda: chosen.most_alike(shown))
    graph = overview.draw(explorer, shown, head)
    one_head.draw(shown, explorer.mask, head)
    overview.draw_matrix(shown, graph, explorer.mask)
    if len(seen) > 1:
        differences.draw(explorer, seen)


def _cut(seen: Seen) -> None:
    """Warn where a text was too long."""
    read, cut = len(seen.attention.tokens), seen.attention.cut
    if cut:
        st.warning(
            f"This text is too long for the model: its first {read:,} tokens are compared, {cut:,} more were truncated."
        )


#: The function that draws each view, and its description.
_VIEWS = {
    "text": (
        _on_text,
        "Give the model a text and see which heads attend alike on it, and whether the kept heads cover all groups.",
    ),
    "head": (
        head_view.draw,
        "This is one of them over the evaluation texts: what it attends to, and what removing it costs.",
    ),
    "all": (glance.draw, "These are all of them, each with its mean attention map over the evaluation texts."),
}
