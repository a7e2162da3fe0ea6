"""What of a comparison is looked at; the filters live in the address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from cahp.comparison import Reading
from cahp.comparison.sentences import called
from cahp.ui.frame import address

#: What recoveries are called where one is chosen.
_RECOVERIES = {"none": "Before", "refit": "Refit", "distill": "Distilled", "finetune": "Fine-tuned"}


@dataclass(frozen=True)
class ComparisonView:
    """What is looked at: after which recovery, at how many heads, and which methods."""

    recovery: str
    budget: int
    methods: tuple[str, ...]


def filters(found: Reading) -> ComparisonView:
    """Draw the filters, and say what they are set to."""
    _wish("recovery", "compare-recovery", found.by_cost, found.by_cost[0])
    by_name = {str(budget): budget for budget in found.budgets}
    # At the smallest the layers' floor may leave nothing to choose, and at the largest hardly anything is gone.
    usual = list(by_name)[(len(by_name) - 1) // 2]
    _wish("at", "compare-budget", list(by_name), usual)
    named = [name for name in st.query_params.get("methods", "").split(",") if name in found.methods]
    shown = st.session_state.get("compare-methods")
    if shown is None or not set(shown) <= set(found.methods) or address.came_back():
        st.session_state["compare-methods"] = list(dict.fromkeys(named))
    recover, heads, which = st.columns([8, 7, 8], vertical_alignment="top", gap="medium")
    with recover:
        recovery = st.segmented_control(
            "Recovery",
            found.by_cost,
            required=True,
            format_func=lambda name: _RECOVERIES[name],
            key="compare-recovery",
            help="All methods get the same recovery. Refit solves for the output projections of the heads that stay; "
            "fine-tuning trains on.",
        )
    with heads:
        # More than a few would not fit on one line.
        pick: Any = st.segmented_control if len(by_name) <= 6 else st.selectbox
        options = {"required": True} if len(by_name) <= 6 else {}
        budget = pick(f"Heads kept, of {found.total}", list(by_name), key="compare-budget", **options)
    with which:
        methods = st.multiselect(
            "Methods",
            list(found.methods),
            format_func=called,
            key="compare-methods",
            placeholder=f"All {len(found.methods)}",
            help="The tests stay as they were made, over all methods.",
        )
    recovery, budget = recovery or found.by_cost[0], budget or usual
    _tell("recovery", recovery, found.by_cost[0])
    _tell("at", budget, usual)
    _tell("methods", ",".join(methods), "")
    order = sorted(found.methods, key=lambda name: name != found.against)
    return ComparisonView(recovery, by_name[budget], tuple(name for name in order if not methods or name in methods))


def _wish(name: str, key: str, options: Sequence[str], usual: str) -> None:
    """Give a filter the value that the address names, or the usual one, unless a possible one was chosen since."""
    if st.session_state.get(key) not in options or address.came_back():
        wished = st.query_params.get(name)
        st.session_state[key] = wished if wished in options else usual


def _tell(name: str, value: str, usual: str) -> None:
    """Put a filter into the address, or take it out where it says nothing."""
    if value == usual:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != value:
        st.query_params[name] = value
