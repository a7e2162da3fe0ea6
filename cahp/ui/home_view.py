"""To be drawn."""

from __future__ import annotations

import streamlit as st

from cahp.ui.session import Explorer


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Heads")
    st.write(explorer.mask.count)
