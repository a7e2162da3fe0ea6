"""The texts to compare: boxes, examples, and pairs."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from cahp.ui.parts.inputs import input_box, keep
from cahp.ui.session.explorer import Explorer
from cahp.values import Input

#: Texts that can be compared at once.
_TEXTS = 4

#: Session keys: the number of boxes, and whether each is for a pair.
_NUMBER, _PAIRS = "similarity-texts", "similarity-pairs"


def draw_boxes(explorer: Explorer) -> list[Input]:
    """Draw the boxes, and return their texts."""
    boxes = {f"similarity-{part}-{place}": str for part in ("text", "first", "second") for place in range(_TEXTS)}
    keep("similarity", {_NUMBER: int, _PAIRS: bool, **boxes})
    if st.session_state.get(_NUMBER) not in range(1, _TEXTS + 1):
        st.session_state[_NUMBER] = 1
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        number = st.segmented_control(
            "Texts to compare",
            range(1, _TEXTS + 1),
            required=True,
            key=_NUMBER,
            persist_state="session",
        )
        if _PAIRS not in st.session_state:
            st.session_state[_PAIRS] = explorer.bench.calibration.second is not None
        pairs = st.toggle("Pairs of texts", key=_PAIRS, persist_state="session")
    kind: Literal["single", "pairs"] = "pairs" if pairs else "single"
    columns = st.columns(number or 1)
    texts = []
    for place, column in enumerate(columns):
        with column:
            texts.append(input_box("similarity", kind, label=f"Text {place + 1}", place=place))
    return texts
