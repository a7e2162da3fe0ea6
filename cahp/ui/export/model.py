"""The card of the pruned model: choose a form and a recovery, write it in the background, download it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, checkpoint
from cahp.exports.form import ModelForm, change, circumstances, decoding_lines
from cahp.outcomes import describe, main_outcome
from cahp.recoveries import NONE, RECOVERIES, DistillReport
from cahp.run.options import parse_duration
from cahp.run.settings import RECOVER_TIME
from cahp.ui.export.view import View, chosen_by, list_findings, name_of
from cahp.ui.frame.board import draw_no_refit
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import download, plain, problem, show_steps
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import recovery_seconds
from cahp.values import OptionError
from cahp.words import capital, duration, percent, size_of

#: Session key: the job that wrote the latest model, by name.
_WRITTEN = "cahp_export_written"
#: Session key: the board's recovery when one was last chosen here.
_OF_BOARD = "cahp_export_of_board"
#: The distillation of the board, whose result other distillations reuse.
_DISTILLED = next(row.name for row in RECOVERIES.values() if row.imitates and row.on_board)


def draw_model_files(explorer: Explorer, view: View) -> None:
    """Draw the card of the pruned model."""
    st.subheader("The pruned model")
    st.markdown(
        "The pruned model is saved, loaded again in a new process without this package, and compared with the masked "
        "model. Its README explains how to load it."
    )
    if view.masked_only:
        st.caption("The attention of a layer of this model cannot be left out. Download the mask.")
        return
    form, recover, epochs, allowed = _draw_choices(explorer, view)
    try:
        formats.check_export(form, explorer.card, view.mask, recover)
    except OptionError as refused:
        st.caption(plain(str(refused)))
        return
    written: dict[str, jobs.Job[tuple[bytes, dict[str, Any]]]] = st.session_state.setdefault(_WRITTEN, {})
    name = f"{name_of(explorer)}-{form.key}-{recover}-{epochs}-{allowed:.0f}"
    job = written.get(name)
    if job is not None and not job.ended:
        title = "Write the model"
        if RECOVERIES[recover].trains:
            # Its stages tell more.
            title = ""
        follow(job, place="export-model", title=title)
        return
    if job is not None and job.error:
        problem(job.error)
    if job is None or job.result is None:
        if st.button("Write the model", key="export-model"):
            # A model is large: only the newest is kept.
            written.clear()
            write = partial(
                checkpoint,
                explorer.bench,
                view.mask,
                form=form,
                provenance=Provenance(chosen_by(explorer), findings=list_findings(explorer, view, recover)),
                recover=recover,
                epochs=epochs,
                allowed=allowed or None,
            )
            # Minutes of training step aside for work that somebody waits for.
            written[name] = jobs.submit(
                explorer.id,
                f"model-{name}",
                lambda progress: write(progress=progress),
                rank=jobs.Rank.LONG,
            )
            st.rerun()
        return
    content, results = job.result
    for epoch in results.get("epochs", []):
        st.caption(
            f"Epoch {epoch['epoch']}: loss {epoch['loss']:.3f}, accuracy {percent(epoch['accuracy'])} on held-out "
            "texts."
        )
    distilled: DistillReport | None = results.get("distill")
    if distilled is not None:
        taken = "was accepted" if distilled.accepted else "was rejected"
        st.caption(plain(f"The distillation on {distilled.examples:,} texts {taken}: {distilled.reason}."))
    show_steps(results.get("steps", ()))
    *_, last = (outcomes for outcomes in results["outcomes"].values() if outcomes is not None)
    size = len(content) / 1e6
    download(f"Model (ZIP, {size:.0f} MB)", content, f"cahp-{form.key}.zip", "application/zip")
    state = capital(RECOVERIES[recover].beside)
    if form.rounded is not None:
        state += f" and rounded to {form.rounded.state}"
    close = form.closeness(**{name: results[name] for name in ("difference", "agreement", "tried", "written")})
    st.caption(f"{state}: {describe(last)}. Loaded again in a new process: {close}.")
    _draw_sizes(results)


def _draw_forms(explorer: Explorer, view: View, chosen: str, recover: str) -> None:
    """Draw the forms as a table: what loads them, how they compare, and what they need."""
    rows = []
    for form in formats.model_forms():
        title = form.title
        if form.key == chosen:
            title = f"**{title}**"
        needs = capital(form.needs_model or "heads that can be cut")
        reason = formats.find_bar(form, explorer.card, view.mask, recover)
        if reason is not None:
            needs = plain(f"Not this model, since {reason}")
        rows.append(
            {
                "form": title,
                "loads with": form.loads_with,
                "size": form.size,
                "speed": form.speed,
                "checked before it is written": form.exactness,
                "for": needs,
            }
        )
    st.table(rows)


def _draw_choices(explorer: Explorer, view: View) -> tuple[ModelForm, str, int, float]:
    """Ask for the form, the recovery, the epochs of fine-tuning and the seconds allowed (0: not asked)."""
    titles = {form.key: form.title for form in formats.model_forms()}
    key = st.radio("Form", list(titles), format_func=titles.__getitem__, key="export-form", horizontal=True)
    labelled = explorer.bench.dataset.labelled
    offered = [
        name
        for name, row in RECOVERIES.items()
        if not (row.closed_form and explorer.no_refit) and (labelled or not row.needs_labels)
    ]
    shown = st.session_state.get("export-recover")
    if st.session_state.get(_OF_BOARD) != explorer.recover or shown not in offered:
        # Follow the board, so that page, report and model agree.
        st.session_state[_OF_BOARD] = explorer.recover
        st.session_state["export-recover"] = explorer.recover if explorer.recover in offered else NONE.name
    _draw_forms(explorer, view, key, st.session_state["export-recover"])
    recover = st.radio("Recovery", offered, format_func=lambda name: RECOVERIES[name].choice, key="export-recover")
    if recover != explorer.recover:
        st.caption(
            f"The figures above and the report describe the mask {RECOVERIES[explorer.recover].beside}; this model "
            f"will be written {RECOVERIES[recover].beside}. Its figures appear here and in its README."
        )
    epochs = 0
    allowed = 0.0
    if RECOVERIES[recover].timed:
        usual = parse_duration(RECOVER_TIME) / 60
        allowed = 60 * st.number_input(
            "Time limit, in minutes", 0.1, 600.0, usual, step=0.5, format="%.1f", key="export-allowed"
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
        epochs = int(st.number_input("Epochs", 1, 20, 3, key="export-epochs", help="The paper trains 3 epochs."))
    return formats.model_form(key), recover, epochs, allowed


def _draw_sizes(results: Mapping[str, Any]) -> None:
    """Draw a table of file size, latency and accuracy of the full, the pruned and a quantized model."""
    files = results["files"]
    runtime = formats.model_form(results["form"]).runtime
    if not files:
        return
    values = {}
    for state, outcomes in results["outcomes"].items():
        if outcomes is not None:
            _, values[state] = main_outcome(outcomes)
    row, _ = main_outcome(results["outcomes"]["full"])
    outcome = row.name
    rows = []
    for file in files:
        # One column for both: five do not fit on a phone.
        batch = f"{file.latency_ms.median:.1f} ms"
        if file.ratio is not None:
            batch += f", {change(file.ratio)} ({file.ratio.span})"
        value = values[file.name]
        rows.append(
            {
                "model": file.name,
                "file": size_of(file.bytes),
                "a batch": batch,
                outcome: f"{value.text} ({value.span} %)",
            }
        )
    st.table(rows)
    if written := list(decoding_lines(files, runtime)):
        st.caption("Text written with the cache, one text at a time:\n" + "".join(f"\n- {line}" for line in written))
    st.caption(
        f"Times {circumstances(files, runtime)}; {outcome} on {values['full'].n:,} texts. 95 % intervals in "
        "brackets; for times, of the ratio."
    )
