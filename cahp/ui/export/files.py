"""The cards that download the mask, the report and the run, and that show the command to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from mimetypes import guess_type

import streamlit as st

from cahp.exports import formats, report
from cahp.exports.live import Live
from cahp.exports.masks import MaskOrigin
from cahp.exports.run_folder import run_archive
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import RunDocument, machine, outcome_records
from cahp.run.prune import Run
from cahp.run.settings import Settings
from cahp.ui.export.view import View, chosen_by
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import download, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import FLIPS


def draw_mask_files(explorer: Explorer, view: View) -> None:
    """Draw the card of the mask alone."""
    st.subheader("The mask")
    st.markdown("The kept heads, for use in other tools.")
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
        origin = MaskOrigin(model, run.settings.method, run.budget, metrics)
    if explorer.roles is not None:
        origin = replace(origin, columns=explorer.roles.columns)
    with st.container(horizontal=True):
        for form in formats.mask_forms():
            media = guess_type(form.file)[0] or "application/octet-stream"
            download(form.title, partial(form.write, mask, origin), form.file, media)
    st.caption(
        "One row per layer, one column per head; 1 or True is kept. heads_to_prune lists the pruned heads instead. The "
        "Budget page reads JSON, NumPy and PyTorch files."
    )


def draw_report_files(explorer: Explorer, view: View) -> None:
    """Draw the card of the report and the run's folder."""
    st.subheader("Report and run")
    st.markdown("A report for others, and the data behind it.")
    run = view.document
    if run is None:
        st.caption("Evaluate the mask first (above).")
        return
    examples = _choose_examples(explorer)
    with st.container(horizontal=True):
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
    st.caption(
        "The report works offline, can be printed, and has an interactive board; for mail, use the version without "
        "JavaScript. The ZIP file contains run.json, head_mask.json, arrays.npz and table.json; `cahp report` rebuilds "
        "the report."
    )


def _report(
    explorer: Explorer, view: View, run: RunDocument, examples: Sequence[report.Example] = (), *, static: bool = False
) -> bytes:
    clusters = explorer.clusters
    table = explorer.table(explorer.swept)
    live = None
    if clusters is not None and view.labels is not None and table is not None:
        live = Live(clusters, table, view.labels)
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
    job = explorer.job(FLIPS)
    if job is None:
        job = explorer.start(FLIPS)
        job.wait(1.0)
    if not job.ended:
        follow(job, place="export-examples", title="Compare predictions")
    elif job.error:
        problem(job.error)
    if job.result is None:
        return []
    table = job.result.table(explorer.bench.evaluation, "full", "pruned", classes=explorer.bench.class_names)
    labels = table.get("label", [""] * len(table["text"]))
    flips = zip(table["text"], labels, table["full"], table["pruned"], strict=True)
    # Those that became wrong come first.
    return sorted(flips, key=lambda flip: (flip[2] != flip[1], flip[3] != flip[1]))[:3]


def draw_command(explorer: Explorer, view: View) -> None:
    """Draw the card of the command that repeats the run."""
    st.subheader("Reproduce this run")
    run = view.document
    if run is None:
        settings = replace(
            explorer.settings,
            budget=str(explorer.board.budget),
            method=chosen_by(explorer),
            recover=explorer.recover,
        )
    else:
        settings = run.settings
    recipe = _recipe(explorer, settings)
    if formats.MASK_FILE in recipe:
        st.markdown(f"Save the mask as `{formats.MASK_FILE}`, then:")
    else:
        st.markdown("In a terminal:")
    if explorer.source.uploaded:
        st.caption("Run it in the folder that contains your files.")
    st.code(recipe, language="bash", wrap_lines=True)


def _recipe(explorer: Explorer, settings: Settings) -> str:
    if explorer.source.uploaded:
        # Uploaded files have the names that they had when they were uploaded.
        settings = replace(settings, data=explorer.settings.data)
    return report.recipe(settings)
