"""The Budget page: the board, the controls above it, and the tabs below it."""

from functools import partial

import numpy as np
import streamlit as st

from cahp import features, methods
from cahp.api import bundled
from cahp.board.budget_sweep import reach
from cahp.board.colourings import mark_clusters
from cahp.exports.masks import MASK_SUFFIXES, read_mask, read_mask_record
from cahp.figures.head_grid import places
from cahp.figures.run import space_figure
from cahp.goals import GOALS, Goal
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.run.settings import Settings, describe
from cahp.run.show import show_steps
from cahp.stages.clustering import grid_notice
from cahp.ui.frame import address, board
from cahp.ui.frame.page import provenance
from cahp.ui.frame.panels import Panel, list_tabs
from cahp.ui.frame.running import (
    draw_evenness,
    draw_knee,
    draw_setting,
    draw_timing,
    follow,
    job_card,
    need_run,
    poll,
)
from cahp.ui.parts import blocks, display
from cahp.ui.parts.display import clear_note, note_refusal, plain, write_note
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import CHOICE, DISTIL, FIGURE, FLIPS, REFIT, TABLE
from cahp.values import CahpError, MaskError
from cahp.words import capital

# The controls above the board --------------------------------------------------------------------------------

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


def draw_controls(explorer: Explorer) -> None:
    """Draw the row of controls."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="board-controls"):
        # A new key closes the panel; the answer appears under the headline.
        with st.popover("Set a goal", key=f"goals-{st.session_state.get(_GOALS, 0)}"):
            _draw_goals(explorer)
        with st.popover("Load a mask", key="load-mask"):
            label = "head_mask.json, .npy, .pt, .csv or .tsv"
            load = partial(_load_mask, explorer)
            st.file_uploader(label, type=[*MASK_SUFFIXES], key="mask-file", on_change=load)
        set_value("board-recover", explorer.recovery.name)
        st.segmented_control(
            "Recovery",
            explorer.recoveries,
            required=True,
            key="board-recover",
            format_func=lambda name: RECOVERIES[name].word,
            on_change=partial(_change_recovery, explorer),
            help="A refit computes the output projection of each layer again, in closed form, on a third of the "
            "calibration texts (at least 512). A bypass adds what the words tell, by linear functions beside the kept "
            "heads of layers that lost some. Distillation trains the refitted model for minutes, without labels. Each "
            "result is kept only if it improves the model on held-out texts.",
            label_visibility="collapsed",
        )
        for panel in features.panels("Budget"):
            if panel.tool is not None:
                panel.tool(explorer)
    board.draw_no_refit(explorer)


def _change_recovery(explorer: Explorer) -> None:
    clear_note()
    explorer.chosen_recovery = st.session_state["board-recover"]


def _load_mask(explorer: Explorer) -> None:
    file = st.session_state["mask-file"]
    if file is not None:
        with note_refusal():
            data = file.getvalue()
            mask = read_mask(data, layers=explorer.card.layers, heads=explorer.card.heads)
            if read_mask_record(data).get("model_sha256") not in (None, explorer.card.origin):
                raise MaskError("The mask was made for another model. Open that model, then load the mask again.")
            explorer.board.set_mask(mask)


def _draw_goals(explorer: Explorer) -> None:
    """Draw the goals that this model's table of budgets can tell of, and the button that finds the budget of one."""
    labelled = explorer.bench.evaluation.labelled
    offered = []
    for name, kind in GOALS.items():
        possible = kind.saves == explorer.card.saves
        if kind.outcome is not None:
            possible = labelled or not OUTCOMES[kind.outcome].needs_labels
        if possible:
            offered.append(name)
    name = st.radio("Keep or save", offered, key="budget-goal", format_func=lambda name: GOALS[name].label)
    kind = GOALS[name]
    # A goal of 0 would be reached by noise, or by nothing.
    amount = st.number_input("Amount", kind.step, kind.highest, kind.default, step=kind.step, key=f"goal-{name}")
    if st.button("Find the budget", key="goal-apply", type="primary"):
        st.session_state[_GOALS] = st.session_state.get(_GOALS, 0) + 1
        with note_refusal():
            write_note(_reach_goal(explorer, Goal(kind, amount)))
        st.rerun()


def _reach_goal(explorer: Explorer, goal: Goal) -> str:
    """Put the budget that reaches a goal on the board, and return the answer in words."""
    table = explorer.board_state(explorer.chosen_recovery or explorer.swept).need_table
    reached = reach(table, goal, explorer.card)
    explorer.board.set_budget(reached.heads)
    units = f"{reached.heads} {explorer.card.unit}s {goal.words}: {reached.estimate.text}"
    if goal.is_counted:
        return f"{units}. They are {reached.choice}."
    return (
        f"{units} ({reached.estimate.span}; {RECOVERIES[table.recover].beside}). They are {reached.choice}. The budget "
        "was chosen on these texts, so the figure is optimistic."
    )


