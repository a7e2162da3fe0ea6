"""What moves the board: the knee's own budget, goals, masks that people bring, and what recovers a pruned model."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cahp.exports.masks import read_mask
from cahp.recoveries import RECOVERIES, name_of_result
from cahp.studies.budget_sweep import faster_by, within_loss
from cahp.ui.budget import notes, pinned
from cahp.ui.frame.page import link
from cahp.ui.session.explorer import Explorer
from cahp.values import BudgetError, CahpError

#: Session keys: the kind of goal, and how often one was asked for.
_GOAL, _ASKED = "budget-goal", "budget-goals-asked"


def draw(explorer: Explorer) -> None:
    """One row of them."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="board-controls"):
        suggested = explorer.choices().suggested
        label = "No knee to follow" if suggested is None else f"Auto: {suggested.mask.count}"
        if st.button(
            label,
            key="board-auto",
            disabled=explorer.board.auto or suggested is None,
            help="CAHP's own choice: as many heads as there are clusters at the knee of the silhouette's curve",
        ):
            notes.forget()
            explorer.board.set_budget(None)
            st.rerun()
        if st.button("Undo", key="board-undo", disabled=not explorer.board.can_undo):
            notes.forget()
            explorer.board.undo()
            st.rerun()
        if st.button(
            "Reset", key="board-reset", disabled=not explorer.board.by_hand, help="Back to the budget's own heads"
        ):
            notes.forget()
            explorer.board.reset()
            st.rerun()
        # Another key is another panel, which is closed: the answer stands under the headline.
        with st.popover("By a goal", key=f"goals-{st.session_state.get(_ASKED, 0)}"):
            _goals(explorer)
        with st.popover("Load a mask", key="load-mask"):
            _load(explorer)
        _recovery(explorer)
        pinned.button(explorer)
        link("export", "Take it home →")


def _recovery(explorer: Explorer) -> None:
    def chosen() -> None:
        notes.forget()
        explorer.recover = st.session_state["board-recover"]

    st.session_state["board-recover"] = explorer.recover
    st.segmented_control(
        "Recovery",
        [row.name for row in RECOVERIES.values() if row.on_board],
        required=True,
        key="board-recover",
        format_func=name_of_result,
        on_change=chosen,
        disabled=bool(explorer.mask.empty_layers),
        help="Refit solves each layer's output projection anew on a third of the calibration texts (at least 512), "
        "without labels and without training. Distilling trains the refitted model for minutes, without labels "
        "either. Each is kept only if held-out texts agree.",
        label_visibility="collapsed",
    )


def _load(explorer: Explorer) -> None:
    def brought() -> None:
        file = st.session_state["mask-file"]
        if file is None:
            return
        try:
            mask, _ = read_mask(file.getvalue(), layers=explorer.card.layers, heads=explorer.card.heads)
            explorer.board.set_mask(mask)
            notes.forget()
        except CahpError as error:
            notes.refuse(error)

    st.file_uploader("head_mask.json or head_mask.npy", type=["json", "npy"], key="mask-file", on_change=brought)


def _goals(explorer: Explorer) -> None:
    goal = st.radio("Keep", ("a share of the heads", "the accuracy", "the time"), key=_GOAL, horizontal=True)
    if goal == "a share of the heads":
        value = st.number_input("Per cent of the heads", 1, 100, 20, key="goal-share")
    elif goal == "the accuracy":
        value = st.number_input("Lose at most, in points", 0.0, 50.0, 1.0, step=0.5, key="goal-loss")
    else:
        value = st.number_input("Be faster by at least, in per cent", 1, 90, 20, key="goal-speed")
    if st.button("Find the budget", key="goal-apply", type="primary"):
        st.session_state[_ASKED] = st.session_state.get(_ASKED, 0) + 1
        try:
            notes.answer(_reach(explorer, goal, float(value)))
        except CahpError as error:
            notes.refuse(error)
        st.rerun()


def _reach(explorer: Explorer, goal: str, value: float) -> str:
    """Put the budget that meets a goal on the board; the answer in words."""
    table = explorer.table(explorer.recover)
    assert table is not None
    if goal == "a share of the heads":
        budget = int(np.floor(value / 100 * table.budgets[-1] + 0.5))
        table.selection(budget)
        explorer.board.set_budget(budget)
        return ""
    found = within_loss(table, value) if goal == "the accuracy" else faster_by(table, value / 100)
    if found is None:
        raise BudgetError("No budget that was measured so far reaches this goal; let more budgets be measured first.")
    explorer.board.set_budget(found.budget)
    if goal == "the accuracy":
        return (
            f"{found.budget} heads lose at most {value:.1f} points on these texts. They chose the budget, so the "
            "figure is optimistic: the test split, which chose nothing, can confirm it."
        )
    how = "estimated between two budgets that were timed"
    if found.speed is not None:
        how = f"timed: {found.speed.ratio.text}, 95 % interval {found.speed.ratio.span}"
    return f"{found.budget} heads save at least {value:.0f} % of the time ({how})."
