"""The controls above the board: suggested budget, undo, goals, loading a mask, recovery, and the method's settings."""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from cahp import features, methods
from cahp.api import bundled
from cahp.board.budget_sweep import reach
from cahp.exports.masks import MASK_SUFFIXES, read_mask
from cahp.goals import ENOUGH, GOALS, Goal, GoalKind
from cahp.outcomes import OUTCOMES
from cahp.recoveries import QUICK, RECOVERIES
from cahp.run.settings import Settings, describe
from cahp.stages.clustering import NO_KNEE
from cahp.ui.frame.board import draw_no_refit
from cahp.ui.frame.running import follow
from cahp.ui.frame.selection import draw_evenness, draw_setting
from cahp.ui.parts.display import clear_note, note_refusal, plain, write_note
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import CHOICE, REFIT
from cahp.values import CahpError
from cahp.values.statistics import Clustering

#: Session keys: the kind of goal, and the number of goals so far.
_GOAL = "budget-goal"
_GOALS = "budget-goals-asked"
_WHY = "The fewest heads that keep 95 % agreement with the full model after a refit, on these texts"
#: The kind of goal that needs no measurement.
_SHARE = "share"
#: The method that is offered first beside CAHP.
_SUGGESTED = "obs-fisher"
#: Key of the board's mask when another method was asked.
_BEFORE = "choice.before"
#: Settings of the method that have names for their values.
_CHOICES = {
    "projection": ("Projection", {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "none (all features)"}),
    "salience": ("Salience", {"batch": "per batch (as published)", "example": "per example"}),
    "representative": ("A cluster keeps", {"salience": "its most salient head", "medoid": "its medoid"}),
}


def draw(explorer: Explorer) -> None:
    """Draw the row of controls."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="board-controls"):
        enough = _enough_after_refit(explorer)
        if enough is not None:
            label = f"{ENOUGH.amount:g} % agreement: {enough}"
            if st.button(label, key="board-enough", help=_WHY):
                clear_note()
                _keep_enough(explorer, enough)
                st.rerun()
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


def _keep_enough(explorer: Explorer, budget: int) -> None:
    """Put the heads on the board that suffice after a refit, with the refit."""
    explorer.chosen_recovery = QUICK.name
    explorer.board.set_budget(budget)


def _enough_after_refit(explorer: Explorer) -> int | None:
    """Return the fewest heads that keep the full model's predictions after a refit (None: not measured)."""
    table = explorer.table(QUICK.name)
    if table is None or table.measured()[0] < len(table.budgets):
        return None
    return reach(table, ENOUGH).heads


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
        if file is None:
            return
        with note_refusal():
            mask = read_mask(file.getvalue(), layers=explorer.card.layers, heads=explorer.card.heads)
            explorer.board.set_mask(mask)

    st.file_uploader(
        "head_mask.json, head_mask.npy or head_mask.pt", type=[*MASK_SUFFIXES], key="mask-file", on_change=load
    )


def _draw_goals(explorer: Explorer) -> None:
    offered = {name: kind for name, kind in GOALS.items() if _can_reach(explorer, kind)}
    labels = {
        _SHARE: f"A share of the {explorer.card.unit}s (%, the nearest number)",
        **{name: kind.label for name, kind in offered.items()},
    }
    name = st.radio("Keep or save", list(labels), key=_GOAL, format_func=lambda name: labels[name])
    kind = GOALS.get(name)
    default = 20.0
    highest = 100.0
    step = 1.0
    if kind is not None:
        default = kind.default
        highest = kind.highest
        step = kind.step
    # A goal of 0 would be reached by noise, or by nothing.
    amount = st.number_input(labels[name], step, highest, default, step=step, key=f"goal-{name}")
    if st.button("Find the budget", key="goal-apply", type="primary"):
        st.session_state[_GOALS] = st.session_state.get(_GOALS, 0) + 1
        with note_refusal():
            if kind is None:
                _keep_share(explorer, amount)
            else:
                write_note(_reach_goal(explorer, Goal(kind, amount)))
        st.rerun()


