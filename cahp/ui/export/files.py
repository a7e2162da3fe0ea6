"""The rows of Export: download the mask, the report, the run and the pruned model; the command that repeats the run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from mimetypes import guess_type
from typing import Any

import numpy as np
import streamlit as st

from cahp import features
from cahp.exports import formats, report
from cahp.exports.checkpoints import Provenance, checkpoint
from cahp.exports.form import ModelForm, show_files
from cahp.exports.live import Live
from cahp.exports.masks import MaskOrigin
from cahp.exports.run_folder import run_archive
from cahp.outcomes import describe
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import BY_HAND, RunDocument, machine, outcome_records
from cahp.run.prune import Run
from cahp.run.settings import RECOVER_TIME, Settings, parse_duration
from cahp.run.show import show_epochs, show_outcomes, show_recovery
from cahp.show.blocks import Block
from cahp.ui.export.view import View, chosen_by, list_findings, name_of
from cahp.ui.frame.board import draw_no_refit
from cahp.ui.frame.running import job_card
from cahp.ui.parts import blocks
from cahp.ui.parts.display import download, plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import FLIPS, Kind, recovery_seconds
from cahp.words import capital, duration


def draw_mask_files(explorer: Explorer, view: View) -> None:
    """Draw the row of the mask alone."""
    mask = view.mask
    run = view.document
    model = explorer.card.id
    if run is None:
        budget: dict[str, int | None] = {"requested": None, "attained": mask.count}
        if not explorer.board.by_hand:
            budget["requested"] = mask.count
        origin = MaskOrigin(model, chosen_by(explorer), budget)
    else:
        metrics = outcome_records(run.outcomes)["metrics"]
        origin = MaskOrigin(model, explorer.board.method or run.settings.method, run.budget, metrics)
    origin = replace(origin, columns=list_measures(explorer), model_sha256=explorer.card.origin)
    with st.container(horizontal=True):
        for form in formats.mask_forms():
            media = guess_type(form.file)[0] or "application/octet-stream"
            download(form.title, partial(form.write, mask, origin), form.file, media)


def list_measures(explorer: Explorer) -> dict[str, list[Any]]:
    """List what is known of each head as columns of a table; nothing is measured for it.

    They are its salience, the share of it that the other kept heads can reproduce, and its role with the evidence.
    """
    measures: dict[str, list[Any]] = {}
    clusters = explorer.clusters
    if clusters is not None:
        measures["salience"] = clusters.salience.ravel().round(6).tolist()
    shares = explorer.replaceable_shares
    if shares is not None:
        # A head without effect has no share.
        known = shares.ravel().round(6).astype(object)
        known[np.isnan(shares.ravel())] = ""
        measures["replaceability"] = known.tolist()
    if explorer.roles is not None:
        measures |= explorer.roles.columns
    return measures


def draw_report_files(explorer: Explorer, view: View) -> None:
    """Draw the row of the report and the run's folder."""
    run = view.document
    if run is None:
        st.caption("Evaluate the mask first (above).")
        return
    buttons = st.container(horizontal=True)
    examples = _choose_examples(explorer)
    with buttons:
        for label, name, static in (
            ("Report (HTML)", "cahp-report.html", False),
            ("Report without JavaScript", "cahp-report-static.html", True),
        ):
            download(label, partial(_report, explorer, view, run, examples, static=static), name, "text/html")
        download(
            "Run folder (ZIP)",
            lambda: run_archive(Run(run, view.mask, view.arrays), table=explorer.table(explorer.swept)),
            "cahp-run.zip",
            "application/zip",
        )


def _report(
    explorer: Explorer, view: View, run: RunDocument, examples: Sequence[report.Example] = (), *, static: bool = False
) -> bytes:
    clusters = explorer.clusters
    table = explorer.table(explorer.swept)
    live = None
    if clusters is not None and view.labels is not None and table is not None:
        live = Live.of(run, clusters, table, view.labels, features.measures())
    recoveries = {}
    for row in RECOVERIES.values():
        if row is NONE or not row.on_board:
            continue
        outcomes = explorer.outcomes(row.name)
        if outcomes is not None:
            recoveries[row.beside] = outcomes
    document = report.page(
        run,
        origin=_describe_origin(explorer, view, run),
        live=live,
        static=static,
        recoveries=recoveries,
        examples=examples,
        measures=features.measures(),
    )
    return document.encode()


