"""The budget board in the explorer: one table in, a released budget or a clicked head out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from cahp.board import Event, Shown, contents, script, style
from cahp.studies.budget_sweep import BudgetTable
from cahp.studies.head_clusters import HeadClusters
from cahp.values import Ints

__all__ = ["Event", "Shown", "budget_board"]

_HERE = Path(__file__).parent


def budget_board(
    table: BudgetTable,
    clusters: HeadClusters,
    shown: Shown,
    *,
    labels: Ints,
    key: str,
    on_event: Callable[[Event], None] | None = None,
    selected: int | None = None,
    status: str = "",
    chance: float | None = None,
) -> None:
    """Draw the board; ``on_event`` is told what a person did on it before the page runs again.

    ``labels (N,)`` are the clusters that colour the heads; ``status`` says what keeps a figure waiting;
    ``chance`` is the share of the most frequent class. Without ``on_event`` the board is still: grid and figures.
    """

    def told() -> None:
        said = st.session_state[key].event
        if said is not None and on_event is not None:
            on_event(Event.of(said))

    data = contents(
        table,
        clusters,
        shown,
        labels=labels,
        selected=selected,
        status=status,
        still=on_event is None,
        chance=chance,
    )
    _component()(key=key, data=data, on_event_change=told)


def _component() -> Any:
    js, css = _sources()
    return st.components.v2.component("cahp_budget_board", js=js, css=css)


@cache
def _sources() -> tuple[str, str]:
    colours = (_HERE / "host.css").read_text(encoding="utf-8")
    return script((_HERE / "host.js").read_text(encoding="utf-8")), colours + style()
