"""The controls above the board: suggested budget, undo, goals, loading a mask, recovery, and the method's settings."""

from __future__ import annotations

from functools import partial

import streamlit as st

from cahp import features, methods
from cahp.api import bundled
from cahp.board.budget_sweep import reach
from cahp.exports.masks import MASK_SUFFIXES, read_mask
from cahp.goals import GOALS, Goal, GoalKind
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.run.settings import Settings, describe
from cahp.ui.frame.board import draw_no_refit
from cahp.ui.frame.running import follow
from cahp.ui.frame.selection import draw_evenness, draw_setting
from cahp.ui.parts.display import clear_note, note_refusal, plain, write_note
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import CHOICE, REFIT
from cahp.values import CahpError

#: Session key: the number of goals so far.
_GOALS = "budget-goals-asked"
#: The method that is offered first beside CAHP.
_SUGGESTED = "obs-fisher"
#: Settings of the method that have names for their values.
_CHOICES = {
    "projection": ("Projection", {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "none (all features)"}),
    "salience": ("Salience", {"batch": "per batch (as published)", "example": "per example"}),
    "representative": ("A cluster keeps", {"salience": "its most salient head", "medoid": "its medoid"}),
}


def draw(explorer: Explorer) -> None:
    """Draw the row of controls."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="board-controls"):
        # A new key closes the panel; the answer appears under the headline.
        with st.popover("Set a goal", key=f"goals-{st.session_state.get(_GOALS, 0)}"):
            _draw_goals(explorer)
        with st.popover("Load a mask", key="load-mask"):
            _draw_upload(explorer)
        _draw_recovery(explorer)
        for panel in features.panels("Budget"):
            if panel.tool is not None:
                panel.tool(explorer)
    draw_no_refit(explorer)


def _draw_recovery(explorer: Explorer) -> None:
    def change() -> None:
        clear_note()
        explorer.chosen_recovery = st.session_state["board-recover"]
        if explorer.stopped_refit is not None:
            # A press begins it again.
            explorer.work.drop(REFIT)

    set_value("board-recover", explorer.recovery.name)
    st.segmented_control(
        "Recovery",
        explorer.recoveries,
        required=True,
        key="board-recover",
        format_func=lambda name: RECOVERIES[name].word,
        on_change=change,
        help="A refit computes the output projection of each layer again, in closed form, on a third of the "
        "calibration texts (at least 512). Distillation then trains the refitted model for minutes, without labels. "
        "Each result is kept only if it improves the model on held-out texts.",
        label_visibility="collapsed",
    )


def _draw_upload(explorer: Explorer) -> None:
    def load() -> None:
        file = st.session_state["mask-file"]
        if file is not None:
            with note_refusal():
                mask = read_mask(file.getvalue(), layers=explorer.card.layers, heads=explorer.card.heads)
                explorer.board.set_mask(mask)

    st.file_uploader(
        "head_mask.json, head_mask.npy or head_mask.pt", type=[*MASK_SUFFIXES], key="mask-file", on_change=load
    )


def _draw_goals(explorer: Explorer) -> None:
    offered = [name for name, kind in GOALS.items() if _can_reach(explorer, kind)]
    name = st.radio("Keep or save", offered, key="budget-goal", format_func=lambda name: GOALS[name].label)
    kind = GOALS[name]
    # A goal of 0 would be reached by noise, or by nothing.
    amount = st.number_input("Amount", kind.step, kind.highest, kind.default, step=kind.step, key=f"goal-{name}")
    if st.button("Find the budget", key="goal-apply", type="primary"):
        st.session_state[_GOALS] = st.session_state.get(_GOALS, 0) + 1
        with note_refusal():
            write_note(_reach_goal(explorer, Goal(kind, amount)))
        st.rerun()


def _can_reach(explorer: Explorer, kind: GoalKind) -> bool:
    """Whether a goal is about something that this model's table of budgets has."""
    if kind.outcome is None:
        return kind.saves == explorer.card.saves
    return explorer.bench.evaluation.labelled or not OUTCOMES[kind.outcome].needs_labels


