"""The controls above the board: suggested budget, undo, goals, loading a mask, recovery, and the method's settings."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from cahp.exports.masks import read_mask
from cahp.recoveries import RECOVERIES, name_of_result
from cahp.stages.clustering import DEGREES
from cahp.studies.budget_sweep import faster_by, within_loss
from cahp.ui.budget import notes, pinned
from cahp.ui.frame.page import link
from cahp.ui.parts.display import plain
from cahp.ui.session.explorer import Explorer
from cahp.values import BudgetError, CahpError

#: Session keys: the kind of goal, and the number of goals so far.
_GOAL, _GOALS = "budget-goal", "budget-goals-asked"
#: Settings of the method that have names for their values.
_CHOICES = {
    "projection": ("Projection", {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "none (all features)"}),
    "salience": ("Salience", {"batch": "per batch (as published)", "example": "per example"}),
    "representative": ("A cluster keeps", {"salience": "its most salient head", "medoid": "its medoid"}),
}


def draw(explorer: Explorer) -> None:
    """Draw the row of controls."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="board-controls"):
        board, suggested = explorer.board, explorer.choices().suggested
        choice = "No clear choice" if suggested is None else f"CAHP's choice: {suggested.mask.count}"
        knee = "The number of clusters at which the published rule stops: the knee of the silhouette curve"
        for label, key, disabled, act, about in (
            (choice, "board-auto", board.auto or suggested is None, partial(board.set_budget, None), knee),
            ("Undo", "board-undo", not board.can_undo, board.undo, None),
            ("Reset", "board-reset", not board.by_hand, board.reset, "Restore the heads of the budget"),
        ):
            if st.button(label, key=key, disabled=disabled, help=about):
                notes.clear()
                act()
                st.rerun()
        # A new key closes the panel; the answer appears under the headline.
        with st.popover("Set a goal", key=f"goals-{st.session_state.get(_GOALS, 0)}"):
            _draw_goals(explorer)
        with st.popover("Load a mask", key="load-mask"):
            _draw_upload(explorer)
        _draw_recovery(explorer)
        pinned.draw_button(explorer)
        link("export", "Export →")


def _draw_recovery(explorer: Explorer) -> None:
    def change() -> None:
        notes.clear()
        explorer.recover = st.session_state["board-recover"]

    st.session_state["board-recover"] = explorer.recover
    st.segmented_control(
        "Recovery",
        [row.name for row in RECOVERIES.values() if row.on_board],
        required=True,
        key="board-recover",
        format_func=name_of_result,
        on_change=change,
        disabled=bool(explorer.mask.empty_layers),
        help="A refit solves each layer's output projection in closed form on a third of the calibration texts (at "
        "least 512), without training. Distillation trains the refitted model for minutes, without labels. Each is "
        "kept only if it improves the model on held-out texts.",
        label_visibility="collapsed",
    )


def _draw_upload(explorer: Explorer) -> None:
    def load() -> None:
        file = st.session_state["mask-file"]
        if file is None:
            return
        try:
            mask, _ = read_mask(file.getvalue(), layers=explorer.card.layers, heads=explorer.card.heads)
            explorer.board.set_mask(mask)
            notes.clear()
        except CahpError as error:
            notes.write(error)

    st.file_uploader("head_mask.json or head_mask.npy", type=["json", "npy"], key="mask-file", on_change=load)


def _draw_goals(explorer: Explorer) -> None:
    goal = st.radio("Keep", ("a share of the heads", "the accuracy", "the time"), key=_GOAL, horizontal=True)
    if goal == "a share of the heads":
        value = st.number_input("Keep at most, in % of the heads", 1, 100, 20, key="goal-share")
    elif goal == "the accuracy":
        value = st.number_input("Lose at most, in points of accuracy", 0.0, 50.0, 1.0, step=0.5, key="goal-loss")
    else:
        value = st.number_input("Save at least, in % of the time", 1, 90, 20, key="goal-speed")
    if st.button("Find the budget", key="goal-apply", type="primary"):
        st.session_state[_GOALS] = st.session_state.get(_GOALS, 0) + 1
        try:
            notes.write(_reach_goal(explorer, goal, float(value)))
        except CahpError as error:
            notes.write(error)
        st.rerun()


def _reach_goal(explorer: Explorer, goal: str, value: float) -> str:
    """Put the budget that meets a goal on the board, and return the answer in words."""
    table = explorer.table(explorer.recover)
    assert table is not None
    if goal == "a share of the heads":
        budget = int(np.floor(value / 100 * table.budgets[-1] + 0.5))
        table.selection(budget)
        explorer.board.set_budget(budget)
        return ""
    row = within_loss(table, value) if goal == "the accuracy" else faster_by(table, value / 100)
    if row is None:
        raise BudgetError("No measured budget reaches this goal; measure more budgets.")
    explorer.board.set_budget(row.budget)
    if goal == "the accuracy":
        return (
            f"{row.budget} heads lose at most {value:.1f} points on these texts. The budget was chosen on them, so the "
            "figure is optimistic; check it on the test split."
        )
    how = "estimated between two timed budgets"
    if row.speed is not None:
        how = f"timed: {row.speed.ratio.text}, 95 % interval {row.speed.ratio.span}"
    return f"{row.budget} heads save at least {value:.0f} % of the time ({how})."


def draw_method(explorer: Explorer) -> None:
    """Draw the settings of the method. Results with other settings are kept."""

    def change(name: str) -> None:
        try:
            explorer.change(**{name: st.session_state[f"method-{name}"]})
        except CahpError as error:
            notes.write(error)

    def draw_setting(widget: Any, label: str, name: str, *args: Any, **options: Any) -> None:
        key = f"method-{name}"
        st.session_state[key] = getattr(explorer.settings, name)
        widget(label, *args, key=key, on_change=change, args=(name,), **options)

    draw_setting(
        st.slider,
        "Polynomial degree of the curve",
        "poly_degree",
        DEGREES.start,
        DEGREES.stop - 1,
        help="The only setting of the published method. A low degree puts the knee later and keeps more heads.",
    )
    draw_setting(st.number_input, "Heads kept in every layer, at least", "min_per_layer", 0, explorer.card.heads)
    for name, (label, words) in _CHOICES.items():
        draw_setting(st.selectbox, label, name, list(words), format_func=words.__getitem__)
    clusters = explorer.clusters
    if clusters is not None:
        knee, rule = clusters.clustering.knee, clusters.clustering.knee_rule
        st.caption("The curve has no knee." if rule == "none" else f"The knee is at {knee} ({plain(rule)}).")
    if explorer.results.run is None:
        st.caption("A change needs a run on this machine; cached results are reused.")
