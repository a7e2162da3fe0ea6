"""The filters of the Compare page, which are part of its address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from cahp.comparison import SplitResults
from cahp.comparison.sentences import method_label, name_outcome
from cahp.figures.comparison_blocks import Filters
from cahp.recoveries import RECOVERIES
from cahp.ui.frame import address
from cahp.words import capital


def draw_filters(results: SplitResults, *, recover: str) -> Filters:
    """Draw the filters in a row and return their values; ``results`` are those of the first outcome.

    The recovery is at first the one of the board, ``recover``, if it was compared.
    """
    first = results.by_cost[0]
    if recover in results.by_cost:
        first = recover
    by_name = {str(budget): budget for budget in results.budgets}
    # The smallest budget may hold the per-layer minimum alone, and the largest prunes little.
    middle = list(by_name)[(len(by_name) - 1) // 2]
    in_address = [name for name in st.query_params.get("methods", "").split(",") if name in results.methods]
    selected = st.session_state.get("compare-methods")
    if selected is None or not set(selected) <= set(results.methods) or address.is_history_navigation():
        st.session_state["compare-methods"] = list(dict.fromkeys(in_address))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="compare-filters"):
        outcome = _choose(
            *("outcome", "Outcome", results.outcomes, results.outcome),
            format_func=lambda name: capital(name_outcome(name)),
            help="KL divergence and agreement compare with the full model and need no labels.",
        )
        recovery = _choose(
            *("recovery", "Recovery", results.by_cost, first),
            always=True,
            format_func=lambda name: capital(RECOVERIES[name].noun) or "None",
            help="All methods get the same recovery. Refit solves for the output projections of the kept heads; "
            "distillation and fine-tuning train all weights.",
        )
        budget = _choose("at", f"Heads kept, of {results.total}", list(by_name), middle)
        chosen = st.session_state["compare-methods"]
        count = f"all {len(results.methods)}"
        if chosen:
            count = f"{len(chosen)} of {len(results.methods)}"
        with st.popover(f"Methods: {count}", key="compare-which-methods"):
            methods = st.multiselect(
                "Methods",
                list(results.methods),
                format_func=method_label,
                key="compare-methods",
                placeholder=f"All {len(results.methods)}",
                help="The tests remain those of all methods.",
            )
    address.put("methods", ",".join(methods))
    order = sorted(results.methods, key=lambda name: name != results.against)
    shown = tuple(name for name in order if not methods or name in methods)
    return Filters(outcome, recovery, by_name[budget], shown)


def _choose(name: str, label: str, options: Sequence[str], default: str, *, always: bool = False, **look: Any) -> str:
    """Draw a filter whose value is in the address, the default only if ``always``; nothing where there is no choice.

    A default that depends on the session is ``always`` there, so that a link shows the same to all.
    """
    if len(options) < 2:
        return default
    key = f"compare-{name}"
    if name == "at":
        key = "compare-budget"
    _set_from_address(name, key, options, default)
    value = st.segmented_control(label, options, required=True, key=key, width="content", **look) or default
    in_address = value
    if value == default and not always:
        in_address = ""
    address.put(name, in_address)
    return value


def _set_from_address(name: str, key: str, options: Sequence[str], default: str) -> None:
    """Set a filter to the value in the address, or to its default, unless a valid option is selected."""
    if st.session_state.get(key) not in options or address.is_history_navigation():
        value = st.query_params.get(name, default)
        if value not in options:
            value = default
        st.session_state[key] = value
