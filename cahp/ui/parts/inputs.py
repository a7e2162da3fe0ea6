"""Boxes for a person's own text, with examples, and a tab's memory of them.

A reload of the page is a new session, and texts are in no address. So the browser keeps them in its session storage,
which belongs to one tab and is sent nowhere: the page asks for its content once, and updates it from then on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import streamlit as st

from cahp import models
from cahp.values import Input

#: Characters that a box takes.
LONGEST = 100_000

_STORAGE = """
export default function ({ data, parentElement, setTriggerValue }) {
  const name = `cahp-${data.name}`;
  try {
    if (!data.ask) sessionStorage.setItem(name, JSON.stringify(data.boxes));
    else if (!parentElement.cahpAsked) {
      parentElement.cahpAsked = true;
      setTriggerValue("answer", JSON.parse(sessionStorage.getItem(name) ?? "{}"));
    }
  } catch {
    // The storage is full or forbidden: a reload then starts with the examples.
  }
}
"""


def load_examples(kind: Literal["single", "pairs"]) -> list[dict[str, str]]:
    """Read the bundled example texts: each has a ``name``, and a ``text`` or the ``first`` and ``second`` of a pair."""
    examples: list[dict[str, str]] = json.loads((models.assets() / "examples" / f"{kind}.json").read_text("utf-8"))
    return examples


def input_box(name: str, kind: Literal["single", "pairs"], *, label: str, place: int = 0) -> Input:
    """Draw a box for one text, or two for a pair, and return the content; it starts with the example at ``place``.

    Session keys begin with ``name``; boxes of one name differ in ``place``.
    """
    examples = load_examples(kind)
    parts = ("first", "second") if kind == "pairs" else ("text",)
    keys = [f"{name}-{part}-{place}" for part in parts]
    for key, part in zip(keys, parts, strict=True):
        if key not in st.session_state:
            st.session_state[key] = examples[place][part]
    choice = f"{name}-{kind}-example-{place}"

    def insert() -> None:
        # Clear the choice, so that the same example can be inserted again.
        chosen = st.session_state[choice]
        st.session_state[choice] = None
        if chosen is not None:
            for key, part in zip(keys, parts, strict=True):
                st.session_state[key] = examples[chosen][part]

    texts = [
        st.text_area(
            label if len(parts) == 1 else f"{label}, {part} part",
            key=key,
            height=100 if len(parts) == 1 else 68,
            max_chars=LONGEST,
            placeholder="Type or paste a text",
            persist_state="session",
        )
        or ""
        for key, part in zip(keys, parts, strict=True)
    ]
    st.selectbox(
        "Example",
        range(len(examples)),
        index=None,
        format_func=lambda index: examples[index]["name"],
        placeholder="Insert an example",
        label_visibility="collapsed",
        key=choice,
        on_change=insert,
    )
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def has_words(text: Input) -> bool:
    """Return whether the text, or each part of a pair, has any words."""
    return all(part.strip() for part in ([text] if isinstance(text, str) else text))


def keep(name: str, kinds: Mapping[str, type]) -> None:
    """Let the browser keep the session's values of these keys, by their types, and restore them after a reload.

    Call it before their widgets are drawn.
    """
    for key, value in st.session_state.pop(f"{name}-kept-said", {}).items():
        if key in kinds and isinstance(value, kinds[key]):
            st.session_state[key] = value[:LONGEST] if isinstance(value, str) else value
    st.fragment(_keep)(name, tuple(kinds))


def _keep(name: str, keys: Sequence[str]) -> None:
    answered = f"{name}-kept"
    ask = not st.session_state.get(answered)
    boxes = {key: st.session_state[key] for key in keys if st.session_state.get(key) is not None}
    storage = st.components.v2.component("cahp_kept", js=_STORAGE)(
        key=f"{name}-kept-boxes",
        data={"name": name, "ask": ask, "boxes": {} if ask else boxes},
        height="content",
        on_answer_change=lambda: None,
    )
    if ask and isinstance(storage.answer, Mapping):
        st.session_state[answered] = True
        if storage.answer:
            st.session_state[f"{name}-kept-said"] = storage.answer
            st.rerun()