def _can_reach(explorer: Explorer, kind: GoalKind) -> bool:
    """Whether a goal is about something that this model's table of budgets has."""
    if kind.outcome is None:
        return kind.saves == explorer.card.saves
    return explorer.bench.evaluation.labelled or not OUTCOMES[kind.outcome].needs_labels


def _keep_share(explorer: Explorer, percent: float) -> None:
    """Put the budget that is nearest to this share of the heads on the board, as ``--budget`` rounds it."""
    table = explorer.table()
    assert table is not None
    wanted = int(np.floor(percent / 100 * table.budgets[-1] + 0.5))
    if wanted < table.budgets[0]:
        table.selection(wanted)
    explorer.board.set_budget(table.nearest(wanted).mask.count)


def _reach_goal(explorer: Explorer, goal: Goal) -> str:
    """Put the budget that reaches a goal on the board, and return the answer in words."""
    table = explorer.table(explorer.chosen_recovery or explorer.swept)
    assert table is not None
    reached = reach(table, goal, explorer.card)
    explorer.board.set_budget(reached.heads)
    kept = f"{reached.heads} {explorer.card.unit}s"
    if goal.is_counted:
        return f"{kept} are the most {goal.words}: {reached.estimate} the full model's bytes."
    which = "the most" if goal.wants_most else "the fewest"
    finding = f"{kept} are {which} {goal.words}"
    if goal.kind.outcome:
        finding += f" {RECOVERIES[table.recover].beside}"
    estimate = reached.estimate
    return (
        f"{finding}: {estimate.text} ({estimate.span}); {reached.measured} of {reached.budgets} budgets are measured. "
        "The budget was chosen on these texts, so the figure is optimistic; check it on the test split."
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
    clusters = explorer.clusters
    if clusters is not None:
        st.caption(_describe_knee(clusters.clustering))
    if explorer.results.run is None:
        st.caption("A change needs a run on this machine; cached results are reused.")
        return
    _draw_other_method(explorer)


def _describe_knee(curve: Clustering) -> str:
    if curve.knee_rule == NO_KNEE:
        return "The curve has no knee."
    return f"The published rule stops at {curve.knee}, the knee of the curve ({plain(curve.knee_rule)})."


def offered_methods(*, labelled: bool) -> list[str]:
    """Return the methods besides CAHP that choose heads without training gates, and without labels where none are."""
    facts = {name: methods.facts(name) for name in methods.names() if name != Settings.method}
    return [
        name
        for name, row in facts.items()
        if not row.learned and not row.expensive and (labelled or row.labels != "needed")
    ]


def _draw_other_method(explorer: Explorer) -> None:
    names = offered_methods(labelled=explorer.bench.calibration.labelled)
    st.divider()
    name = st.selectbox("Another method", names, index=names.index(_SUGGESTED), key="other-method")
    if st.button("Keep as many heads by this method", key="choose-by"):
        _start_choice(explorer, name, explorer.board.budget)
    st.caption("It replaces the mask on the board; the curves stay those of CAHP.")


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
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="better-method"):
        st.caption(f"{plain(words)}.")
        if st.button(f"Keep {kept} {card.unit}s by {name}", key="choose-better"):
            _start_choice(explorer, name, kept)


def _start_choice(explorer: Explorer, name: str, count: int) -> None:
    explorer.memory[_BEFORE] = explorer.mask.sha256
    explorer.work.start(CHOICE, (explorer.bench, name, count))
    st.rerun()


def collect_choice(explorer: Explorer) -> None:
    """Show the progress of another method, and put the heads that it has chosen on the board.

    A board that a person has changed since stays as it is.
    """
    job = explorer.work.job(CHOICE)
    if job is None or not job.ended:
        if job is not None:
            follow(job, name="choice")
        return
    explorer.work.drop(CHOICE)
    before = explorer.memory.pop(_BEFORE, None)
    if job.error:
        write_note(CahpError(job.error))
    elif job.result is not None:
        name, mask = job.result
        if before not in (None, explorer.mask.sha256):
            units = f"{mask.count} {explorer.card.unit}s"
            write_note(f"{name} has chosen {units}, but the board was changed since; choose again to take them.")
            return
        with note_refusal():
            explorer.board.set_mask(mask, method=name)
            write_note(f"{name} keeps these {mask.count} {explorer.card.unit}s.")
