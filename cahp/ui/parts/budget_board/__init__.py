"""The budget board in the explorer: it draws a table of budgets and reports a person's events."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from cahp.board import Event, Shown, contents, script, style
from cahp.board.budget_sweep import BudgetTable
from cahp.board.head_clusters import HeadClusters

_HERE = Path(__file__).parent


def budget_board(
    table: BudgetTable,
    clusters: HeadClusters,
    shown: Shown,
    *,
    key: str,
    finding: str,
    on_event: Callable[[Event], None],
    **options: Any,
) -> None:
    """Draw the board; ``on_event`` is called with each event of a person before the page runs again.

    ``finding`` is the key of the container whose headline the board writes while a person drags.
    The curve of the silhouette is left out, as pages draw it with its null band. ``options`` are those of ``contents``.
    """

    turn = f"{key}-turn"

    def report() -> None:
        message = st.session_state[key].event
        if message is not None:
            event = Event.of(message)
            if event.kind == "toggle":
                st.session_state[turn] = message.get("turn")
            on_event(event)

    data = contents(table, clusters, shown, **options)
    # A board is drawn again only if its data change. It shows a toggled head at once, also one that is then refused.
    data |= {"ks": [], "mss": [], "finding": finding, "turn": st.session_state.get(turn)}
    js, css = _sources()
    st.components.v2.component("cahp_budget_board", js=js, css=css)(key=key, data=data, on_event_change=report)


@cache
def _sources() -> tuple[str, str]:
    colours = (_HERE / "host.css").read_text(encoding="utf-8")
    return script((_HERE / "host.js").read_text(encoding="utf-8")), colours + style()
