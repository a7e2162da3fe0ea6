"""Export: the mask on the board, its report, its run, and the pruned model as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from cahp.board.budget_sweep import own_speed
from cahp.board.colourings import mark_clusters
from cahp.figures.head_grid import grid_figure, places
from cahp.figures.run import outcome_by_budget
from cahp.models.cards import ModelCard
from cahp.outcomes import HEADLINES, Outcomes, main_outcome
from cahp.recoveries import NONE, RECOVERIES, name_of_state
from cahp.run.document import RunDocument, machine
from cahp.run.show import show_outcomes, show_run_cost
from cahp.ui.export.files import draw_command, draw_mask_files, draw_model_files, draw_recovery, draw_report_files
from cahp.ui.export.view import MEASURE, MaskOnBoard, View, list_findings, on_board
from cahp.ui.frame.page import of_bundle
from cahp.ui.frame.running import draw_timing, grid_html, job_card, need_run, price
from cahp.ui.frame.selection import draw_evenness
from cahp.ui.parts import blocks, display
from cahp.ui.parts.display import plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import recovery_seconds
from cahp.words import capital, signed

#: The rows of the page: name, title, what it is for, and what draws it.
_ROWS: Sequence[tuple[str, str, str, Callable[[Explorer, View], None]]] = (
    (
        "mask_files",
        "Mask",
        "For other tools: 1 is kept.",
        draw_mask_files,
    ),
    (
        "model_files",
        "Model",
        "Written, loaded again in a new process, compared.",
        draw_model_files,
    ),
    (
        "report_files",
        "Report",
        "One page, works offline.",
        draw_report_files,
    ),
    ("again", "Command", "The same, without the page.", draw_command),
)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    need_run(explorer)
    view = on_board(explorer)
    _draw_top(explorer, view)
    for name, title, about, draw_row in _ROWS:
        st.divider()
        left, right = st.columns([1, 5], gap="small")
        with left, st.container(gap=None):
            st.subheader(title)
            st.caption(about)
        with right, st.container(key=f"export-{name}", gap="small"):
            draw_row(explorer, view)
    with st.expander("Figures with intervals, and figures to download"):
        if view.document is not None:
            _draw_outcomes(explorer, view, view.document)
        st.caption("Download each as SVG, PNG or CSV under the small i beside its title.")
        left, right = st.columns(2, gap="large")
        with left:
            _draw_grid(view, explorer.card)
        with right:
            _draw_outcome_curves(explorer)


def _draw_top(explorer: Explorer, view: View) -> None:
    """Draw what is exported, the recovery of the model, and what pruning changes."""
    left, right = st.columns([5, 4], gap="medium", vertical_alignment="center")
    with left, st.container(horizontal=True, gap="medium", vertical_alignment="center", key="export-title"):
        with st.container(key="export-thumbnail", width="content"):
            draw_thumbnail(view, explorer.card.unit)
        with st.container(gap="small", key="export-what"):
            st.title(f"Export {view.mask.count} of {view.mask.keep.size} {explorer.card.unit}s")
            origin = "chosen by CAHP"
            if explorer.board.method:
                origin = f"chosen by {explorer.board.method}"
            elif explorer.board.by_hand:
                origin = "made by hand"
            st.caption(f"The mask on the board, {origin}. Change it on the Budget page.")
            with st.container(width=360):
                draw_recovery(explorer)
    if view.document is None:
        draw_evenness(explorer, place="export")
        _offer_to_measure(explorer)
        return
    with right:
        changes = list_changes(view.document)
        with st.container(key="export-changes"):
            for column, (figure, words) in zip(st.columns(max(1, len(changes))), changes, strict=False):
                column.markdown(f"## {plain(figure)}")
                column.caption(words)
    draw_evenness(explorer, place="export", measured=view.document.evenness)


# The picture beside the title --------------------------------------------------------------------------------


#: Pixels of the largest cell and of the whole picture.
_CELL = 15
_WIDTH = 180
_HEIGHT = 96
#: The colour of heads without clusters, and the opacities of kept and of pruned heads.
_PLAIN = "#0f6e84"
_OPACITIES = {True: "1", False: ".18"}


def draw_thumbnail(view: View, unit: str) -> None:
    """Draw the mask: kept heads solid, pruned ones light, in the colours of their clusters."""
    mask = view.mask
    colours = [_PLAIN] * mask.keep.size
    if view.labels is not None:
        colours = list(mark_clusters(view.labels, view.families).colours)
    cells = "".join(
        f'<i style="background: {colour}; opacity: {_OPACITIES[kept]}"></i>'
        for colour, kept in zip(colours, mask.keep.ravel().tolist(), strict=True)
    )
    label = f"The mask: {mask.count} of {mask.keep.size} {unit}s kept"
    st.html(grid_html(mask.layers, mask.heads, cells, label=label, cell=_CELL, width=_WIDTH, height=_HEIGHT))


def list_changes(run: RunDocument) -> list[tuple[str, str]]:
    """Return what pruning changes, each as a figure and what it counts: an outcome, the time or cache, the size."""
    changes = []
    outcomes = run.outcomes.get("recovered") or run.outcomes["pruned"]
    if "accuracy_change" in outcomes:
        changes.append((outcomes["accuracy_change"].text, "of accuracy"))
    else:
        row, value = main_outcome(outcomes)
        changes.append((value.text, row.label))
    speed = own_speed(run)
    if run.kv_cache is not None:
        changes.append((_percent_change(run.kv_cache.share), "memory per token"))
    elif speed is not None and not speed.busy and speed.ratio.excludes(1):
        changes.append((_percent_change(speed.ratio.value), "time"))
    full = run.cost.full.parameters
    pruned = run.cost.pruned.parameters
    if full and pruned:
        changes.append((_percent_change(pruned / full), "size"))
    return changes


def _percent_change(ratio: float) -> str:
    return f"{signed(100 * (ratio - 1), 0)} %"


def _offer_to_measure(explorer: Explorer) -> None:
    measured = _list_states(explorer)
    # Without any figures of its mask, those of all heads tell nothing.
    if len(measured) > 1:
        with st.container(key="export-figures"):
            blocks.draw([show_outcomes("", measured, explorer.bench.protocol)])
    st.markdown("The mask can be downloaded now; its report and its time need a run.")
    label = "Evaluate and time this mask"
    takes = "seconds"
    if explorer.recovery.lacks_model:
        label = price("Distil and measure", recovery_seconds(explorer.bench, explorer.recovery.name))
        takes = "the distillation takes longest"
    elif explorer.recovery.awaits_refit:
        label = price("Refit and measure", recovery_seconds(explorer.bench, explorer.recovery.name))
        takes = "the refit takes longest"
    about = f"Accuracy, intervals and time; {takes}."
    subject = MaskOnBoard.of(explorer)
    if job_card(explorer, MEASURE, subject, name="export-measure", offer=label, type="primary", help=about):
        st.rerun()


def _list_states(explorer: Explorer) -> dict[str, Outcomes]:
    """Return the outcomes on the board by their states."""
    states: dict[str, Outcomes | None] = {"pruned": explorer.outcomes(NONE.name)}
    table = explorer.table(NONE.name)
    if table is not None and table.full:
        states = {"full": table.full, **states}
    if explorer.recovery.name != NONE.name:
        states[name_of_state(explorer.recovery.name)] = explorer.outcomes(explorer.recovery.name)
    return {name: outcomes for name, outcomes in states.items() if outcomes is not None}


def _draw_outcomes(explorer: Explorer, view: View, run: RunDocument) -> None:
    """Draw the measurements of the mask with their intervals, and its cost."""
    with st.container(key="export-figures"):
        blocks.draw([show_outcomes("", run.outcomes, run.protocol), *show_run_cost(run)])
    if view.bundle is None:
        where = f"Measured on this machine ({plain(machine())})."
    else:
        where = of_bundle(explorer, view.bundle)
    if view.masked_only:
        where += " The attention of a layer of this model cannot be left out: the mask is neither timed nor recovered."
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="export-measured"):
        draw_timing(explorer, place="export")
        st.caption(where)
    for line in list_findings(explorer, view, explorer.recovery.name):
        st.caption(plain(f"{line}."))


def _draw_grid(view: View, card: ModelCard) -> None:
    """Draw the kept heads."""
    mask = view.mask
    data: dict[str, Sequence[Any]] = {
        **places(mask.layers, mask.heads),
        "kept": mask.keep.ravel().astype(int).tolist(),
    }
    marks = None
    if view.labels is not None:
        marks = mark_clusters(view.labels, view.families)
        data["cluster"] = marks.names
    display.show(
        grid_figure(mask, marks, dark=display.is_dark(), width=430, unit=card.unit),
        title=f"{mask.count} of {mask.keep.size} {card.unit}s kept",
        help=f"Each square is {display.describe_square(card)}: solid ones are kept, light ones pruned. The letter "
        "names the cluster.",
        name="heads",
        data=data,
        alt="; ".join(f"layer {layer} keeps {heads}" for layer, heads in enumerate(mask.by_layer)),
    )


def _draw_outcome_curves(explorer: Explorer) -> None:
    """Draw each headline outcome by budget, if the Budget page has measured it."""
    table = explorer.table(explorer.swept)
    recovered = RECOVERIES[explorer.swept].beside
    curves = {}
    if table is not None:
        curves = {outcome: table.estimates(outcome.name) for outcome in HEADLINES}
    drawn = 0
    for outcome, by_budget in curves.items():
        if len(by_budget) < 2:
            continue
        drawn += 1
        label = capital(outcome.label)
        estimates = list(by_budget.values())
        data: dict[str, list[float]] = {"heads": list(by_budget)}
        data[outcome.label] = [estimate.value for estimate in estimates]
        data["low"] = [estimate.low for estimate in estimates]
        data["high"] = [estimate.high for estimate in estimates]
        data["n"] = [estimate.n for estimate in estimates]
        display.show(
            outcome_by_budget(by_budget, outcome, dark=display.is_dark()),
            title=f"{label}, {recovered}, at {len(estimates)} budgets (n = {estimates[0].n:,})",
            help=f"{label} of the pruned model, {recovered}, with 95 % intervals, at the budgets that were measured.",
            name=outcome.name,
            data=data,
        )
    if not drawn:
        st.caption("Outcomes by budget appear here once they are measured on the Budget page.")
