"""What is looked at: a view of the page and a head, chosen in a box, on a figure or by a link."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from cahp.figures.head_grid import head_name
from cahp.figures.heads import called
from cahp.figures.palette import COMMUNITIES
from cahp.stages.similarity import HeadGraph
from cahp.ui.similarity.comparing import Seen
from cahp.values import HeadMask

_HEAD, _VIEW = "similarity-head", "similarity-view"

#: The views by the name that links give them.
VIEWS = {"text": "On a text", "head": "One head", "all": "All heads at a glance"}


def view() -> str:
    """Which part of the page is open: one of ``VIEWS``."""
    linked = _news("view")
    if linked in VIEWS:
        st.session_state[_VIEW] = linked
    elif st.session_state.get(_VIEW) not in VIEWS:
        st.session_state[_VIEW] = "text"
    chosen = st.segmented_control(
        "Look at",
        list(VIEWS),
        required=True,
        format_func=VIEWS.__getitem__,
        key=_VIEW,
        persist_state="session",
        label_visibility="collapsed",
    )
    _write("view", str(chosen))
    return str(chosen)


def settle(mask: HeadMask, otherwise: Callable[[], int]) -> int:
    """A head to look at: that of a link that was followed, or the one chosen, or else what ``otherwise`` says."""
    total = mask.keep.size
    linked = head_of(_news("head") or "", mask.layers, mask.heads)
    chosen = st.session_state.get(_HEAD) if linked is None else linked
    if chosen is None or chosen >= total:
        chosen = otherwise()
    st.session_state[_HEAD] = chosen = int(chosen)
    _write("head", called(chosen, mask.heads))
    return chosen


def most_alike(seen: Seen) -> int:
    """One of the two heads that are most alike: they show at once what redundancy looks like."""
    apart = seen.distances + np.diag(np.full(len(seen.distances), np.inf))
    return int(np.argmin(apart)) // len(apart)


def head_of(text: str, layers: int, heads: int) -> int | None:
    """The head that a link names, as layer.head or as a flat index (None: there is none of that name)."""
    parts = text.split(".")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if len(numbers) == 1:
        return numbers[0] if numbers[0] < layers * heads else None
    layer, head = numbers
    return layer * heads + head if layer < layers and head < heads else None


def choose(head: int) -> None:
    """Look at this head."""
    st.session_state[_HEAD] = head


def open_view(name: str) -> None:
    """Open this view, before the page runs again."""
    st.session_state[_VIEW] = name


def box(mask: HeadMask, graph: HeadGraph | None = None) -> None:
    """The box of all heads, with the community of each where there is a graph."""

    def named(head: int) -> str:
        group = "" if graph is None else f"{COMMUNITIES.sign(int(graph.communities[head]))} · "
        return f"{head_name(head, mask.heads)} · {group}{'kept' if mask.keep.flat[head] else 'pruned'}"

    st.selectbox("Head to look at", range(mask.keep.size), format_func=named, key=_HEAD, persist_state="session")


def _news(name: str) -> str | None:
    """What the address says, if it does not say it because of us: somebody followed a link."""
    said = st.query_params.get(name)
    return None if said == st.session_state.get(_written(name)) else said


def _write(name: str, value: str) -> None:
    st.session_state[_written(name)] = value
    if st.query_params.get(name) != value:
        st.query_params[name] = value


def _written(name: str) -> str:
    return f"similarity-{name}-written"
