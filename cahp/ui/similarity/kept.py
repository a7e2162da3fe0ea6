"""The texts of this tab, kept by the browser until the tab is closed: a reload brings them back, and no link does.

A reload is a new session, and texts are in no address. The browser's session storage belongs to one tab and is sent
nowhere; the page asks it once, and tells it what is in the boxes from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

_KEPT = """
const NAME = "cahp-similarity";
export default function ({ data, parentElement, setTriggerValue }) {
  try {
    if (!data.ask) sessionStorage.setItem(NAME, JSON.stringify(data.boxes));
    else if (!parentElement.cahpAsked) {
      parentElement.cahpAsked = true;
      setTriggerValue("answer", JSON.parse(sessionStorage.getItem(NAME) ?? "{}"));
    }
  } catch {
    // Full, or forbidden: then a reload begins with the examples.
  }
}
"""
#: Session keys: whether the browser was asked and has answered, and what it said until the boxes are drawn.
_ANSWERED, _SAID = "similarity-kept", "similarity-kept-said"


def said() -> Mapping[str, Any]:
    """What the browser has kept since before a reload, once; to be put into the boxes before they are drawn."""
    return st.session_state.pop(_SAID, {})  # type: ignore[no-any-return]


def keep(boxes: Callable[[], Mapping[str, Any]]) -> None:
    """Have the browser keep what is in the ``boxes``; the first time it is asked what it has kept."""
    st.fragment(_keep)(boxes)


def _keep(boxes: Callable[[], Mapping[str, Any]]) -> None:
    ask = not st.session_state.get(_ANSWERED)
    found = st.components.v2.component("cahp_kept", js=_KEPT)(
        key="similarity-kept-boxes",
        data={"ask": True} if ask else {"ask": False, "boxes": dict(boxes())},
        height="content",
        on_answer_change=lambda: None,
    )
    if ask and isinstance(found.answer, Mapping):
        st.session_state[_ANSWERED], st.session_state[_SAID] = True, found.answer
        st.rerun()
