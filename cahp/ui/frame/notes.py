"""The message about the last action: its result, or why it was refused."""

from __future__ import annotations

import streamlit as st

from cahp.ui.parts.display import problem

#: Session key: whether the last action was refused, and the message.
_NOTE = "budget-note"


def write(message: object) -> None:
    """Show the result of an action, or the error that refused it."""
    st.session_state[_NOTE] = isinstance(message, Exception), str(message)


def clear() -> None:
    """Remove the message."""
    st.session_state.pop(_NOTE, None)


def draw() -> None:
    """Draw the message of the last action."""
    # The container always exists, so that a message does not change the identity of later elements.
    with st.container(key="board-note", gap=None):
        refused, message = st.session_state.get(_NOTE, (False, ""))
        if refused:
            problem(message)
        elif message:
            st.info(message)
