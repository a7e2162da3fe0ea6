"""A claim of the paper on a page: a line with its verdict, which opens its evidence."""

from __future__ import annotations

from typing import Any

import streamlit as st


def open_claim(name: str, claim: str, status: str) -> Any:
    """Draw the line of a claim with its verdict; return the panel, which is filled once it is open."""
    key = f"claim-{name}"
    # A panel with another verdict would be another one, and closed.
    st.session_state[key] = st.session_state.get(key, False)
    return st.expander(f"{claim}: **{status}**", key=key, on_change="rerun")
