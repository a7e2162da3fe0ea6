"""The theme that a browser shows."""

from __future__ import annotations

import streamlit as st


def dark() -> bool:
    """Whether this browser shows the dark theme."""
    return bool(st.context.theme.type == "dark")
