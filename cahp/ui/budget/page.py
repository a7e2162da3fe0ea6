"""The Budget page: the board, its controls, and the tabs below it."""

from __future__ import annotations

from functools import partial

import streamlit as st

from cahp import features
from cahp.stages.clustering import grid_notice
from cahp.ui.budget import controls, details, measuring
from cahp.ui.frame import address, board, knee, measures
from cahp.ui.frame.panels import Panel
from cahp.ui.frame.running import need_run
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.lifetime import page_drawn

#: What can be shown below the board, beside what features bring.
_PANELS = (
    Panel("Where heads lie", details.draw_space, place=20),
    Panel("Changed answers", details.draw_flips, place=50),
    Panel("Published rule", partial(knee.draw, place="budget"), place=70),
)
#: The field of the address, and the key of the tabs.
_FIELD = "panel"
_TABS = "board-detail"


def list_panels() -> list[Panel]:
    """Return the tabs below the board, in their order."""
    return sorted((*_PANELS, *features.panels("Budget"), *measures.list_tabs()), key=lambda panel: panel.place)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center", key="budget-title"):
        with st.container():
            st.title("How many heads are enough?")
        with st.popover("How heads are chosen", key="method", width="content"):
            controls.draw_method(explorer)
    panels = list_panels()
    if explorer.results.run is None:
        for panel in panels:
            if panel.before_run is not None:
                panel.before_run(explorer)
    need_run(explorer)
    swept = grid_notice(explorer.card.layers * explorer.card.heads)
    if swept is not None:
        st.caption(f"With so many heads, {swept}.")
    board.warm(explorer)
    # A link opens a tab, such as that of a person's own text (never with a text), unless another tab was opened since.
    # The fragment must not read it: its runs may still have the address from before a click on a tab.
    if _FIELD in st.query_params and st.session_state.get(_TABS) in (None, explorer.detail):
        for panel in panels:
            if panel.name and panel.name == st.query_params[_FIELD]:
                explorer.detail = panel.label
    pulse = explorer.work.pulse
    st.fragment(_live, run_every=pulse)(explorer, pulse)


def _live(explorer: Explorer, pulse: float | None) -> None:
    page_drawn()
    controls.collect_choice(explorer)
    address.write(explorer)
    board.measure(explorer)
    controls.draw(explorer)
    measuring.draw_distillation(explorer)
    with st.container(key=board.finding_key(explorer)):
        board.draw_finding(explorer, board.describe_change)
    board.draw(explorer, board.describe_change, note=measuring.describe_distillation(explorer), marks=True)
    board.draw_panels(explorer)
    measuring.draw(explorer)
    controls.offer_better_method(explorer)
    for panel in features.panels("Budget note"):
        panel.draw(explorer)

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
        panels = {panel.label: panel for panel in list_panels()}
        st.segmented_control(
            "More", tuple(panels), required=True, key=_TABS, on_change=open_tab, label_visibility="collapsed"
        )
        panel = panels[explorer.detail]
        address.put(_FIELD, panel.name)
        panel.draw(explorer)
