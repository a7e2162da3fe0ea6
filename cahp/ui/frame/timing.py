"""Timing the mask on the board, for the first time or once more: wherever a time is shown."""

from __future__ import annotations

import streamlit as st

from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import SPEED


def button(explorer: Explorer, *, place: str) -> bool:
    """Draw the button, unless the mask cannot be cut out; whether it was pressed and the timing has begun."""
    total = explorer.card.layers * explorer.card.heads
    if explorer.mask.empty_layers or explorer.mask.count == total:
        return False
    label = "Time this mask" if explorer.speed() is None else "Time again"
    pressed = st.button(
        label,
        key=f"time-{place}",
        type="tertiary",
        help="Both models in turn on this machine, in a process of its own, until the ratio is known within 2 % or 5 s "
        "are over. A time that a busy machine took is shown, but kept for nobody.",
    )
    if pressed:
        explorer.start(SPEED)
    return bool(pressed)
