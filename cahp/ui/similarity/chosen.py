"""The chosen head: by a box, a figure or a link; and the parameters of a link."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from cahp.figures.head_grid import head_name
from cahp.ui.frame import address
from cahp.values import HeadMask
from cahp.values.statistics import called

#: Session keys: the chosen head, and the name of the view.
_HEAD = "similarity-head"
VIEW = "similarity-view"


def choose_head(mask: HeadMask, default: Callable[[], int]) -> int:
    """Return the head to show: that of a followed link, or the chosen one, or else ``default()``."""
    chosen = head_of(linked("shown") or "", mask.layers, mask.heads)
    if chosen is None:
        chosen = st.session_state.get(_HEAD)
    if chosen is None or chosen >= mask.keep.size:
        chosen = default()
    st.session_state[_HEAD] = chosen = int(chosen)
    write("shown", called(chosen, mask.heads))
    return chosen


def head_of(text: str, layers: int, heads: int) -> int | None:
    """Return the head that a link names, as layer.head or as a flat index (None: no such head)."""
    parts = text.split(".")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if len(numbers) == 1:
        flat = numbers[0]
        return flat if flat < layers * heads else None
    layer, head = numbers
    if layer >= layers or head >= heads:
        return None
    return layer * heads + head


def choose(head: int) -> None:
    """Choose this head."""
    st.session_state[_HEAD] = head


def open_head(head: int) -> None:
    """Open the tab of this head in the next run of the page."""
    choose(head)
    st.session_state[VIEW] = "head"


def box(mask: HeadMask, unit: str) -> None:
    """Draw the box of all heads, or another ``unit``."""
    st.selectbox(
        "Head",
        range(mask.keep.size),
        # A name that changed with the mask or the graph would no longer be found when a run is interrupted.
        format_func=lambda head: head_name(head, mask.heads, unit),
        key=_HEAD,
        persist_state="session",
        label_visibility="collapsed",
    )


def linked(name: str) -> str | None:
    """Return a parameter of the address that a person's link has set, not this page."""
    value: str | None = st.query_params.get(name)
    if value == st.session_state.get(f"similarity-{name}-written"):
        return None
    return value


def write(name: str, value: str) -> None:
    """Set a parameter of the address."""
    st.session_state[f"similarity-{name}-written"] = value
    address.put(name, value)
