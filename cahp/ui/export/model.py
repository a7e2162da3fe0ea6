"""The row of the pruned model: choose a recovery, write a form in the background, download it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import streamlit as st

from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, checkpoint
from cahp.exports.form import ModelForm, change, circumstances, decoding_lines
from cahp.outcomes import describe, main_outcome
from cahp.recoveries import NONE, RECOVERIES, DistillReport
from cahp.run.settings import RECOVER_TIME, parse_duration
from cahp.ui.export.view import View, chosen_by, list_findings, name_of
from cahp.ui.frame.board import draw_no_refit
from cahp.ui.frame.running import job_card
from cahp.ui.parts.display import download, plain, show_steps
from cahp.ui.session.estimates import recovery_seconds
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import Kind
from cahp.words import capital, duration, percent, size_of

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
    state = capital(RECOVERIES[recover].beside)
    if form.rounded is not None:
        state += f" and rounded to {form.rounded.state}"
    words = "texts"
    if explorer.bench.protocol is not None:
        words = "tokens"
    compared = {name: results[name] for name in ("difference", "agreement", "tried", "written")}
    close = form.closeness(**compared, words=words)
    st.caption(f"{form.title}, {state}: {describe(last)}. Loaded again in a new process: {close}.")
    _draw_sizes(results)


def draw_recovery(explorer: Explorer) -> str:
    """Draw the box of the recovery, which begins with that of the board, and return the chosen one."""
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
    if recover != explorer.recover:
        st.caption(
            f"The figures and the report describe the mask {RECOVERIES[explorer.recover].beside}; the model will be "
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
        f"Times {circumstances(files, runtime)}; {outcome}: n = {values['full'].n:,}. 95 % intervals in "
        "brackets; for times, of the ratio."
    )
