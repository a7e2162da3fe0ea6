"""What is alike: the heads compared on a person's own text, alone or beside up to three others.

Texts and what is computed from them live in the browser session and nowhere else: no file, no shared cache, no
address, no log.
"""

from __future__ import annotations

import streamlit as st

from cahp.ui.parts.input_box import has_words
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen, differences, one_head, overview, texts
from cahp.ui.similarity.comparing import Seen, compared


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which heads do the same?")
    st.markdown(
        "A **head** is a part of a layer that decides which words look at which. Give the model a text and see which "
        f"of its {explorer.card.layers * explorer.card.heads} heads attend alike on it, and whether the heads that "
        "pruning keeps stand for all of them."
    )
    inputs = texts.inputs(explorer)
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
    head = chosen.settle(shown, explorer.mask)
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
