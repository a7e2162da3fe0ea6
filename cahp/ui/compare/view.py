"""The filters of the Compare page, which are part of its address."""

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
    budgets = list(map(str, results.budgets))
    _read_address("methods", list(results.methods), [])
    with st.container(horizontal=True, vertical_alignment="bottom", key="compare-filters"):
        outcome = _choose(
            "outcome",
            "Outcome",
            results.outcomes,
            results.outcome,
            format_func=lambda name: capital(name_outcome(name)),
            help="KL divergence and agreement compare with the full model and need no labels.",
        )
        recovery = _choose(
            "recovery",
            "Recovery",
            results.by_cost,
            first,
            format_func=lambda name: capital(RECOVERIES[name].noun) or "None",
            help="All methods get the same recovery. Refit solves for the output projections of the kept heads; "
            "distillation and fine-tuning train all weights.",
        )
        # The smallest budget may hold the per-layer minimum alone, and the largest prunes little.
        budget = _choose(
            "at", f"{capital(results.units)} kept, of {results.total}", budgets, budgets[(len(budgets) - 1) // 2]
        )
        with st.popover(f"Methods: {len(st.session_state['compare-methods']) or 'all'}", key="compare-which-methods"):
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
    return Filters(outcome, recovery, int(budget), tuple(name for name in order if not methods or name in methods))


def _choose(name: str, label: str, options: Sequence[str], default: str, **look: Any) -> str:
    """Draw a filter whose value is in the address; nothing where there is no choice."""
    if len(options) < 2:
        return default
    _read_address(name, options, [default])
    key = f"compare-{name}"
    # A page may be drawn before the browser has sent its value.
    value = st.segmented_control(label, options, required=True, key=key, **look) or default
    address.put(name, value)
    return value


def _read_address(name: str, options: Sequence[str], default: list[str]) -> None:
    """Set a filter to what a link names, or to its default unless valid options are selected."""
    key = f"compare-{name}"
    selected = st.session_state.get(key)
    valid = selected is not None and {*([selected] if isinstance(selected, str) else selected)} <= {*options}
    again = not valid or address.is_history_navigation()
    text = address.linked(name)
    if again:
        text = st.query_params.get(name, "")
    named = [value for value in text.split(",") if value in options]
    if named or again:
        named = named or default
        st.session_state[key] = named if name == "methods" else named[0]