def _describe_origin(explorer: Explorer, view: View, run: RunDocument) -> report.Origin:
    """Return where and when the run was made, and the command that repeats it."""
    recipe = _recipe(explorer, run.settings)
    if view.bundle is None:
        today = date.today().isoformat()
        return report.Origin(machine=run.machine or machine(), date=today, recipe=recipe, bundled=False)
    made = view.bundle.made
    return report.Origin(machine=made["machine"], date=made["date"], recipe=recipe, bundled=True)


def _choose_examples(explorer: Explorer) -> Sequence[report.Example]:
    """Ask whether the report may contain texts of the data, which may be confidential, and return three of them.

    Windows of a language model are parts of documents, and stay in the session.
    """
    if not explorer.card.task.items_are_texts:
        return []
    if not st.checkbox(
        "Include three texts whose prediction changed",
        key="export-examples",
        persist_state="session",
        help="The report then contains these texts unchanged. Choose this only if its readers may see your data.",
    ):
        return []
    if explorer.recovery.lacks_model:
        st.caption("Distil this mask on the Budget page first.")
        return []
    board = explorer.board_state()
    compared = job_card(explorer, FLIPS, board, name="export-examples-flips", title="Compare predictions")
    if compared is None:
        return []
    table = compared.table(explorer.bench.evaluation, "full", "pruned", classes=explorer.bench.class_names)
    labels = table.get("label", [""] * len(table["text"]))
    flips = zip(table["text"], labels, table["full"], table["pruned"], strict=True)
    # Those that became wrong come first.
    return sorted(flips, key=lambda flip: (flip[2] != flip[1], flip[3] != flip[1]))[:3]


def draw_command(explorer: Explorer, view: View) -> None:
    """Draw the row of the command that repeats the run."""
    run = view.document
    if run is None:
        method = explorer.settings.method
        if explorer.board.by_hand:
            method = BY_HAND
        settings = replace(
            explorer.settings, budget=str(explorer.board.budget), method=method, recover=explorer.recovery.name
        )
    else:
        settings = run.settings
    table = explorer.table()
    if settings.method != BY_HAND and table is not None and table.has(view.mask):
        # It names the same heads, also where another version would suggest others.
        settings = replace(settings, budget=str(view.mask.count))
    recipe = name_model(_recipe(explorer, settings), settings.model)
    if formats.MASK_FILE in recipe:
        st.caption(f"Save the mask as `{formats.MASK_FILE}` first.")
    if explorer.source.uploaded:
        st.caption("Run it in the folder that contains your files.")
    st.code(recipe, language="bash", wrap_lines=True)


def name_model(recipe: str, model: str) -> str:
    """Return a command that names its model, also where it is the default."""
    if "--model " in recipe:
        return recipe
    start, verb, *rest = recipe.split(" ")
    return " ".join([start, verb, "--model", shlex.quote(model), *rest])


def _recipe(explorer: Explorer, settings: Settings) -> str:
    if explorer.source.uploaded:
        # Uploaded files have the names that they had when they were uploaded.
        settings = replace(settings, data=explorer.settings.data)
    return report.recipe(settings)


# The pruned model --------------------------------------------------------------------------------------------


Written = tuple[bytes, dict[str, Any]]
#: Session key: the board's recovery when one was last chosen here.
_OF_BOARD = "cahp_export_of_board"
#: Write a form of the pruned model: its files as a ZIP, and what was measured of them. The subject is a name with the
#: work. A model is large: only the newest is kept. Minutes of training step aside for work that somebody waits for.
WRITE: Kind[tuple[str, Callable[..., Written]], Written] = Kind(
    lambda subject, progress: subject[1](progress=progress),
    lambda subject: f"model-{subject[0]}",
    Rank.LONG,
    awaited=False,
    newest=True,
    title="Export",
)
#: Forms beside each other.
_IN_A_ROW = 3
#: The distillation of the board, whose result other distillations reuse.
_DISTILLED = next(row.name for row in RECOVERIES.values() if row.imitates and row.on_board)


def draw_model_files(explorer: Explorer, view: View) -> None:
    """Draw a card for each form of the pruned model, those that are possible first."""
    if view.masked_only:
        st.caption("The attention of a layer of this model cannot be left out. Download the mask.")
        return
    recover = st.session_state["export-recover"]
    epochs, allowed = _draw_options(explorer, recover)
    bars = {form.key: formats.find_bar(form, explorer.card, view.mask, recover) for form in formats.model_forms()}
    forms = sorted(formats.model_forms(), key=lambda form: bars[form.key] is not None)
    results = []
    for start in range(0, len(forms), _IN_A_ROW):
        columns = st.columns(_IN_A_ROW, gap="small")
        for column, form in zip(columns, forms[start : start + _IN_A_ROW], strict=False):
            bar = bars[form.key]
            kind = "form"
            if bar is not None:
                kind = "barred"
            with column, st.container(border=True, height="stretch", gap="xsmall", key=f"export-{kind}-{form.key}"):
                if bar is not None:
                    st.markdown(f"**{form.title}**")
                    st.caption(plain(f"Not with this model and mask: {bar}."))
                    continue
                written = _draw_form(explorer, view, form, recover=recover, epochs=epochs, allowed=allowed)
                if written is not None:
                    results.append((form, written))
    for form, (content, measured) in results:
        _draw_written(explorer, form, recover, content, measured)


