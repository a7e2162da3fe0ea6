"""A box for a person's own text, or for the two of a pair, with examples to begin with."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from cahp.ui.parts.examples import examples
from cahp.values import Input

#: Characters that a box takes.
LONGEST = 100_000


def input_box(name: str, kind: Literal["single", "pairs"], *, label: str, place: int = 0) -> Input:
    """One text, or the two of a pair, as they stand in the box now; it begins with the example at ``place``.

    Session keys begin with ``name``; boxes of one name differ in ``place``.
    """
    ready = examples(kind)
    parts = ("first", "second") if kind == "pairs" else ("text",)
    keys = [f"{name}-{part}-{place}" for part in parts]
    for key, part in zip(keys, parts, strict=True):
        if key not in st.session_state:
            st.session_state[key] = ready[place][part]
    choice = f"{name}-{kind}-example-{place}"

    def take() -> None:
        # Whoever types in the box afterwards may take the same example once more.
        chosen = st.session_state[choice]
        st.session_state[choice] = None
        if chosen is not None:
            for key, part in zip(keys, parts, strict=True):
                st.session_state[key] = ready[chosen][part]

    typed = [
        st.text_area(
            label if len(parts) == 1 else f"{label}, {part} part",
            key=key,
            height=100 if len(parts) == 1 else 68,
            max_chars=LONGEST,
            placeholder="Type or paste a text",
            persist_state="session",
        )
        for key, part in zip(keys, parts, strict=True)
    ]
    st.selectbox(
        "Example",
        range(len(ready)),
        index=None,
        format_func=lambda index: ready[index]["name"],
        placeholder="Take an example",
        label_visibility="collapsed",
        key=choice,
        on_change=take,
    )
    texts = [text or "" for text in typed]
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def has_words(text: Input) -> bool:
    """Whether there is anything to read, in both parts of a pair."""
    return all(part.strip() for part in ([text] if isinstance(text, str) else text))
