"""Download the mask, the report and the run; show the command that repeats them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial

import streamlit as st

from cahp.exports import formats, report
from cahp.exports import recipe as takeaway
from cahp.exports.live import Live
from cahp.exports.masks import MaskOrigin
from cahp.exports.run_folder import run_archive
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import RunDocument, machine, outcome_records
from cahp.run.prune import Run
from cahp.run.settings import Settings
from cahp.ui.export.view import View, chosen_by
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import FLIPS

#: Session key: whether the report may contain texts of the data.
_EXAMPLES = "export-examples"


def mask_files(explorer: Explorer, view: View) -> None:
    """Draw the card of the mask alone."""
    st.subheader("The mask")
    st.markdown("The kept heads, for use in other tools.")
    mask, run = view.mask, view.document
    by_hand = explorer.board.by_hand
    if run is None:
        budget = {"requested": None if by_hand else mask.count, "attained": mask.count}
        origin = MaskOrigin(explorer.card.id, chosen_by(explorer), budget, labels=view.labels)
    else:
        origin = MaskOrigin(
            explorer.card.id, view.method, run.budget, outcome_records(run.outcomes)["metrics"], view.labels
        )
    with st.container(horizontal=True):
        for form in formats.mask_forms():
            if form.button:
                download(form.title, partial(form.write, mask, origin), form.file, form.media)
    st.caption("One row per layer, one column per head; 1 or True is kept. The Budget page reads the JSON file.")


def report_files(explorer: Explorer, view: View) -> None:
    """Draw the card of the report and the run's folder."""
    st.subheader("Report and run")
    st.markdown("A report for others, and the data behind it.")
    run = view.document
    if run is None:
        st.caption("Measure the mask first (above).")
        return
    _with_examples(explorer)
    with st.container(horizontal=True):
        download("Report (HTML)", lambda: _report(explorer, view, run).encode(), "cahp-report.html", "text/html")
        download(
            "Report without script",
            lambda: _report(explorer, view, run, static=True).encode(),
            "cahp-report-static.html",
            "text/html",
        )
        download(
            "Run folder (ZIP)",
            lambda: run_archive(Run(run, view.mask, view.arrays), table=explorer.table(explorer.swept)),
            "cahp-run.zip",
            "application/zip",
        )
    st.caption(
        "The report works offline, prints, and has an interactive board; the version without script is for mail. The "
        "ZIP file contains run.json, head_mask.json, arrays.npz and table.json; `cahp report` makes the report from it."
    )


def _report(explorer: Explorer, view: View, run: RunDocument, *, static: bool = False) -> str:
    recipe = _recipe(explorer, run)
    made = explorer.results.bundle.made if view.bundled and explorer.results.bundle is not None else None
    evidence, labels = explorer.clusters, view.labels
    table = explorer.table(explorer.swept)
    beside = {
        row.result: explorer.outcomes(row.name) for row in RECOVERIES.values() if row.on_board and row is not NONE
    }
    live = None
    if evidence is not None and labels is not None and table is not None:
        live = Live(evidence, table, labels)
    return report.page(
        run,
        view.mask,
        origin=report.Origin(
            machine=run.machine or machine() if made is None else made["machine"],
            date=date.today().isoformat() if made is None else made["date"],
            command=recipe.shell,
            python=recipe.python,
            bundled=made is not None,
        ),
        live=live,
        static=static,
        recoveries={name: found for name, found in beside.items() if found is not None},
        examples=_examples(explorer),
    )


def _with_examples(explorer: Explorer) -> None:
    """Ask whether the report may contain texts of the data, which may be confidential."""
    wanted = st.checkbox(
        "Include three texts whose prediction changed",
        key=_EXAMPLES,
        persist_state="session",
        help="The report then contains these texts unchanged. Choose this only if its readers may see your data.",
    )
    job = explorer.job(FLIPS)
    if wanted and job is None:
        job = explorer.start(FLIPS)
        job.wait(1.0)
    if wanted and job is not None and not job.ended:
        follow(job, place="export-examples", title="Compare predictions")
    elif wanted and job is not None and job.error:
        problem(job.error)


def _examples(explorer: Explorer) -> list[report.Example]:
    """Return three texts whose prediction changed, those that became wrong first; none unless allowed."""
    job = explorer.job(FLIPS)
    if not st.session_state.get(_EXAMPLES) or job is None or not job.result:
        return []
    flips = sorted(job.result, key=lambda flip: (flip.full != flip.label, flip.pruned != flip.label))
    return [report.Example(flip.text, flip.label, flip.full, flip.pruned) for flip in flips[:3]]


def again(explorer: Explorer, view: View) -> None:
    """Draw the card of the command that repeats the run."""
    st.subheader("Repeat this run")
    run = view.document
    recipe = takeaway.recipe(_asked(explorer)) if run is None else _recipe(explorer, run)
    if formats.MASK_FILE in recipe.command:
        st.markdown(f"Save the mask as `{formats.MASK_FILE}`, then:")
    else:
        st.markdown("In a terminal, or in Python:")
    if explorer.source.uploaded:
        st.caption("Run it in the folder that contains your files.")
    st.code(recipe.shell, language="bash", wrap_lines=True)
    st.code(recipe.python, language="python", wrap_lines=True)


def _asked(explorer: Explorer) -> Settings:
    """Return the settings that select the mask on the board, before it is measured."""
    budget, method = str(explorer.board.budget), chosen_by(explorer)
    return _with_file(explorer, replace(explorer.settings, budget=budget, method=method, recover=explorer.recover))


def _recipe(explorer: Explorer, run: RunDocument) -> takeaway.Recipe:
    return takeaway.recipe(_with_file(explorer, run.settings))


def _with_file(explorer: Explorer, settings: Settings) -> Settings:
    """Name uploaded files as they were named when uploaded."""
    return replace(settings, data=explorer.settings.data) if explorer.source.uploaded else settings


def download(label: str, data: bytes | Callable[[], bytes], name: str, media: str) -> None:
    """Draw a download button; if ``data`` is a function, a click calls it."""
    st.download_button(label, data, name, media, key=f"get-{name.replace('.', '-')}", on_click="ignore")
