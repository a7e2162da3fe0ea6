"""What the page says of the last action: what came of it, or why it was refused."""

from __future__ import annotations

import streamlit as st

from cahp.ui.frame.page import problem

_ANSWER, _REFUSAL = "budget-answer", "budget-refusal"


def answer(sentence: str) -> None:
    """Say what came of an action, until the next."""
    st.session_state[_ANSWER] = sentence


def refuse(error: Exception) -> None:
    """Say once why an action was refused."""
    st.session_state[_REFUSAL] = str(error)


def forget() -> None:
    """Something else happened: the last answer is about another board."""
    st.session_state.pop(_ANSWER, None)


def show_refusal() -> None:
    """Why the last action was refused."""
    refusal = st.session_state.pop(_REFUSAL, None)
    # Always there, so that a sentence does not move the controls, which would close their panels.
    with st.container(key="board-trouble", gap=None):
        if refusal:
            problem(refusal)


def show_answer() -> None:
    """What came of the last action."""
    said = st.session_state.get(_ANSWER)
    if said:
        st.info(said)
