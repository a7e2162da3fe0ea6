"""What the page says of the last action, until the next: what came of it, or why it was refused."""

from __future__ import annotations

import streamlit as st

from cahp.ui.frame.page import problem

_ANSWER, _REFUSAL = "budget-answer", "budget-refusal"


def answer(sentence: str) -> None:
    """Say what came of an action."""
    forget()
    st.session_state[_ANSWER] = sentence


def refuse(error: Exception) -> None:
    """Say why an action was refused."""
    forget()
    st.session_state[_REFUSAL] = str(error)


def forget() -> None:
    """Something else happens: what was said is about another board."""
    for said in (_ANSWER, _REFUSAL):
        st.session_state.pop(said, None)


def show() -> None:
    """What was said of the last action."""
    # Always there, so that a sentence does not make another element of what follows.
    with st.container(key="board-note", gap=None):
        if refusal := st.session_state.get(_REFUSAL):
            problem(refusal)
        if said := st.session_state.get(_ANSWER):
            st.info(said)
