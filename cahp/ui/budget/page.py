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
from cahp.outcomes import Outcomes, describe
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
from cahp.ui.parts.display import cache_with, problem
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import page_drawn
from cahp.ui.session.work import CONFIRM, DISTIL, FIGURE, FLIPS, REFIT, TABLE, recovery_seconds

# The tabs below the board ------------------------------------------------------------------------------------


#: The distance of two heads: by how they separate two classes, or without classes by their mean maps.
_SEPARATION = r"BD=\frac{(\mu_a-\mu_b)^2}{4(v_a+v_b)}+\frac12\ln\frac{v_a+v_b}{2\sqrt{v_av_b}},\quad JM=2(1-e^{-BD})"
_HELLINGER = r"d(h,g)=\sqrt{\textstyle\sum_i\left(\sqrt{\mu^{(h)}_i}-\sqrt{\mu^{(g)}_i}\right)^2}"


def draw_space(explorer: Explorer) -> None:
    """Draw all heads in the plane in which they are clustered, coloured by cluster."""
    clusters = explorer.clusters
    assert clusters is not None
    labels = explorer.board.labels
    mask = explorer.mask
    settings = explorer.settings
    dark = display.is_dark()
    head = explorer.selected
    unit = explorer.card.unit
    lit = None
    if head is not None and head < len(labels):
        # The first of its cluster: the figure is the same for all of them.
        lit = int(np.argmax(labels == labels[head]))
    formula = _HELLINGER
    if explorer.card.task.predicts_labels:
        formula = _SEPARATION
    source = "distances in this plane"
    if settings.projection == "none":
        source = "all features, not from this plane"
    display.show(
        cache_with(
            clusters,
            ("space", mask.sha256, labels.tobytes(), settings.projection, lit, dark),
            lambda: space_figure(
                clusters.embedding,
                clusters.salience,
                mark_clusters(labels, clusters.families),
                mask,
                settings,
                lit=lit,
                unit=unit,
                dark=dark,
            ),
        ),
        title=f"{mask.count} kept {unit}s among {len(np.unique(labels))} clusters",
        help=f"Each point is a {unit}. Those that {explorer.card.words.likeness} lie close together. "
        "Letter: cluster. Colour: family of clusters, the same at every budget. Size: salience. Solid: kept; light: "
        "pruned; ring: the most salient head of its cluster. Crossed: a family that shares its colour with a larger "
        f"one. Framed: the cluster of the one clicked last. Click a point to open its card. The clusters are computed "
        f"from {source}.",
        formula=formula,
        name="space",
        data=lambda: {
            **places(clusters.layers, clusters.heads),
            **_replaceable(explorer),
            "x": clusters.embedding[:, 0].tolist(),
            "y": clusters.embedding[:, 1].tolist(),
            "cluster": clusters.names(labels),
            "salience": clusters.salience.ravel().tolist(),
            "kept": mask.keep.ravel().astype(int).tolist(),
        },
        on_pick=partial(_open_card, explorer),
    )


def _open_card(explorer: Explorer, head: int) -> None:
    explorer.selected = head
    explorer.card_head = head


def _replaceable(explorer: Explorer) -> dict[str, list[float]]:
    """The column of shares that other kept heads can reproduce, if they are measured."""
    shares = explorer.replaceable_shares
    if shares is None:
        return {}
    return {f"reproduced by other kept {explorer.card.unit}s": shares.ravel().tolist()}


def draw_flips(explorer: Explorer) -> None:
    """Draw the texts whose prediction changes under the mask, on request."""
    if explorer.recovery.lacks_model:
        st.caption("Distil this mask first (above).")
        return
    board = explorer.board_state(explorer.recovery.ready)
    if explorer.work.job(FLIPS, board) is None:
        st.markdown("Which predictions change under this mask?")
    compared = job_card(explorer, FLIPS, board, name="show-flips", title="Comparing predictions", offer="Show them")
    if compared is not None:
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
            if texts.task.predicts_often:
                items = texts.task.words.items
                st.caption(f"The {items} in which the pruned model differs most from the full one (nats per token).")
            display.show_texts(table, key="flips")
            numbers = dict(table)
            if not texts.task.items_are_texts:
                # A part of a document stays in the session.
                numbers.pop("text")
            display.download_csv(numbers, "flips", file="changed-answers.csv")


# What is measured for the board ------------------------------------------------------------------------------


def draw_measurements(explorer: Explorer) -> None:
    """Draw what is being measured for the board, and what else can be measured."""
    job = explorer.work.job(TABLE)
    if job is not None and job.error:
        problem(job.error)
    for row in board.list_colourings():
        name = row.colouring.name
        measuring = row.find_job(explorer)
        if measuring is not None and not measuring.ended:
            follow(measuring, name=f"colouring-{name}", title=f"Measuring {name}")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if job is None or job.ended:
            _draw_missing_budgets(explorer)
        if explorer.recovery.awaits == "request":
            _draw_refit_button(explorer)
        refit = explorer.stopped_refit
        if explorer.recovery.awaits_refit and refit is not None:
            show_job(refit, partial(explorer.start, REFIT, QUICK.name), name="refit")
        _draw_test_split(explorer)
        if explorer.recovery.awaits == "distilled model":
            here = "The figures are bundled; the distilled model is not on this machine."
            _draw_distil_button(explorer, "Distil here", type="tertiary", help=here)
        if explorer.card.saves == "time":
            draw_timing(explorer, place="budget")
        st.caption(provenance(explorer, explorer.recovery.shown))