def draw_method(explorer: Explorer) -> None:
    """Draw the settings of the method. Results with other settings are kept."""
    draw_here = partial(draw_setting, explorer)
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
    draw_evenness(explorer)
    for name, (label, words) in _CHOICES.items():
        draw_here(st.selectbox, label, name, list(words), format_func=words.__getitem__)
    if explorer.results.run is None:
        st.caption("A change needs a run on this machine; cached results are reused.")
        return
    st.divider()
    names = offered_methods(labelled=explorer.bench.calibration.labelled)
    name = st.selectbox("Another method", names, index=names.index(_SUGGESTED), key="other-method")
    if st.button("Keep as many heads by this method", key="choose-by"):
        explorer.work.start(CHOICE, (explorer.bench, name, explorer.board.budget))
        st.rerun()


def offered_methods(*, labelled: bool) -> list[str]:
    """Return the methods besides CAHP that choose heads without training gates, and without labels where none are."""
    names = []
    for name in methods.names():
        row = methods.facts(name)
        possible = not (row.learned or row.expensive) and (labelled or row.labels != "needed")
        if possible and name != Settings.method:
            names.append(name)
    return names


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


# The tabs below the board ------------------------------------------------------------------------------------


def draw_space(explorer: Explorer) -> None:
    """Draw all heads in the plane in which they are clustered, coloured by cluster."""
    clusters = explorer.clusters
    assert clusters is not None
    labels = explorer.board.labels
    marks = mark_clusters(labels, clusters.families)
    mask = explorer.mask
    unit = explorer.card.unit

    def open_card(head: int) -> None:
        explorer.selected = head
        explorer.card_head = head

    display.show(
        space_figure(
            clusters.embedding,
            clusters.salience,
            marks,
            mask,
            explorer.settings,
            unit=unit,
            dark=display.is_dark(),
        ),
        title=f"{mask.count} kept {unit}s among {len(np.unique(labels))} clusters",
        help=f"Each point is a {unit}. Those that {explorer.card.words.likeness} lie close together. "
        "Letter: cluster. Colour: family of clusters, the same at every budget. Size: salience. Solid: kept; light: "
        "pruned; ring: the most salient head of its cluster. Crossed: a family that shares its colour with a larger "
        "one. Click a point to open its card.",
        name="space",
        data={
            **places(clusters.layers, clusters.heads),
            "x": clusters.embedding[:, 0].tolist(),
            "y": clusters.embedding[:, 1].tolist(),
            "cluster": marks.names,
            "salience": clusters.salience.ravel().tolist(),
            "kept": mask.keep.ravel().astype(int).tolist(),
        },
        on_pick=open_card,
    )


def draw_flips(explorer: Explorer) -> None:
    """Draw the texts whose prediction changes under the mask, on request."""
    if explorer.recovery.lacks_model:
        st.caption("Distil this mask first (above).")
        return
    subject = explorer.board_state(explorer.recovery.ready)
    offer = "Show predictions that change under this mask"
    compared = job_card(explorer, FLIPS, subject, name="show-flips", title="Comparing predictions", offer=offer)
    if compared is None:
        return
    texts = explorer.bench.evaluation
    differ, total = compared.counts
    finding = f"{differ:,} of {total:,} predictions changed"
    if texts.labelled:
        lost, won = compared.right_alone
        finding += f": {lost} became wrong, {won} became right, {differ - lost - won} stayed wrong"
    st.markdown(f"**{finding}.**")
    if differ:
        everything = f"all {explorer.card.unit}s"
        table = compared.table(texts, everything, "this mask", classes=explorer.bench.class_names)
        display.show_texts(table)
        for name in texts.task.unshared:
            del table[name]
        display.download_csv(table, "changed-answers")


# What is measured for the board ------------------------------------------------------------------------------


def draw_measurements(explorer: Explorer) -> None:
    """Draw what can be measured for the board, how far it is, and why it was not."""
    recovery = explorer.recovery
    subject = explorer.board_state()
    table = subject.need_table
    with st.container(horizontal=True, vertical_alignment="center"):
        sweep = explorer.work.job(TABLE)
        # Another sweep that is in progress ends first.
        free = sweep is None or sweep.ended or sweep is explorer.work.job(TABLE, subject)
        if free and table.missing() is not None:
            job_card(explorer, TABLE, subject, name="fill-table", offer="Measure all budgets", type="tertiary")
            done, total = table.measured()
            st.caption(f"{done} of {total} budgets measured.")
        if recovery.awaits_refit:
            offer = f"{recovery.row.word.capitalize()} this mask"
            title = capital(recovery.row.noun)
            job_card(explorer, REFIT, subject, name="refit", title=title, offer=offer, type="tertiary")
        draw_timing(explorer)
        if recovery.row.adds_bypass:
            added = explorer.card.describe_bypass(explorer.mask, explorer.bypass_rank)
            st.caption(f"A bypass {added}.")
        st.caption(provenance(explorer, recovery.shown))


