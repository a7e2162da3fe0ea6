"""The texts to compare on: boxes, examples, and pairs."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from cahp.ui.parts.examples import examples
from cahp.ui.session.explorer import Explorer
from cahp.values import Input

#: Texts that can be compared at once, and characters that a box takes.
_TEXTS = 4
_LONGEST = 100_000


def inputs(explorer: Explorer) -> list[Input]:
    """The boxes, and what is in them."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        number = st.segmented_control(
            "Texts to compare",
            range(1, _TEXTS + 1),
            default=1,
            required=True,
            key="similarity-texts",
            persist_state="session",
        )
        if "similarity-pairs" not in st.session_state:
            st.session_state["similarity-pairs"] = explorer.bench.calibration.second is not None
        pairs = st.toggle("Pairs of texts", key="similarity-pairs", persist_state="session")
    kind: Literal["single", "pairs"] = "pairs" if pairs else "single"
    columns = st.columns(number or 1)
    return [_box(column, kind, place) for place, column in enumerate(columns)]


def _box(column: Any, kind: Literal["single", "pairs"], place: int) -> Input:
    """One text, or the two of a pair."""
    ready = examples(kind)
    parts = ("first", "second") if kind == "pairs" else ("text",)
    keys = [f"similarity-{part}-{place}" for part in parts]
    for key, part in zip(keys, parts, strict=True):
        if key not in st.session_state:
            st.session_state[key] = ready[place][part]
    choice = f"similarity-{kind}-example-{place}"

    def take() -> None:
        # Whoever types in the box afterwards may take the same example once more.
        chosen = st.session_state[choice]
        st.session_state[choice] = None
        if chosen is not None:
            for key, part in zip(keys, parts, strict=True):
                st.session_state[key] = ready[chosen][part]

    with column:
        typed = [
            st.text_area(
                f"Text {place + 1}" if len(parts) == 1 else f"Text {place + 1}, {part} part",
                key=key,
                height=100 if len(parts) == 1 else 68,
                max_chars=_LONGEST,
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
    """Whether there is anything to compare heads on, in both parts of a pair."""
    return all(part.strip() for part in ([text] if isinstance(text, str) else text))
