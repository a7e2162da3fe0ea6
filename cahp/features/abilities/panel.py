"""The receipt of abilities on screen: a strip of marks below the board, and the search for the fewest heads."""

from __future__ import annotations

import streamlit as st

from cahp.features.abilities import fewest
from cahp.features.abilities.receipt import find_state
from cahp.features.abilities.section import RECEIPT
from cahp.features.abilities.strip import strip_html
from cahp.ui.frame import measures
from cahp.ui.frame.panels import Panel
from cahp.ui.session.explorer import Explorer


def draw_strip(explorer: Explorer) -> None:
    """Draw the marks of the mask on the board where they are known, else the button that measures them."""
    fewest.drop_outdated(explorer)
    if explorer.mask.is_full:
        return
    record = measures.find_record(explorer, RECEIPT)
    with st.container(key="abilities-board"):
        if record is not None:
            st.html(strip_html(record, find_state(record), explorer.ready_recovery))
        else:
            measures.draw_offer(RECEIPT, explorer, place="strip", label=RECEIPT.title)


def draw_table(explorer: Explorer) -> None:
    """Draw the tab of the receipt, and the search for the fewest heads."""
    measures.draw(RECEIPT, explorer)
    if not explorer.mask.is_full:
        fewest.draw(explorer)


STRIP = Panel("", draw_strip, place=10)
TAB = Panel(RECEIPT.title, draw_table, place=54, name=RECEIPT.name)