def _draw_missing_budgets(explorer: Explorer) -> None:
    table = explorer.table(explorer.recovery.name)
    assert table is not None
    if table.missing() is None:
        return
    done, total = table.measured()
    start_button(explorer, TABLE, explorer.board_state(), "Measure all budgets", key="fill-table", type="tertiary")
    measured = f"{done} of {total} budgets measured"
    if table.quicker is not None:
        measured += f"; estimates follow quick refits, of which {table.quicker.measured()[0]} are measured"
    st.caption(f"{measured}.")


def _draw_refit_button(explorer: Explorer) -> None:
    label = price("Refit this mask", recovery_seconds(explorer.bench, QUICK.name))
    if st.button(label, key="refit", type="tertiary"):
        explorer.chosen_recovery = QUICK.name
        st.rerun()


def _draw_test_split(explorer: Explorer) -> None:
    # The check never trains a model.
    if "test" not in explorer.bench.dataset.splits or explorer.recovery.lacks_model:
        return
    recover = explorer.recovery.ready
    start = partial(explorer.start, CONFIRM, recover)
    job = explorer.job(CONFIRM, recover)
    confirmed = explorer.results.confirmed.get((explorer.mask.sha256, recover))
    if confirmed is None and job is not None:
        confirmed = job.result
    if confirmed is not None:
        _show_confirmed(explorer, *confirmed)
    elif job is None:
        with st.popover("Check on the test split", type="tertiary", key="ask-confirm"):
            st.markdown(
                "The test split was not used to select heads, so it can confirm a result. Each further use weakens "
                "this: all uses are **counted** across sessions, and the count is shown beside the result."
            )
            if st.button("Use it once for this mask", key="confirm", type="primary"):
                start()
                st.rerun()
    else:
        show_job(job, start, name="confirm", title="Evaluating on the test split")


def _show_confirmed(explorer: Explorer, outcomes: Outcomes, opened: int) -> None:
    """Draw the outcomes of a mask on the test split, and how often that was used, for other masks since as well."""
    finding = f"Test split: {describe(outcomes)}"
    if "accuracy_change" in outcomes:
        finding += f"; {outcomes['accuracy_change'].text} against all heads"
    opened = max([opened, *(count for _, count in explorer.results.confirmed.values())])
    uses = "once" if opened == 1 else f"{opened} times"
    st.markdown(f"**{finding}** · used {uses} so far")


# Distillation ------------------------------------------------------------------------------------------------


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
    trains = explorer.recovery.row.trains
    _, steps = explorer.results.distilled.get(explorer.mask.sha256, (None, ()))
    if (job is None or job.ended) and not (trains and (steps or explorer.recovery.awaits == "distillation")):
        return
    with st.container(border=True, key="distilling"):
        st.caption("The refitted model is trained to reproduce the scores of the full model, without labels.")
        if job is not None and not job.ended:
            title = on_screen(job.stage or "distill")
            if explorer.job(DISTIL) is not job:
                title += " (the mask that was on the board before)"
            follow(job, name="distil", title=title)
        elif explorer.recovery.awaits == "distillation":
            failed = explorer.job(DISTIL)
            search = explorer.job(FIGURE)
            if failed is not None and failed.error:
                problem(failed.error)
            if search is not None and not search.ended:
                st.caption("Checking for an existing distilled model…")
                return
            _draw_distil_button(explorer, "Distil this mask", type="primary")
        else:
            blocks.draw(show_steps(steps, explorer.bench.protocol))


def _draw_distil_button(explorer: Explorer, label: str, **look: Any) -> None:
    start_button(explorer, DISTIL, explorer.board_state(), label, key="distil", **look)


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
    with st.container(horizontal=True, vertical_alignment="center", key="budget-title"):
        with st.container():
            st.title("How many heads are enough?")
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
    page_drawn()
    controls.collect_choice(explorer)
    address.write(explorer)
    board.measure(explorer)
    controls.draw(explorer)
    draw_distillation(explorer)
    with st.container(key=board.finding_key(explorer)):
        board.draw_finding(explorer, board.describe_change)
    board.draw(explorer, board.describe_change, note=describe_distillation(explorer), marks=True)
    board.draw_panels(explorer)
    draw_measurements(explorer)
    controls.offer_better_method(explorer)
    for panel in features.panels("Budget note"):
        panel.draw(explorer)

    _draw_tabs(explorer)
    if explorer.work.pulse != pulse:
        # Polling starts and stops only with a run of the whole page.
        st.rerun()


def _draw_tabs(explorer: Explorer) -> None:
    def open_tab() -> None:
        explorer.detail = st.session_state[_TABS]
        st.query_params.pop(_FIELD, None)

    with st.container(key="board-details"):
        set_value(_TABS, explorer.detail)
        panels = {panel.label: panel for panel in list_panels()}
        st.segmented_control(
            "More", tuple(panels), required=True, key=_TABS, on_change=open_tab, label_visibility="collapsed"
        )
        panel = panels[explorer.detail]
        address.put(_FIELD, panel.name)
        panel.draw(explorer)
