"""The rows that download the mask, the report and the run, and that show the command to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from mimetypes import guess_type
from typing import Any

import numpy as np
import streamlit as st

from cahp import features
from cahp.exports import formats, report
from cahp.exports.live import Live
from cahp.exports.masks import MaskOrigin
from cahp.exports.run_folder import run_archive
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import BY_HAND, RunDocument, machine, outcome_records
from cahp.run.prune import Run
from cahp.run.settings import Settings
from cahp.ui.export.view import View, chosen_by
from cahp.ui.frame.running import job_card
from cahp.ui.parts.display import download
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import FLIPS


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
    if explorer.lacks_distilled:
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
            explorer.settings, budget=str(explorer.board.budget), method=method, recover=explorer.recover
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
