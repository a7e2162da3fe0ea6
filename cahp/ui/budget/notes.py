"""The message about the last action: its result, or why it was refused."""

from __future__ import annotations

import streamlit as st

from cahp.ui.parts.display import problem

_ANSWER, _REFUSAL = "budget-answer", "budget-refusal"


def answer(sentence: str) -> None:
    """Show the result of an action."""
    forget()
    st.session_state[_ANSWER] = sentence


def refuse(error: Exception) -> None:
    """Show why an action was refused."""
    forget()
    st.session_state[_REFUSAL] = str(error)


def forget() -> None:
    """Remove the message."""
    for key in (_ANSWER, _REFUSAL):
        st.session_state.pop(key, None)


def show() -> None:
    """Draw the message of the last action."""
    # The container always exists, so that a message does not change the identity of later elements.
    with st.container(key="board-note", gap=None):
        if refusal := st.session_state.get(_REFUSAL):
            problem(refusal)
        if answer := st.session_state.get(_ANSWER):
            st.info(answer)
