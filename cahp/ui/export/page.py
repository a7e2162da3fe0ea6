"""Export: the mask on the board, the pruned model, the report and the run as files, and the command that repeats it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from mimetypes import guess_type
from typing import Any

import numpy as np
import streamlit as st

from cahp import features
from cahp.api.preflight import count_models, loading_seconds
from cahp.board.colourings import colour_by_measures
from cahp.exports import formats, report
from cahp.exports.checkpoints import TRIED, Provenance, checkpoint
from cahp.exports.form import ModelForm, show_files
from cahp.exports.live import Live
from cahp.exports.masks import MaskOrigin
from cahp.exports.run_folder import run_archive
from cahp.models.cards import EVENLY, LATENCY_SECONDS
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import BY_HAND, RunDocument, machine, measured_states, outcome_records
from cahp.run.prune import Run
from cahp.run.settings import RECOVER_TIME, Settings, parse_duration
from cahp.run.show import show_cost, show_epochs, show_outcomes, show_recovery
from cahp.ui.export.view import MEASURE, View, chosen_by, list_findings, measurement, name_of, on_board
from cahp.ui.frame.board import draw_no_refit
from cahp.ui.frame.page import provenance
from cahp.ui.frame.running import draw_evenness, job_card, need_run, price
from cahp.ui.parts import blocks
from cahp.ui.parts.display import download, plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import Kind, pass_seconds, plan_recovery, recovery_seconds
from cahp.values import JsonObject
from cahp.words import capital, counted, duration, size_of

Written = tuple[bytes, JsonObject]


@dataclass(frozen=True, eq=False)
class Order:
    """A form of the pruned model to write: its expected bytes, and the seconds that each stage may take."""

    name: str
    form: ModelForm
    size: int
    write: Callable[..., Written]
    stages: dict[str, float]


#: Session key: the board's recovery when one was last chosen here.
_OF_BOARD = "cahp_export_of_board"
#: Write a form of the pruned model: its files as a ZIP, and what was measured of them. A model is large: only the
#: newest is kept. Minutes of training step aside for work that somebody waits for.
WRITE: Kind[Order, Written] = Kind(
    lambda order, progress: order.write(progress=progress),
    lambda order: f"model-{order.name}",
    Rank.LONG,
    awaited=False,
    newest=True,
    stages=lambda order: order.stages,
    title="Export",
)
#: Cards beside each other, and the titles of those whose button is filled, the best one first.
_IN_A_ROW = 3
_RECOMMENDED = ("GGUF", "Compact")
#: The look of the switch of types, whose label is not seen.
_CHOICE: JsonObject = {"required": True, "label_visibility": "collapsed"}
#: How to make a mask fit where it is uneven.
_EVENLY = "choose the same number in every layer, above"
#: Bytes of weights that are written in a second, and seconds in which a new process imports what loads them.
_WRITTEN_PER_S = 1e8
_IMPORT_S = 8.0


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    need_run(explorer)
    view = on_board(explorer)
    _draw_top(explorer, view)
    rows = (
        ("Mask", "For other tools: 1 is kept.", _draw_mask_files),
        ("Model", "Written, loaded again in a new process, compared.", _draw_model_files),
        ("Report", "One page, works offline.", _draw_report_files),
        ("Command", "The same, without the page.", _draw_command),
    )
    for title, about, draw_row in rows:
        st.divider()
        left, right = st.columns([1, 5])
        with left, st.container(gap=None):
            st.subheader(title)
            st.caption(about)
        with right, st.container():
            draw_row(explorer, view)


def _draw_top(explorer: Explorer, view: View) -> None:
    """Draw what is exported, the recovery of the model, and what pruning changes."""
    run = view.document
    unit = explorer.card.unit
    left, right = st.columns([5, 4], gap="medium")
    with left:
        st.title(f"Export {view.mask.count} of {view.mask.keep.size} {unit}s")
        st.caption(f"The mask on the board ({chosen_by(explorer)}). Change it on the Budget page.")
        with st.container(width=360):
            _draw_recovery(explorer)
    if run is None:
        draw_evenness(explorer)
        _offer_to_measure(explorer)
        return
    with right:
        headline, worth = report.describe_value(run)
        st.markdown(f"**{plain(headline)}**  \n{plain(worth)}")
        st.caption(provenance(explorer, explorer.recovery.shown))
    with st.expander("Figures with intervals, roles and abilities"):
        for line in list_findings(explorer, view, explorer.recovery.name):
            st.caption(plain(f"{line}."))
        blocks.draw([show_outcomes("", run.outcomes), *show_cost(run)])
    draw_evenness(explorer, run.evenness)


def _draw_recovery(explorer: Explorer) -> None:
    """Draw the box of the recovery, which begins with that of the board."""
    labelled = explorer.bench.dataset.labelled
    offered = [
        name
        for name, row in RECOVERIES.items()
        if not (row.closed_form and explorer.no_refit) and (labelled or not row.needs_labels)
    ]
    shown = st.session_state.get("export-recover")
    if st.session_state.get(_OF_BOARD) != explorer.recovery.name or shown not in offered:
        # Follow the board, so that page, report and model agree.
        st.session_state[_OF_BOARD] = explorer.recovery.name
        st.session_state["export-recover"] = NONE.name
        if explorer.recovery.name in offered:
            st.session_state["export-recover"] = explorer.recovery.name
    recover: str = st.selectbox(
        "Recovery of the model",
        offered,
        # A name that changed with the board would no longer be found when a run is interrupted.
        format_func=lambda name: capital(RECOVERIES[name].beside),
        key="export-recover",
        persist_state="session",
        label_visibility="collapsed",
        help="It begins with the recovery of the board.",
    )
    if recover != explorer.recovery.name:
        st.caption(
            f"The figures and the report describe the mask {explorer.recovery.row.beside}; the model will be "
            f"written {RECOVERIES[recover].beside}. Its figures appear here and in its README."
        )


def _offer_to_measure(explorer: Explorer) -> None:
    st.markdown("The mask can be downloaded now; its report and its time need a run.")
    label = "Evaluate and time this mask"
    if explorer.recovery.lacks_model or explorer.recovery.awaits_refit:
        label = price("Recover and measure", recovery_seconds(explorer.bench, explorer.recovery.name))
    if job_card(explorer, MEASURE, measurement(explorer), name="export-measure", offer=label, type="primary"):
        st.rerun()


# The mask ------------------------------------------------------------------------------------------------------------


def _draw_mask_files(explorer: Explorer, view: View) -> None:
    run = view.document
    card = explorer.card
    origin = MaskOrigin(card.id, chosen_by(explorer), {"attained": view.mask.count}, model_sha256=card.origin)
    if explorer.roles is not None:
        origin = replace(origin, columns=explorer.roles.columns)
    if run is not None:
        origin = replace(origin, budget=run.budget, metrics=outcome_records(run.outcomes)["metrics"])
    with st.container(horizontal=True):
        for form in formats.mask_forms():
            media = guess_type(form.file)[0] or "application/octet-stream"
            download(form.title, partial(form.write, view.mask, origin), form.file, media)


# The pruned model ----------------------------------------------------------------------------------------------------


def _draw_model_files(explorer: Explorer, view: View) -> None:
    """Draw a card for each kind of file that is possible, and fold why others are not."""
    recover = st.session_state["export-recover"]
    draw_no_refit(explorer)
    allowed = None
    if RECOVERIES[recover].timed:
        allowed = 60 * st.number_input(
            "Time limit, in minutes",
            0.1,
            600.0,
            parse_duration(RECOVER_TIME) / 60,
            step=0.5,
            format="%.1f",
            key="export-allowed",
            persist_state="session",
        )
    # The forms of each kind of file by the type of their weights.
    cards: dict[str, dict[str, ModelForm]] = {}
    barred = []
    for form in formats.model_forms():
        title, _, kind = form.title.partition(", ")
        bar = formats.find_bar(form, explorer.card, view.mask, recover)
        if bar is None:
            cards.setdefault(title, {})[kind or "f32"] = form
        else:
            barred.append(f"**{form.title}**: {plain(bar.replace(EVENLY, _EVENLY))}.")
    best = next((title for title in _RECOMMENDED if title in cards), "")
    provenance = Provenance(chosen_by(explorer), findings=list_findings(explorer, view, recover))
    titles = list(cards)
    for start in range(0, len(titles), _IN_A_ROW):
        for column, title in zip(st.columns(_IN_A_ROW), titles[start : start + _IN_A_ROW], strict=False):
            with column, st.container(border=True, height="stretch", gap="xsmall", key=f"export-form-{title}"):
                st.markdown(f"**{title}**")
                kinds = list(cards[title])
                kind = kinds[0]
                if len(kinds) > 1:
                    key = f"Type of {title}"
                    kind = st.segmented_control(key, kinds, default=kind, key=key, **_CHOICE)
                order = _plan(explorer, view, cards[title][kind], provenance, recover=recover, allowed=allowed)
                _draw_card(explorer, order, kind, filled=title == best)
    if barred:
        with st.expander(f"{counted(len(barred), 'form')} cannot be written of this model and mask"):
            if _EVENLY in str(barred):
                count = explorer.settings.budget_rules(explorer.card).round_evenly(view.mask.count)
                label = f"Choose {count} {explorer.card.unit}s, every layer alike"
                st.button(
                    label, key="export-even", on_click=explorer.change, kwargs={"even": True, "budget": str(count)}
                )
            for line in barred:
                st.caption(line)
    job = explorer.work.job(WRITE)
    if job is not None and job.result is not None:
        _draw_results(formats.model_form(job.result[1]["form"]), job.result[1])


def _plan(
    explorer: Explorer, view: View, form: ModelForm, provenance: Provenance, *, recover: str, allowed: float | None
) -> Order:
    """Return the order of a form, with the seconds that recovering, writing, loading and comparing may take."""
    bench = explorer.bench
    write: Callable[..., Written] = partial(
        checkpoint,
        bench,
        view.mask,
        form=form,
        provenance=provenance,
        recover=recover,
        allowed=allowed,
    )
    size = form.estimate_bytes(bench.card, explorer.subject.size(view.mask) or 1.0)
    recovering = plan_recovery(bench, recover)
    if bench.recoveries.holds(view.mask, recover):
        # Then it was evaluated, too.
        recovering = {"load": recovering["load"]}
    else:
        recovering["evaluation"] *= count_models(recover)
    compared = pass_seconds(bench, evaluation=min(1.0, TRIED / len(bench.evaluation)))
    writing = {
        "write": 1.0 + size / _WRITTEN_PER_S,
        "reload": _IMPORT_S + loading_seconds(bench.card) + compared,
        "compare": compared,
    }
    once = sum(writing.values())
    if form.times is not None:
        # The full model is written beside it.
        writing["latency"] = once + LATENCY_SECONDS
    if form.rounded:
        # It is written in full precision first.
        writing["write"] += once
    stages = {name: min(seconds, allowed or np.inf) for name, seconds in recovering.items()} | writing
    return Order(f"{name_of(explorer)}-{form.key}-{recover}-{allowed}", form, round(size), write, stages)


def _draw_card(explorer: Explorer, order: Order, kind: str, *, filled: bool) -> None:
    """Draw what a form takes, and the button that writes it, its progress, or what was written."""
    form = order.form
    st.markdown(f"{kind} · {size_of(order.size)} · about {duration(sum(order.stages.values()))}")
    st.caption(f"Loads with {form.loads_with}  \n{capital(form.exactness)}")
    look: Any = "primary" if filled else "secondary"
    written = job_card(explorer, WRITE, order, name=f"export-write-{form.key}", offer="Write", type=look)
    if written is not None:
        st.caption(f"Loaded again in a new process, {form.closeness(written[1])}.")
        download(f"Model (ZIP, {len(written[0]) / 1e6:.0f} MB)", written[0], f"cahp-{form.key}.zip", "application/zip")
        st.code(f"cahp export cahp-run --format {form.key} --out {form.key}", language="bash", wrap_lines=True)


def _draw_results(form: ModelForm, measured: JsonObject) -> None:
    """Draw the tables of what was measured of the model that was written last."""
    shown = [
        show_outcomes("Results, with 95 % intervals", measured_states(measured)),
        *show_epochs(measured.get("epochs", [])),
        *show_recovery(None, measured.get("distill"), measured.get("steps", ())),
        *show_files(measured["files"] or (), form.runtime),
    ]
    blocks.draw(shown, form=f"{form.key}-")


# Report, run and command ---------------------------------------------------------------------------------------------


def _draw_report_files(explorer: Explorer, view: View) -> None:
    run = view.document
    if run is None:
        st.caption("Evaluate the mask first (above).")
        return
    with st.container(horizontal=True):
        download("Report (HTML)", partial(_report, explorer, view, run), "cahp-report.html", "text/html")
        download(
            "Run folder (ZIP)",
            lambda: run_archive(Run(run, view.mask, view.arrays), table=explorer.table(explorer.swept)),
            "cahp-run.zip",
            "application/zip",
        )


def _report(explorer: Explorer, view: View, run: RunDocument) -> bytes:
    clusters = explorer.clusters
    table = explorer.board_state(explorer.swept).need_table
    assert clusters is not None
    live = Live(clusters, table, explorer.board.labels, colour_by_measures(features.measures(), run))
    origin = report.Origin(run.machine or machine(), date.today().isoformat(), _recipe(explorer, run.settings))
    if view.bundle is not None:
        made = view.bundle.made
        origin = replace(origin, machine=made["machine"], date=made["date"], bundled=True)
    return report.page(run, origin=origin, live=live, measures=features.measures()).encode()


def _draw_command(explorer: Explorer, view: View) -> None:
    """Draw the command that repeats the run."""
    settings = replace(explorer.settings, budget=str(view.mask.count), recover=explorer.recovery.name)
    if explorer.board.by_hand:
        settings = replace(settings, method=BY_HAND)
    if view.document is not None:
        settings = view.document.settings
    recipe = _recipe(explorer, settings)
    if formats.MASK_FILE in recipe:
        st.caption(f"Save the mask as `{formats.MASK_FILE}` first.")
    if explorer.source.uploaded:
        st.caption("Run it in the folder that contains your files.")
    st.code(recipe, language="bash", wrap_lines=True)


def _recipe(explorer: Explorer, settings: Settings) -> str:
    if explorer.source.uploaded:
        # Uploaded files have the names that they had when they were uploaded.
        settings = replace(settings, data=explorer.settings.data)
    return report.recipe(settings)
