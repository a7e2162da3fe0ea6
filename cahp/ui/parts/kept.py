"""The texts of this tab, kept by the browser until the tab is closed: a reload brings them back, and no link does.

A reload is a new session, and texts are in no address. The browser's session storage belongs to one tab and is sent
nowhere; the page asks it once, and tells it what is in the boxes from then on. Boxes that go together have a ``name``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

_KEPT = """
export default function ({ data, parentElement, setTriggerValue }) {
  const name = `cahp-${data.name}`;
  try {
    if (!data.ask) sessionStorage.setItem(name, JSON.stringify(data.boxes));
    else if (!parentElement.cahpAsked) {
      parentElement.cahpAsked = true;
      setTriggerValue("answer", JSON.parse(sessionStorage.getItem(name) ?? "{}"));
    }
  } catch {
    // Full, or forbidden: then a reload begins with the examples.
  }
}
"""


def said(name: str) -> Mapping[str, Any]:
    """What the browser has kept since before a reload, once; to be put into the boxes before they are drawn."""
    return st.session_state.pop(_said(name), {})  # type: ignore[no-any-return]


def keep(name: str, boxes: Callable[[], Mapping[str, Any]]) -> None:
    """Have the browser keep what is in the ``boxes``; the first time it is asked what it has kept."""
    st.fragment(_keep)(name, boxes)


def _keep(name: str, boxes: Callable[[], Mapping[str, Any]]) -> None:
    # Session keys: whether the browser was asked and has answered, and what it said until the boxes are drawn.
    answered = f"{name}-kept"
    ask = not st.session_state.get(answered)
    found = st.components.v2.component("cahp_kept", js=_KEPT)(
        key=f"{name}-kept-boxes",
        data={"name": name, "ask": ask, "boxes": {} if ask else dict(boxes())},
        height="content",
        on_answer_change=lambda: None,
    )
    if ask and isinstance(found.answer, Mapping):
        st.session_state[answered] = True
        if found.answer:
            st.session_state[_said(name)] = found.answer
            st.rerun()


def _said(name: str) -> str:
    return f"{name}-kept-said"
