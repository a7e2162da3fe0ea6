"""What is alike: the heads on a person's own text, alone or beside up to three others; one head; all at a glance.

Texts and what is computed from them live in the browser session and nowhere else: no file, no shared cache, no
address, no log.
"""

from __future__ import annotations

import streamlit as st

from cahp.ui.parts.inputs import has_words
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen, differences, glance, head_view, one_head, overview, texts
from cahp.ui.similarity.comparing import Seen, compared


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which heads do the same?")
    draw_view, said = _VIEWS[chosen.view()]
    st.markdown(f"A **head** is a part of a layer that decides which words look at which. {said}")
    draw_view(explorer)


def _on_text(explorer: Explorer) -> None:
    """The heads compared on texts that a person types."""
    inputs = texts.draw_boxes(explorer)
    if not all(has_words(text) for text in inputs):
        st.info("Type a text, or take one of the examples; the heads are compared as soon as every box has one.")
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
    """Say so where a text was too long."""
    read, cut = len(seen.attention.tokens), seen.attention.cut
    if cut:
        st.warning(
            f"This text is longer than the model reads here: its first {read:,} tokens are compared, {cut:,} more "
            "were cut off."
        )


#: What draws each view, and what it is about.
_VIEWS = {
    "text": (
        _on_text,
        "Give the model a text and see which of its heads attend alike on it, and whether the heads that pruning keeps "
        "stand for all of them.",
    ),
    "head": (head_view.draw, "Here is one of them over the evaluation texts: what it looks at, and what it is worth."),
    "all": (glance.draw, "Here are all of them, each by its mean attention over the evaluation texts."),
}
