"""The filters of the Compare page, which are part of its address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from cahp.comparison import SplitResults
from cahp.comparison.sentences import method_label, name_outcome
from cahp.recoveries import RECOVERIES
from cahp.ui.frame import address
from cahp.words import capital


@dataclass(frozen=True)
class ComparisonView:
    """The selected outcome, recovery, number of heads and methods."""

    outcome: str
    recovery: str
    budget: int
    methods: tuple[str, ...]


def draw_filters(results: SplitResults) -> ComparisonView:
    """Draw the filters and return their values; ``results`` are those of the first outcome."""
    outcome = results.outcome
    if len(results.outcomes) > 1:
        _set_from_address("outcome", "compare-outcome", results.outcomes, results.outcome)
        outcome = st.segmented_control(
            "Outcome",
            results.outcomes,
            required=True,
            format_func=lambda name: capital(name_outcome(name)),
            key="compare-outcome",
            help="KL divergence and agreement compare with the full model and need no labels.",
        )
        outcome = outcome or results.outcome
        _put_in_address("outcome", outcome, results.outcome)
    _set_from_address("recovery", "compare-recovery", results.by_cost, results.by_cost[0])
    by_name = {str(budget): budget for budget in results.budgets}
    # The smallest budget may hold the per-layer minimum alone, and the largest prunes little.
    default = list(by_name)[(len(by_name) - 1) // 2]
    _set_from_address("at", "compare-budget", list(by_name), default)
    in_address = [name for name in st.query_params.get("methods", "").split(",") if name in results.methods]
    selected = st.session_state.get("compare-methods")
    if selected is None or not set(selected) <= set(results.methods) or address.is_history_navigation():
        st.session_state["compare-methods"] = list(dict.fromkeys(in_address))
    left, middle, right = st.columns([8, 7, 8], vertical_alignment="top", gap="medium")
    with left:
        recovery = st.segmented_control(
            "Recovery",
            results.by_cost,
            required=True,
            format_func=lambda name: RECOVERIES[name].noun.capitalize() or "Before",
            key="compare-recovery",
            help="All methods get the same recovery. Refit solves for the output projections of the kept heads; "
            "distillation and fine-tuning train all weights.",
        )
    with middle:
        label = f"Heads kept, of {results.total}"
        budget = st.segmented_control(label, list(by_name), required=True, key="compare-budget")
    with right:
        methods = st.multiselect(
            "Methods",
            list(results.methods),
            format_func=method_label,
            key="compare-methods",
            placeholder=f"All {len(results.methods)}",
            help="The tests remain those of all methods.",
        )
    recovery, budget = recovery or results.by_cost[0], budget or default
    _put_in_address("recovery", recovery, results.by_cost[0])
    _put_in_address("at", budget, default)
    _put_in_address("methods", ",".join(methods), "")
    order = sorted(results.methods, key=lambda name: name != results.against)
    shown = tuple(name for name in order if not methods or name in methods)
    return ComparisonView(outcome, recovery, by_name[budget], shown)


def _set_from_address(name: str, key: str, options: Sequence[str], default: str) -> None:
    """Set a filter to the value in the address, or to its default, unless a valid option is selected."""
    if st.session_state.get(key) not in options or address.is_history_navigation():
        value = st.query_params.get(name)
        st.session_state[key] = value if value in options else default


def _put_in_address(name: str, value: str, default: str) -> None:
    """Put the value of a filter into the address; defaults are omitted."""
    if value == default:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != value:
        st.query_params[name] = value