def draw_distillation(explorer: Explorer) -> None:
    """Draw the panel of the distillation, where a distilled model is wanted: its offer, its progress or its steps."""
    known = explorer.results.distilled.get(explorer.mask.sha256)
    if not explorer.recovery.row.trains or explorer.mask.is_full:
        return
    with st.container(border=True, key="distilling"):
        st.caption("The refitted model is trained to reproduce the scores of the full model, without labels.")
        search = explorer.job(FIGURE)
        if known is not None:
            report, steps = known
            verdict = "accepted" if report.accepted else "rejected"
            st.caption(f"Distillation {verdict}: {report.reason}.")
            blocks.draw(show_steps(steps))
        elif search is not None and not search.ended:
            st.caption("Checking for an existing distilled model…")
        elif explorer.recovery.lacks_model:
            label = "Distil this mask"
            if explorer.recovery.awaits == "distilled model":
                label = "Distil here: the figures are bundled, the model is not on this machine"
            job_card(explorer, DISTIL, explorer.board_state(), name="distil", offer=label)


# The page ----------------------------------------------------------------------------------------------------

#: What can be shown below the board, beside what features bring.
_PANELS = (
    Panel("Where heads lie", draw_space, place=20),
    Panel("Changed answers", draw_flips, place=11),
    Panel("Published rule", draw_knee, place=70),
)
#: The field of the address, and the key of the tabs.
_FIELD = "panel"
_TABS = "board-detail"
#: How many tabs are always seen, and the label of that which leads to the others.
_FIRST = 3
_MORE = "More"


def list_panels() -> list[Panel]:
    """Return the tabs below the board, in their order; the first ones are always seen, the others one step away."""
    return sorted((*_PANELS, *features.panels("Budget"), *list_tabs()), key=lambda panel: panel.place)


def _find_tab(explorer: Explorer) -> str:
    """Return the label of the tab that is open, or of that which leads to the others."""
    if explorer.detail in [panel.label for panel in list_panels()[:_FIRST]]:
        return explorer.detail
    return _MORE


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("How many heads are enough?", width="content")
        with st.popover("How heads are chosen", key="method"):
            draw_method(explorer)
    need_run(explorer)
    swept = grid_notice(explorer.card.total)
    if swept is not None:
        st.caption(f"With so many heads, {swept}.")
    board.warm(explorer)
    # A link opens a tab, such as that of a person's own text (never with a text), unless another tab was opened since.
    # The fragment must not read it: its runs may still have the address from before a click on a tab.
    if st.session_state.get(_TABS) in (None, _find_tab(explorer)):
        linked = st.query_params.get(_FIELD, "")
        for panel in list_panels():
            if panel.name and panel.name == linked:
                explorer.detail = panel.label
    poll(explorer, _draw)


def _draw(explorer: Explorer) -> None:
    collect_choice(explorer)
    address.write(explorer)
    board.measure(explorer)
    draw_controls(explorer)
    draw_distillation(explorer)
    with st.container(key=board.finding_key(explorer)):
        board.draw_finding(explorer, board.describe_change)
    board.draw(explorer, board.describe_change)
    for panel in features.panels("Board"):
        panel.draw(explorer)
    draw_measurements(explorer)
    if not explorer.board.by_hand:
        card = explorer.card
        data = explorer.bench.dataset.id
        name = explorer.recovery.name
        better = bundled.describe_better_method(card.id, card.identity, data, name, explorer.mask.count)
        if better is not None:
            st.caption(f"{plain(better)}. Another method is under “How heads are chosen”.")

    panels = {panel.label: panel for panel in list_panels()}
    first, more = list(panels)[:_FIRST], list(panels)[_FIRST:]

    def open_tab(key: str) -> None:
        chosen = st.session_state[key]
        if chosen == _MORE:
            chosen = more[0]
        explorer.detail = chosen
        st.query_params.pop(_FIELD, None)

    for key, value, labels in ((_TABS, _find_tab(explorer), (*first, _MORE)), ("board-more", explorer.detail, more)):
        # The others are seen once they are asked for.
        if value in labels:
            set_value(key, value)
            st.segmented_control(
                key, labels, required=True, key=key, on_change=open_tab, args=(key,), label_visibility="collapsed"
            )
    tab = panels[explorer.detail]
    linked = tab.name
    if explorer.detail == first[0]:
        # It opens without a link.
        linked = ""
    address.put(_FIELD, linked)
    tab.draw(explorer)
