"""The texts to compare: boxes, examples, and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import streamlit as st

from cahp.ui.parts import inputs
from cahp.ui.parts.inputs import LONGEST, input_box
from cahp.ui.session.explorer import Explorer
from cahp.values import Input

#: Texts that can be compared at once.
_TEXTS = 4

#: Keys of the boxes, of their number, and of their kind.
_NUMBER, _PAIRS, _PARTS = "similarity-texts", "similarity-pairs", ("text", "first", "second")


def draw_boxes(explorer: Explorer) -> list[Input]:
    """Draw the boxes, and return their texts."""
    _put_back(inputs.restored("similarity"))
    st.session_state.setdefault(_NUMBER, 1)
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
    found = []
    for place, column in enumerate(columns):
        with column:
            found.append(input_box("similarity", kind, label=f"Text {place + 1}", place=place))
    inputs.keep("similarity", _in_boxes)
    return found


def _in_boxes() -> dict[str, Any]:
    """Return the contents of the boxes, for the browser to keep."""
    keys = (_NUMBER, _PAIRS, *(f"similarity-{part}-{place}" for part in _PARTS for place in range(_TEXTS)))
    return {key: st.session_state[key] for key in keys if st.session_state.get(key) is not None}


def _put_back(boxes: Mapping[str, Any]) -> None:
    """Fill the boxes from what the browser kept, within the limits of typing."""
    if boxes.get(_NUMBER) in range(1, _TEXTS + 1):
        st.session_state[_NUMBER] = int(boxes[_NUMBER])
    if isinstance(boxes.get(_PAIRS), bool):
        st.session_state[_PAIRS] = boxes[_PAIRS]
    for part in _PARTS:
        for place in range(_TEXTS):
            text = boxes.get(f"similarity-{part}-{place}")
            if isinstance(text, str):
                st.session_state[f"similarity-{part}-{place}"] = text[:LONGEST]
