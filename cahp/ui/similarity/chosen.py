"""The head that is looked at: chosen in a box, on a figure or by a link."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cahp.figures.head_grid import head_name
from cahp.figures.palette import COMMUNITIES
from cahp.stages.similarity import HeadGraph
from cahp.ui.similarity.comparing import Seen
from cahp.values import HeadMask

_HEAD = "similarity-head"


def settle(seen: Seen, mask: HeadMask) -> int:
    """A head to look at: the one chosen, or that of the link, or one of the two that are most alike."""
    total = mask.keep.size
    chosen = st.session_state.get(_HEAD)
    if chosen is None:
        linked = st.query_params.get("head", "")
        chosen = int(linked) if linked.isascii() and linked.isdigit() and len(linked) < 6 else None
    if chosen is None or chosen >= total:
        # Two heads that do the same show at once what redundancy looks like.
        apart = seen.distances + np.diag(np.full(total, np.inf))
        chosen = int(np.argmin(apart)) // total
    st.session_state[_HEAD] = chosen = int(chosen)
    if st.query_params.get("head") != str(chosen):
        st.query_params["head"] = str(chosen)
    return chosen


def choose(head: int) -> None:
    """Look at this head."""
    st.session_state[_HEAD] = head


def box(graph: HeadGraph, mask: HeadMask) -> None:
    """The box of all heads."""

    def named(head: int) -> str:
        group, state = COMMUNITIES.sign(int(graph.communities[head])), "kept" if mask.keep.flat[head] else "pruned"
        return f"{head_name(head, mask.heads)} · {group} · {state}"

    st.selectbox("Head to look at", range(mask.keep.size), format_func=named, key=_HEAD, persist_state="session")
