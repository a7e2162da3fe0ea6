"""Take it home: the mask on the board, its figures, its report, its recipe, and a recovered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp import bundled as bundle
from cahp.export import masks as export
from cahp.export import recipe as takeaway
from cahp.export import report
from cahp.export.checkpoints import Form, Written
from cahp.export.masks import mask_to_json
from cahp.export.recipe import Checkpoint
from cahp.export.run_folder import run_archive
from cahp.files import json_text
from cahp.run.document import BY_HAND, RunDocument, StateMetrics
from cahp.run.prune import Run, measure_mask
from cahp.run.settings import Recovery, Settings
from cahp.run.stopwatch import Stopwatch
from cahp.ui.frame import page as shell
from cahp.ui.frame.progress import follow
from cahp.ui.frame.run_button import need_run
from cahp.ui.parts import chart as charts
from cahp.ui.parts import palette
from cahp.ui.parts.head_grid import grid_figure
from cahp.ui.parts.text import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.values import Costs, HeadMask, Progress
from cahp.words import percent, points, span

#: Session keys: the jobs that measured masks for a report, and those that wrote models.
_MEASURED, _WRITTEN = "cahp_export_measured", "cahp_export_written"


@dataclass(frozen=True, eq=False)
class View:
    """The mask on the board and what is known of it: a document of ``cahp.run/1``, or None until it is measured."""

    mask: HeadMask
    labels: NDArray[np.int64] | None
    document: RunDocument | None
    arrays: Mapping[str, NDArray[Any]]
    bundled: bool

    @property
    def method(self) -> str:
        """Who chose the heads."""
        return BY_HAND if self.document is None else self.document.settings.method


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    need_run(explorer)
    view = _view(explorer)
    st.title("Take it home")
    who = "made by hand" if explorer.by_hand else "chosen by CAHP"
    st.markdown(
        f"What is on the board, as files: **{view.mask.count} of {view.mask.keep.size} heads**, {who}. "
        "Change it on the Budget page; everything here follows."
    )
    _found(explorer, view)
    for row in ((_mask_files, _report_files), (_model_files, _again)):
        for column, part in zip(st.columns(2, gap="medium"), row, strict=True):
            with column, st.container(border=True, key=f"export-{part.__name__.strip('_')}", height="stretch"):
                part(explorer, view)
    st.subheader("Pictures")
    st.caption("SVG, PNG and CSV of each are under the small i beside its title.")
    left, right = st.columns(2, gap="large")
    with left:
        _grid(view)
    with right:
        _accuracy_curve(explorer)
        _silhouette_curve(explorer)


# What is on the board ----------------------------------------------------------------------------------------


def _view(explorer: Explorer) -> View:
    mask, evidence = explorer.mask, explorer.evidence
    labels = None if evidence is None else explorer.labels
    known = _known(explorer)
    if known is not None:
        return View(mask, labels, known, explorer.arrays, explorer.bundled)
    arrays = dict(explorer.arrays)
    if evidence is not None and labels is not None:
        _, medoids = evidence.groups(int(labels.max()) + 1)
        arrays |= {"labels": labels, "medoids": medoids}
    job = _jobs(_MEASURED).get(_name(explorer))
    return View(mask, labels, None if job is None else job.result, arrays, bundled=False)


def _known(explorer: Explorer) -> RunDocument | None:
    """The run on screen, if it is about this mask and has what the board asks for."""
    run, mask = explorer.run, explorer.mask
    if run is None or not run.is_of(mask):
        return None
    if explorer.by_hand or (explorer.recover == "refit" and run.metrics.recovered is None):
        return None
    return run


def _jobs(name: str) -> dict[str, jobs.Job[Any]]:
    return st.session_state.setdefault(name, {})  # type: ignore[no-any-return]


def _name(explorer: Explorer) -> str:
    bench = explorer.bench
    asked = (explorer.card.sha256, bench.calibration.sha256, bench.evaluation.sha256, explorer.mask.sha256)
    return "-".join((*asked, explorer.recover, "hand" if explorer.by_hand else "budget"))


def _grid(view: View) -> None:
    labels = view.labels
    columns: dict[str, Any] = {
        "layer": np.arange(view.mask.keep.size) // view.mask.heads,
        "head": np.arange(view.mask.keep.size) % view.mask.heads,
        "kept": view.mask.keep.ravel().astype(int),
    }
    if labels is not None:
        columns["cluster"] = [palette.letters(int(label)) for label in labels]
    charts.show(
        grid_figure(view.mask, labels, dark=palette.dark(), width=430),
        title=f"{view.mask.count} of {view.mask.keep.size} heads stay",
        help="One square a head: solid squares stay, hollow ones go. Heads of one letter are alike.",
        name="heads",
        data=columns,
        alt="; ".join(f"layer {layer} keeps {heads}" for layer, heads in enumerate(view.mask.by_layer)),
    )


def _found(explorer: Explorer, view: View) -> None:
    """What was measured of the mask, in words and with its intervals."""
    run = view.document
    if run is None:
        known = explorer.quality()
        said = "Not measured yet." if known is None else f"{percent(known.accuracy)} of {known.n} answers right."
        st.markdown(f"**{said}** The mask can be taken along now; its report needs a run of its own.")
        _measure_button(explorer)
        return
    states = [
        (name, words)
        for name, words in (("full", "all heads"), ("pruned", "pruned"), ("recovered", "refitted"))
        if name in run.metrics.measured
    ]
    ratio, before, after = run.latency_ratio, run.cost.full.latency_ms, run.cost.pruned.latency_ms
    columns = st.columns(len(states) + (ratio is not None), gap="medium")
    for column, (name, words) in zip(columns, states, strict=False):
        quality, change = run.metrics.measured[name], run.delta.of(name)
        column.metric(f"Right answers, {words}", percent(quality.accuracy))
        column.caption(f"{span(quality.ci95[0] * 100, quality.ci95[1] * 100)} % (95 % interval), n = {quality.n:,}")
        if change is not None:
            column.caption(f"{points(change.pp)} ({span(*change.ci95)}) against all heads")
    if ratio is not None and before is not None and after is not None:
        columns[-1].metric(
            "Time of a batch", f"{after.median:.1f} ms", help="Median, measured on the model that is cut."
        )
        columns[-1].caption(f"{before.median:.1f} ms with all heads")
        columns[-1].caption(
            f"{ratio.median:.2f} of the time ({span(*ratio.ci95, 2)})" if ratio.measurable else "No measurable change"
        )
    where = shell.provenance(explorer) if view.bundled else f"Measured on this machine ({plain(bundle.machine())})."
    if view.mask.empty_layers:
        where += " A layer keeps no head, so this is a mask only: it can be neither cut out, timed nor refitted."
    st.caption(where)


# Measuring it ------------------------------------------------------------------------------------------------


def _measure_button(explorer: Explorer) -> None:
    name = _name(explorer)
    job = _jobs(_MEASURED).get(name)
    if job is not None and not job.ended:
        follow(job, place="export-measure")
        return
    if job is not None and job.error:
        shell.problem(job.error)
    if st.button("Measure it", key="export-measure", type="primary", help="Accuracy, intervals and time; seconds."):
        _jobs(_MEASURED)[name] = _measure(explorer)
        st.rerun()


def _measure(explorer: Explorer) -> jobs.Job[RunDocument]:
    bench, mask, selection = explorer.bench, explorer.mask, explorer.selection
    recover = explorer.recover == "refit"
    clustering = None if explorer.evidence is None else explorer.evidence.clustering

    def work(progress: Progress) -> RunDocument:
        def costs(mask: HeadMask) -> Costs:
            with Stopwatch(bench.settings.model, device=bench.settings.device, store=bench.resources.store) as watch:
                return watch.costs(mask, length=bench.length, progress=progress)

        return measure_mask(
            bench,
            mask,
            costs=costs,
            command=lambda settings: takeaway.recipe(settings).shell,
            recover=recover,
            selection=selection,
            clustering=None if selection is None else clustering,
        )

    return jobs.submit(explorer.id, f"export-{_name(explorer)}", work)


# The four cards ----------------------------------------------------------------------------------------------


def _mask_files(explorer: Explorer, view: View) -> None:
    st.subheader("The mask")
    st.markdown("Which heads stay, for any other tool.")
    mask, run = view.mask, view.document
    method = BY_HAND if explorer.by_hand else explorer.settings.method
    said = None if run is None else run.metrics
    budget = {"requested": None if explorer.by_hand else mask.count, "attained": mask.count}
    document = mask_to_json(
        mask,
        model=explorer.card.id,
        method=method if run is None else view.method,
        budget=budget if run is None else run.budget,
        metrics=said or {},
    )
    with st.container(horizontal=True):
        _download("JSON", lambda: json_text(document).encode(), takeaway.MASK_FILE, "application/json")
        _download("CSV", lambda: export.mask_csv(mask, view.labels), "head_mask.csv", "text/csv")
        _download("PyTorch", lambda: export.mask_tensor(mask), "head_mask.pt", "application/octet-stream")
        _download("NumPy", lambda: export.mask_array(mask), "head_mask.npy", "application/octet-stream")
    st.caption("Layers by heads; 1 or True stays. The JSON file can be dropped onto the Budget page again.")


def _report_files(explorer: Explorer, view: View) -> None:
    st.subheader("Report and run")
    st.markdown("One page for people who were not here, and everything behind it.")
    run = view.document
    if run is None:
        st.caption("Measure the mask first (above).")
        return
    with st.container(horizontal=True):
        _download("Report (HTML)", lambda: _report(explorer, view, run).encode(), "cahp-report.html", "text/html")
        _download(
            "Run folder (ZIP)",
            lambda: run_archive(Run(run, view.mask, view.arrays)),
            "cahp-run.zip",
            "application/zip",
        )
    st.caption("The report opens offline and prints. The ZIP file holds run.json, head_mask.json and arrays.npz.")


def _report(explorer: Explorer, view: View, run: RunDocument) -> str:
    recipe = _recipe(explorer, run)
    made = explorer.bundle.made if view.bundled and explorer.bundle is not None else None
    evidence, labels = explorer.evidence, view.labels
    clusters = curve = None
    if labels is not None:
        names = [palette.letters(label) for label in range(int(labels.max()) + 1)]
        clusters = report.Clusters(labels, palette.hues(labels), names)
    if evidence is not None:
        curve = report.Curve(evidence.clustering.ks, evidence.clustering.mss, evidence.clustering.knee)
    return report.page(
        run,
        view.mask,
        origin=report.Origin(
            machine=bundle.machine() if made is None else made["machine"],
            date=date.today().isoformat() if made is None else made["date"],
            command=recipe.shell,
            python=recipe.python,
            bundled=made is not None,
        ),
        clusters=clusters,
        curve=curve,
    )


def _again(explorer: Explorer, view: View) -> None:
    st.subheader("Make it again")
    run = view.document
    recipe = takeaway.recipe(_asked(explorer)) if run is None else _recipe(explorer, run)
    if takeaway.MASK_FILE in recipe.command:
        st.markdown(f"Save the mask as `{takeaway.MASK_FILE}`, then:")
    else:
        st.markdown("In a terminal, or in Python:")
    if explorer.source.uploaded:
        st.caption("Your file has to lie in the folder where you run this.")
    st.code(recipe.shell, language="bash", wrap_lines=True)
    st.code(recipe.python, language="python", wrap_lines=True)


def _asked(explorer: Explorer) -> Settings:
    """The settings that make the mask on the board, before it is measured."""
    method = BY_HAND if explorer.by_hand else explorer.settings.method
    settings = replace(explorer.settings, budget=str(explorer.budget), method=method, recover=explorer.recover)
    return _with_file(explorer, settings)


def _recipe(explorer: Explorer, run: RunDocument) -> takeaway.Recipe:
    return takeaway.recipe(_with_file(explorer, run.settings))


def _with_file(explorer: Explorer, settings: Settings) -> Settings:
    """A file that only this session has goes by the name it came with."""
    return replace(settings, data=explorer.bench.dataset.id) if explorer.source.uploaded else settings


def _model_files(explorer: Explorer, view: View) -> None:
    st.subheader("The pruned model")
    st.markdown(
        "Written, read back in a fresh process that does not know this tool, and compared before you get it. "
        "The README in it says how to load it."
    )
    if view.mask.empty_layers:
        st.caption("A layer keeps no head, so there is no model to cut.")
        return
    form, recover, epochs = _asked_of_the_model(explorer.card.no_refit)
    name = f"{_name(explorer)}-{form}-{recover}-{epochs}"
    job: jobs.Job[Checkpoint] | None = _jobs(_WRITTEN).get(name)
    if job is not None and not job.ended:
        if recover == "finetune":
            st.fragment(_loss, run_every=1.0)(name)
        follow(job, place="export-model", title="" if recover == "finetune" else "Writing the model")
        return
    if job is not None and job.error:
        shell.problem(job.error)
    if job is None or job.result is None:
        if st.button("Make the model", key="export-model"):
            # A model is large: only the newest is kept.
            _jobs(_WRITTEN).clear()
            bench, mask, losses = explorer.bench, view.mask, _losses(name)
            _jobs(_WRITTEN)[name] = jobs.submit(
                explorer.id,
                f"model-{name}",
                lambda progress: takeaway.checkpoint(
                    bench,
                    mask,
                    form=form,
                    recover=recover,
                    epochs=epochs,
                    watch=lambda training: losses.append((training.step, training.loss)),
                    progress=progress,
                ),
                # Minutes of training step aside for whatever somebody waits for.
                rank=jobs.Rank.BACKGROUND,
            )
            st.rerun()
        return
    made = job.result
    metrics: StateMetrics = made.outcome["metrics"]
    for epoch in made.outcome.get("epochs", []):
        st.caption(f"Epoch {epoch['epoch']}: loss {epoch['loss']:.3f}, {percent(epoch['accuracy'])} of held-out texts.")
    said = metrics.recovered or metrics.pruned or metrics.full
    size = len(made.content) / 1e6
    _download(f"Model (ZIP, {size:.0f} MB)", made.content, f"cahp-{form}.zip", "application/zip")
    st.caption(
        f"{percent(said.accuracy)} right on {said.n:,} texts. Read back in a fresh process, its logits differ by "
        f"at most {made.written.difference:.0e}. {_timed(made.written)}"
    )


_FORMS: dict[Form, str] = {
    "compact": "Compact: smaller and faster; loads with the one Python file in it",
    "drop-in": "Drop-in: the original's shapes with zeros; loads with transformers alone, no smaller and no faster",
    "onnx": "ONNX: the compact model for onnxruntime, its time measured beside the full model's",
}
_RECOVERIES: dict[Recovery, str] = {
    "refit": "Refit: seconds, without training",
    "none": "As pruned: nothing recovered",
    "finetune": "Fine-tune: minutes, the paper's way; a training that you cancel is taken up again where it stopped",
}
#: Session key: steps and losses of trainings, by the name of their job.
_LOSSES = "cahp_export_losses"


def _losses(name: str) -> list[tuple[int, float]]:
    # Only the newest, as of the models.
    found: list[tuple[int, float]] = []
    st.session_state[_LOSSES] = {name: found}
    return found


def _loss(name: str) -> None:
    steps = list(st.session_state.get(_LOSSES, {}).get(name, []))
    if not steps:
        return
    st.caption(f"Batch {steps[-1][0]:,}: mean loss of this epoch {steps[-1][1]:.3f} nats")
    st.line_chart(
        {"batch": [step for step, _ in steps], "loss (nats)": [loss for _, loss in steps]},
        x="batch",
        y="loss (nats)",
        height=180,
    )


def _asked_of_the_model(no_refit: str | None) -> tuple[Form, Recovery, int]:
    form = st.radio("Form", list(_FORMS), format_func=_FORMS.__getitem__, key="export-form")
    there: list[Recovery] = ["none", "finetune"] if no_refit else ["refit", "none", "finetune"]
    recover = st.radio("Repair", there, format_func=_RECOVERIES.__getitem__, key="export-recover")
    if no_refit:
        st.caption(f"No refit: {plain(no_refit)}.")
    epochs = 0
    if recover == "finetune":
        epochs = int(st.number_input("Epochs", 1, 20, 3, key="export-epochs", help="The paper trains three."))
    return form, recover, epochs


def _timed(written: Written) -> str:
    if written.latency is None:
        return ""
    ratio = written.latency.ratio
    if not ratio.measurable:
        return "With onnxruntime, no measurable change of time."
    return (
        f"With onnxruntime it takes {ratio.median:.2f} of the full model's time (95 % interval {ratio.ci95[0]:.2f} to "
        f"{ratio.ci95[1]:.2f}, batch of {written.latency.full.batch}, {written.latency.full.length} tokens)."
    )


def _download(label: str, data: Any, name: str, kind: str) -> None:
    st.download_button(label, data, name, kind, key=f"get-{name.replace('.', '-')}", on_click="ignore")


# Charts of the whole view ------------------------------------------------------------------------------------


def _silhouette_curve(explorer: Explorer) -> None:
    evidence = explorer.evidence
    if evidence is None:
        return
    clustering = evidence.clustering
    charts.show(
        _line(clustering.ks, clustering.mss, "clusters k", "mean simplified silhouette", clustering.knee),
        title=f"The curve bends at {clustering.knee} clusters",
        help="How well the heads fall into k clusters. After the bend, more clusters say little new.",
        name="silhouette",
        data={"k": clustering.ks.tolist(), "silhouette": clustering.mss.tolist()},
    )


def _accuracy_curve(explorer: Explorer) -> None:
    table = explorer.table()
    rows = [] if table is None else [row for row in table.rows() if row.quality is not None]
    known = [(row.budget, row.quality) for row in rows if row.quality is not None]
    if len(known) < 2:
        st.caption("The Budget page measures how accuracy depends on the budget; then its curve is here too.")
        return
    budgets = np.array([budget for budget, _ in known])
    charts.show(
        _line(budgets, np.array([one.accuracy * 100 for _, one in known]), "heads kept", "right answers in %", None),
        title=f"Right answers at {len(known)} budgets, all measured",
        help="Accuracy of the pruned model without recovery. Budgets that were not measured are left out.",
        name="accuracy",
        data={
            "heads": budgets.tolist(),
            "accuracy": [one.accuracy for _, one in known],
            "low": [one.ci95[0] for _, one in known],
            "high": [one.ci95[1] for _, one in known],
            "n": [one.n for _, one in known],
        },
    )


def _line(xs: NDArray[Any], ys: NDArray[Any], x_title: str, y_title: str, mark: int | None) -> Any:
    import plotly.graph_objects as go

    colours = palette.ink(dark=palette.dark())
    figure = go.Figure(go.Scatter(x=xs, y=ys, mode="lines+markers", line={"color": colours.accent}, marker={"size": 4}))
    if mark is not None:
        figure.add_vline(x=mark, line={"dash": "dash", "color": colours.text, "width": 1})
    figure.update_layout(
        xaxis={"title": {"text": x_title}},
        yaxis={"title": {"text": y_title}},
        height=260,
        margin={"l": 60, "r": 10, "t": 10, "b": 50},
        showlegend=False,
    )
    return figure