def _reach_goal(explorer: Explorer, goal: Goal) -> str:
    """Put the budget that reaches a goal on the board, and return the answer in words."""
    table = explorer.table(explorer.chosen_recovery or explorer.swept)
    assert table is not None
    reached = reach(table, goal, explorer.card)
    explorer.board.set_budget(reached.heads)
    which = "the most" if goal.wants_most else "the fewest"
    finding = f"{reached.heads} {explorer.card.unit}s are {which} {goal.words}: {reached.estimate.text}"
    if goal.is_counted:
        return f"{finding}."
    return (
        f"{finding} ({reached.estimate.span}; {RECOVERIES[table.recover].beside}); {reached.measured} of "
        f"{reached.budgets} budgets are measured. The budget was chosen on these texts, so the figure is optimistic."
    )


def draw_method(explorer: Explorer) -> None:
    """Draw the settings of the method. Results with other settings are kept."""
    draw_here = partial(draw_setting, explorer, place="method")
    degree = describe()["poly_degree"]
    draw_here(
        st.slider,
        "Polynomial degree of the curve",
        "poly_degree",
        degree.low,
        degree.high,
        help="The only setting of the published method. A low degree puts the knee later and keeps more heads.",
    )
    draw_here(st.number_input, "Heads kept in every layer, at least", "min_per_layer", 0, explorer.card.heads)
    draw_here(st.number_input, "Heads kept in layers 0 and 1, at least", "min_first_layers", 0, explorer.card.heads)
    draw_evenness(explorer, place="method")
    for name, (label, words) in _CHOICES.items():
        draw_here(st.selectbox, label, name, list(words), format_func=words.__getitem__)
    if explorer.results.run is None:
        st.caption("A change needs a run on this machine; cached results are reused.")
        return
    st.divider()
    names = offered_methods(labelled=explorer.bench.calibration.labelled)
    name = st.selectbox("Another method", names, index=names.index(_SUGGESTED), key="other-method")
    if st.button("Keep as many heads by this method", key="choose-by"):
        _start_choice(explorer, name)


def offered_methods(*, labelled: bool) -> list[str]:
    """Return the methods besides CAHP that choose heads without training gates, and without labels where none are."""
    facts = {name: methods.facts(name) for name in methods.names() if name != Settings.method}
    return [
        name
        for name, row in facts.items()
        if not row.learned and not row.expensive and (labelled or row.labels != "needed")
    ]


def offer_better_method(explorer: Explorer) -> None:
    """Say if another method is measurably better than CAHP for this model and these data, with a button to take it."""
    card = explorer.card
    kept = explorer.mask.count
    better = bundled.describe_better_method(
        card.id, card.identity, explorer.bench.dataset.id, explorer.recovery.name, kept
    )
    if better is None or explorer.board.by_hand or explorer.work.job(CHOICE) is not None:
        return
    name, words = better
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"{plain(words)}.")
        if st.button(f"Keep {kept} {card.unit}s by {name}", key="choose-better"):
            _start_choice(explorer, name)


def _start_choice(explorer: Explorer, name: str) -> None:
    explorer.work.start(CHOICE, (explorer.bench, name, explorer.board.budget))
    st.rerun()


def collect_choice(explorer: Explorer) -> None:
    """Show the progress of another method, and put the heads that it has chosen on the board."""
    job = explorer.work.job(CHOICE)
    if job is None:
        return
    if not job.ended:
        follow(job, name="choice")
        return
    explorer.work.drop(CHOICE)
    with note_refusal():
        if job.error:
            raise CahpError(job.error)
        if job.result is not None:
            name, mask = job.result
            explorer.board.set_mask(mask, method=name)
            write_note(f"{name} keeps these {mask.count} {explorer.card.unit}s.")
