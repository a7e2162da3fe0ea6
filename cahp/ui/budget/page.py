"""The Budget page: the board, its controls, and the tabs below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import streamlit as st

from cahp.features.own_text import panel as own_text
from cahp.features.roles import panel as roles
from cahp.features.versus import panel as pinned
from cahp.stages.clustering import grid_notice
from cahp.ui.budget import controls, details, measuring
from cahp.ui.frame import address, board, knee
from cahp.ui.frame.running import need_run
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.lifetime import page_drawn

#: What can be shown below the board.
_DETAILS: Mapping[str, Callable[[Explorer], None]] = {
    own_text.TAB: own_text.draw,
    "Where heads lie": details.draw_space,
    "Replacement head": details.draw_replacement,
    "Roles": roles.draw_roles,
    "Changed answers": details.draw_flips,
    "Narrow or broad?": details.draw_neutral,
    "Published rule": partial(knee.draw, place="budget"),
    pinned.TAB: pinned.draw_tab,
}
#: The field of the address, and the key of the tabs.
_FIELD, _TABS = "panel", "board-detail"


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center", key="budget-title"):
        with st.container():
            st.title("How many heads are enough?")
        with st.popover("How heads are chosen", key="method", width="content"):
            controls.draw_method(explorer)
    if explorer.results.run is None:
        pinned.draw(explorer)
    need_run(explorer)
    swept = grid_notice(explorer.card.layers * explorer.card.heads)
    if swept is not None:
        st.caption(f"With so many heads, {swept}.")
    board.warm(explorer)
    # A link opens the tab of a person's own text, never with a text, unless another tab was opened since. The fragment
    # must not read it: its runs may still have the address from before a click on a tab.
    if _FIELD in st.query_params and st.session_state.get(_TABS) in (None, explorer.detail):
        explorer.detail = own_text.TAB
    pulse = explorer.work.pulse
    st.fragment(_live, run_every=pulse)(explorer, pulse)


def _live(explorer: Explorer, pulse: float | None) -> None:
    page_drawn()
    controls.collect_choice(explorer)
    address.write(explorer)
    board.measure(explorer)
    controls.draw(explorer)
    measuring.draw_distillation(explorer)
    board.draw_finding(explorer, board.describe_change)
    note, mask = measuring.describe_distillation(explorer), pinned.comparable_mask(explorer)
    board.draw(explorer, board.describe_change, note=note, pinned=mask)
    measuring.draw(explorer)
    controls.offer_better_method(explorer)

    _draw_tabs(explorer)
    if explorer.work.pulse != pulse:
        # Polling starts and stops only with a run of the whole page.
        st.rerun()


def _draw_tabs(explorer: Explorer) -> None:
    def open_tab() -> None:
        explorer.detail = st.session_state[_TABS]
        st.query_params.pop(_FIELD, None)

    with st.container(key="board-details"):
        set_value(_TABS, explorer.detail)
        st.segmented_control(
            "More", tuple(_DETAILS), required=True, key=_TABS, on_change=open_tab, label_visibility="collapsed"
        )
        address.put(_FIELD, "text" if explorer.detail == own_text.TAB else "")
        _DETAILS[explorer.detail](explorer)