def _draw_form(
    explorer: Explorer, view: View, form: ModelForm, *, recover: str, epochs: int, allowed: float
) -> Written | None:
    """Draw the card of a possible form with the button that writes it; return what was written."""
    title = f"**{form.title}**"
    if form is formats.model_forms()[0]:
        title += " :green[✓ recommended]"
    st.markdown(title)
    about = form.describe_size(view.document)
    st.caption(f"Size: {about} · speed: {form.speed}  \nLoads with {form.loads_with}  \n{capital(form.exactness)}")
    name = f"{name_of(explorer)}-{form.key}-{recover}-{epochs}-{allowed:.0f}"
    write: Callable[..., Written] = partial(
        checkpoint,
        explorer.bench,
        view.mask,
        form=form,
        provenance=Provenance(chosen_by(explorer), findings=list_findings(explorer, view, recover)),
        recover=recover,
        epochs=epochs,
        allowed=allowed or None,
    )
    title = "Write the model"
    if RECOVERIES[recover].trains:
        # Its stages tell more.
        title = ""
    written = job_card(explorer, WRITE, (name, write), name=f"export-write-{form.key}", title=title, offer="Write")
    if written is not None:
        size = len(written[0]) / 1e6
        download(f"Model (ZIP, {size:.0f} MB)", written[0], f"cahp-{form.key}.zip", "application/zip")
    return written


def _draw_written(
    explorer: Explorer, form: ModelForm, recover: str, content: bytes, results: Mapping[str, Any]
) -> None:
    """Draw what was measured of a model that was written and read back."""
    shown: list[Block] = [
        *show_epochs(results.get("epochs", [])),
        *show_recovery(None, results.get("distill"), results.get("steps", ()), explorer.bench.protocol),
    ]
    *_, last = (outcomes for outcomes in results["outcomes"].values() if outcomes is not None)
    state = capital(RECOVERIES[recover].beside)
    if form.rounded:
        state += f" and {form.rounded}"
    close = form.closeness(results)
    st.caption(f"{form.title}, {state}: {describe(last)}. Loaded again in a new process: {close}.")
    if results["files"]:
        outcomes = {state: values for state, values in results["outcomes"].items() if values is not None}
        shown.append(show_outcomes("Results, with 95 % intervals", outcomes, explorer.bench.protocol))
        shown += show_files(results["files"], form.runtime)
    blocks.draw(shown, form=f"{form.key}-")


def draw_recovery(explorer: Explorer) -> str:
    """Draw the box of the recovery, which begins with that of the board, and return the chosen one."""
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
        st.session_state["export-recover"] = explorer.recovery.name if explorer.recovery.name in offered else NONE.name
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
    return recover


def _draw_options(explorer: Explorer, recover: str) -> tuple[int, float]:
    """Ask for the epochs of fine-tuning and the seconds allowed (0: not asked)."""
    epochs = 0
    allowed = 0.0
    if RECOVERIES[recover].timed:
        usual = parse_duration(RECOVER_TIME) / 60
        allowed = 60 * st.number_input(
            "Time limit, in minutes",
            0.1,
            600.0,
            usual,
            step=0.5,
            format="%.1f",
            key="export-allowed",
            persist_state="session",
        )
        about = duration(min(allowed, recovery_seconds(explorer.bench, recover)))
        st.caption(f"Expected: {about}, then evaluation and saving.")
    draw_no_refit(explorer)
    here = explorer.outcomes(_DISTILLED) is not None and not explorer.results.ships(explorer.mask, _DISTILLED)
    if RECOVERIES[recover].imitates and here:
        st.caption("The model distilled on the board is used.")
    elif RECOVERIES[recover].imitates and not RECOVERIES[recover].timed:
        st.caption(
            f"This takes about {duration(recovery_seconds(explorer.bench, recover))} unless it was distilled before."
        )
    if RECOVERIES[recover].needs_labels:
        asked = st.number_input(
            "Epochs", 1, 20, 3, key="export-epochs", persist_state="session", help="The paper trains 3 epochs."
        )
        epochs = int(asked)
    return epochs, allowed
