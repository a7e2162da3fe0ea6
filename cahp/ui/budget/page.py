"""The Budget page: the board, its controls, and the tabs below it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from cahp import features
from cahp.board.colourings import mark_clusters
from cahp.figures.head_grid import places
from cahp.figures.run import space_figure
from cahp.recoveries import QUICK
from cahp.run.resources import on_screen
from cahp.run.show import show_steps
from cahp.stages.clustering import grid_notice
from cahp.ui.budget import controls
from cahp.ui.frame import address, board
from cahp.ui.frame.page import provenance
from cahp.ui.frame.panels import Panel, list_tabs
from cahp.ui.frame.running import draw_timing, follow, job_card, need_run, price, show_job, start_button
from cahp.ui.frame.selection import draw_knee
from cahp.ui.parts import blocks, display
from cahp.ui.parts.display import problem
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import DISTIL, FIGURE, FLIPS, REFIT, TABLE, recovery_seconds

# The tabs below the board ------------------------------------------------------------------------------------


def draw_space(explorer: Explorer) -> None:
    """Draw all heads in the plane in which they are clustered, coloured by cluster."""
    clusters = explorer.clusters
    assert clusters is not None
    labels = explorer.board.labels
    mask = explorer.mask
    unit = explorer.card.unit
    head = explorer.selected
    lit = None
    if head is not None and head < len(labels):
        lit = int(np.argmax(labels == labels[head]))

    def open_card(head: int) -> None:
        explorer.selected = head
        explorer.card_head = head

    data = {
        **places(clusters.layers, clusters.heads),
        "x": clusters.embedding[:, 0].tolist(),
        "y": clusters.embedding[:, 1].tolist(),
        "cluster": clusters.names(labels),
        "salience": clusters.salience.ravel().tolist(),
        "kept": mask.keep.ravel().astype(int).tolist(),
    }
    shares = explorer.replaceable_shares
    if shares is not None:
        data[f"reproduced by other kept {unit}s"] = shares.ravel().tolist()
    display.show(
        space_figure(
            clusters.embedding,
            clusters.salience,
            mark_clusters(labels, clusters.families),
            mask,
            explorer.settings,
            lit=lit,
            unit=unit,
            dark=display.is_dark(),
        ),
        title=f"{mask.count} kept {unit}s among {len(np.unique(labels))} clusters",
        help=f"Each point is a {unit}. Those that {explorer.card.words.likeness} lie close together. "
        "Letter: cluster. Colour: family of clusters, the same at every budget. Size: salience. Solid: kept; light: "
        "pruned; ring: the most salient head of its cluster. Crossed: a family that shares its colour with a larger "
        "one. Framed: the cluster of the one clicked last. Click a point to open its card.",
        name="space",
        data=data,
        on_pick=open_card,
    )


def draw_flips(explorer: Explorer) -> None:
    """Draw the texts whose prediction changes under the mask, on request."""
    if explorer.recovery.lacks_model:
        st.caption("Distil this mask first (above).")
        return
    board = explorer.board_state(explorer.recovery.ready)
    offer = "Show predictions that change under this mask"
    compared = job_card(explorer, FLIPS, board, name="show-flips", title="Comparing predictions", offer=offer)
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
        unit = explorer.card.unit
        table = compared.table(texts, f"all {unit}s", "this mask", classes=explorer.bench.class_names)
        if texts.task.predicts_often:
            items = texts.task.words.items
            st.caption(f"The {items} in which most predictions changed.")
        display.show_texts(table, key="flips")
        numbers = dict(table)
        if not texts.task.items_are_texts:
            # A part of a document stays in the session.
            numbers.pop("text")
        display.download_csv(numbers, "flips", file="changed-answers.csv")


# What is measured for the board ------------------------------------------------------------------------------


def draw_measurements(explorer: Explorer) -> None:
    """Draw what is being measured for the board, and what else can be measured."""
    sweep = explorer.work.job(TABLE)
    if sweep is not None and sweep.error:
        problem(sweep.error)
    for row in board.list_colourings():
        name = row.colouring.name
        measuring = row.find_job(explorer)
        if measuring is not None and not measuring.ended:
            follow(measuring, name=f"colouring-{name}", title=f"Measuring {name}")
    recovery = explorer.recovery
    table = explorer.table(recovery.name)
    assert table is not None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if (sweep is None or sweep.ended) and table.missing() is not None:
            look: Any = {"key": "fill-table", "type": "tertiary"}
            start_button(explorer, TABLE, explorer.board_state(), "Measure all budgets", **look)
            done, total = table.measured()
            st.caption(f"{done} of {total} budgets measured.")
        if recovery.awaits == "request":
            label = price("Refit this mask", recovery_seconds(explorer.bench, QUICK.name))
            if st.button(label, key="refit", type="tertiary"):
                explorer.chosen_recovery = QUICK.name
                st.rerun()
        refit = explorer.stopped_refit
        if recovery.awaits_refit and refit is not None:
            show_job(refit, partial(explorer.start, REFIT, QUICK.name), name="refit")
        if recovery.awaits == "distilled model":
            here = "The figures are bundled; the distilled model is not on this machine."
            look = {"key": "distil", "type": "tertiary", "help": here}
            start_button(explorer, DISTIL, explorer.board_state(), "Distil here", **look)
        if explorer.card.saves == "time":
            draw_timing(explorer, place="budget")
        st.caption(provenance(explorer, recovery.shown))


def describe_distillation(explorer: Explorer) -> str:
    """Return whether the distilled model on the board was accepted, with the reason."""
    distilled = explorer.results.distilled.get(explorer.mask.sha256)
    if not explorer.recovery.row.trains or distilled is None:
        return ""
    report, _ = distilled
    verdict = "accepted" if report.accepted else "rejected"
    return f"distillation {verdict}: {report.reason}"


def draw_distillation(explorer: Explorer) -> None:
    """Draw the panel of the distillation, where a distilled model is wanted: its offer, its progress or its steps."""
    job = explorer.work.job(DISTIL)
    missing = explorer.recovery.awaits == "distillation"
    _, steps = explorer.results.distilled.get(explorer.mask.sha256, (None, ()))
    if not explorer.recovery.row.trains:
        steps = ()
    if (job is None or job.ended) and not steps and not missing:
        return
    with st.container(border=True, key="distilling"):
        st.caption("The refitted model is trained to reproduce the scores of the full model, without labels.")
        if job is not None and not job.ended:
            # It may be of the mask that was on the board before.
            follow(job, name="distil", title=on_screen(job.stage or "distill"))
        elif missing:
            search = explorer.job(FIGURE)
            if search is not None and not search.ended:
                st.caption("Checking for an existing distilled model…")
                return
            if job is not None and job.error:
                problem(job.error)
            look: Any = {"key": "distil", "type": "primary"}
            start_button(explorer, DISTIL, explorer.board_state(), "Distil this mask", **look)
        else:
            blocks.draw(show_steps(steps, explorer.bench.protocol))


# The page ----------------------------------------------------------------------------------------------------

#: What can be shown below the board, beside what features bring.
_PANELS = (
    Panel("Where heads lie", draw_space, place=20),
    Panel("Changed answers", draw_flips, place=50),
    Panel("Published rule", partial(draw_knee, place="budget"), place=70),
)
#: The field of the address, and the key of the tabs.
_FIELD = "panel"
_TABS = "board-detail"


def list_panels() -> list[Panel]:
    """Return the tabs below the board, in their order."""
    return sorted((*_PANELS, *features.panels("Budget"), *list_tabs()), key=lambda panel: panel.place)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("How many heads are enough?", width="content")
        with st.popover("How heads are chosen", key="method", width="content"):
            controls.draw_method(explorer)
    panels = list_panels()
    if explorer.results.run is None:
        for panel in panels:
            if panel.before_run is not None:
                panel.before_run(explorer)
    need_run(explorer)
    swept = grid_notice(explorer.card.layers * explorer.card.heads)
    if swept is not None:
        st.caption(f"With so many heads, {swept}.")
    board.warm(explorer)
    # A link opens a tab, such as that of a person's own text (never with a text), unless another tab was opened since.
    # The fragment must not read it: its runs may still have the address from before a click on a tab.
    if _FIELD in st.query_params and st.session_state.get(_TABS) in (None, explorer.detail):
        for panel in panels:
            if panel.name and panel.name == st.query_params[_FIELD]:
                explorer.detail = panel.label
    pulse = explorer.work.pulse
    st.fragment(_live, run_every=pulse)(explorer, pulse)


def _live(explorer: Explorer, pulse: float | None) -> None:
    controls.collect_choice(explorer)
    address.write(explorer)
    board.measure(explorer)
    controls.draw(explorer)
    draw_distillation(explorer)
    with st.container(key=board.finding_key(explorer)):
        board.draw_finding(explorer, board.describe_change)
    board.draw(explorer, board.describe_change, note=describe_distillation(explorer))
    for panel in features.panels("Board"):
        panel.draw(explorer)
    draw_measurements(explorer)
    controls.offer_better_method(explorer)
    for note in features.panels("Budget note"):
        note.draw(explorer)
    set_value(_TABS, explorer.detail)
    panels = {panel.label: panel for panel in list_panels()}
    options: Any = {"required": True, "key": _TABS, "label_visibility": "collapsed"}
    st.segmented_control("More", tuple(panels), on_change=partial(_open_tab, explorer), **options)
    tab = panels[explorer.detail]
    address.put(_FIELD, tab.name)
    tab.draw(explorer)
    if explorer.work.pulse != pulse:
        # Polling starts and stops only with a run of the whole page.
        st.rerun()


def _open_tab(explorer: Explorer) -> None:
    explorer.detail = st.session_state[_TABS]
    st.query_params.pop(_FIELD, None)
