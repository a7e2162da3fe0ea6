"""The texts to compare on: boxes, examples, and pairs."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from cahp.ui.parts.input_box import input_box
from cahp.ui.session.explorer import Explorer
from cahp.values import Input

#: Texts that can be compared at once.
_TEXTS = 4


def inputs(explorer: Explorer) -> list[Input]:
    """The boxes, and what is in them."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        number = st.segmented_control(
            "Texts to compare",
            range(1, _TEXTS + 1),
            default=1,
            required=True,
            key="similarity-texts",
            persist_state="session",
        )
        if "similarity-pairs" not in st.session_state:
            st.session_state["similarity-pairs"] = explorer.bench.calibration.second is not None
        pairs = st.toggle("Pairs of texts", key="similarity-pairs", persist_state="session")
    kind: Literal["single", "pairs"] = "pairs" if pairs else "single"
    columns = st.columns(number or 1)
    found = []
    for place, column in enumerate(columns):
        with column:
            found.append(input_box("similarity", kind, label=f"Text {place + 1}", place=place))
    return found
