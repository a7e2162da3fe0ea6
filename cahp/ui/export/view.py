"""What is on the board, what was measured of it, and measuring it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp.export import recipe as takeaway
from cahp.run.document import BY_HAND, RunDocument, machine
from cahp.run.prune import measure_mask
from cahp.run.settings import Recovery
from cahp.run.stopwatch import Stopwatch
from cahp.ui.frame import page as shell
from cahp.ui.frame.progress import follow
from cahp.ui.parts.text import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import distil_seconds
from cahp.values import Costs, HeadMask, Progress
from cahp.words import duration, percent, points, span

#: What each recovery has done to the model.
_DONE: dict[Recovery, str] = {
    "none": "as pruned",
    "refit": "refitted",
    "distill": "distilled",
    "auto": "recovered",
    "finetune": "fine-tuned",
}
#: Session key: the jobs that measured masks for a report.
_MEASURED = "cahp_export_measured"


@dataclass(frozen=True, eq=False)
class View:
    """The mask on the board and what was measured of it: a document of ``cahp.run/1``, or None until it is measured."""

    mask: HeadMask
    labels: NDArray[np.int64] | None
    document: RunDocument | None
    arrays: Mapping[str, NDArray[Any]]
    bundled: bool

    @property
    def method(self) -> str:
        """Who chose the heads."""
        return BY_HAND if self.document is None else self.document.settings.method


def on_board(explorer: Explorer) -> View:
    """The mask on the board, with the run on screen where that is about it, or what was measured here."""
    mask, evidence = explorer.mask, explorer.clusters
    labels = None if evidence is None else explorer.board.labels
    run = _run_on_screen(explorer)
    if run is not None:
        return View(mask, labels, run, explorer.results.arrays, explorer.results.bundled)
    arrays = dict(explorer.results.arrays)
    if evidence is not None and labels is not None:
        _, medoids = evidence.groups(int(labels.max()) + 1)
        arrays |= {"labels": labels, "medoids": medoids}
    job = jobs_of(_MEASURED).get(name_of(explorer))
    return View(mask, labels, None if job is None else job.result, arrays, bundled=False)


def _run_on_screen(explorer: Explorer) -> RunDocument | None:
    """The run on screen, if it is about this mask and has what the board asks for."""
    run, mask = explorer.results.run, explorer.mask
    if run is None or not run.is_of(mask):
        return None
    if explorer.board.by_hand:
        return None
    if explorer.recover != "none" and (run.settings.recover != explorer.recover or run.metrics.recovered is None):
        return None
    return run


def jobs_of(name: str) -> dict[str, jobs.Job[Any]]:
    """This session's jobs of a kind, by what they are about."""
    return st.session_state.setdefault(name, {})  # type: ignore[no-any-return]


def name_of(explorer: Explorer) -> str:
    """What a job is about: the model, the texts, the mask and its recovery."""
    bench = explorer.bench
    asked = (explorer.card.sha256, bench.calibration.sha256, bench.evaluation.sha256, explorer.mask.sha256)
    return "-".join((*asked, explorer.recover, "hand" if explorer.board.by_hand else "budget"))


def found(explorer: Explorer, view: View) -> None:
    """What was measured of the mask, in words and with its intervals."""
    run = view.document
    if run is None:
        quality = explorer.quality(explorer.recover)
        said = "Not measured yet." if quality is None else f"{percent(quality.accuracy)} of {quality.n} answers right."
        st.markdown(f"**{said}** The mask can be taken along now; its report needs a run of its own.")
        _measure_button(explorer)
        return
    states = [
        (name, words)
        for name, words in (("full", "all heads"), ("pruned", "pruned"), ("recovered", _DONE[run.settings.recover]))
        if name in run.metrics.measured
    ]
    ratio, before, after = run.latency_ratio, run.cost.full.latency_ms, run.cost.pruned.latency_ms
    columns = st.columns(len(states) + (ratio is not None), gap="medium")
    for column, (name, words) in zip(columns, states, strict=False):
        metrics, change = run.metrics.measured[name], run.delta.of(name)
        column.metric(f"Right answers, {words}", percent(metrics.accuracy))
        column.caption(f"{span(metrics.ci95[0] * 100, metrics.ci95[1] * 100)} % (95 % interval), n = {metrics.n:,}")
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
    where = shell.provenance(explorer) if view.bundled else f"Measured on this machine ({plain(machine())})."
    if view.mask.empty_layers:
        where += " A layer keeps no head, so this is a mask only: it can be neither cut out, timed nor refitted."
    st.caption(where)


# Measuring it ---------------------------------------------------------------------------------------------------


def _measure_button(explorer: Explorer) -> None:
    name = name_of(explorer)
    job = jobs_of(_MEASURED).get(name)
    if job is not None and not job.ended:
        follow(job, place="export-measure")
        return
    if job is not None and job.error:
        shell.problem(job.error)
    label, takes = "Measure it", "seconds"
    if explorer.awaits_distillation:
        about = duration(distil_seconds(explorer.bench))
        label, takes = f"Distil and measure it (about {about})", "the distillation takes longest"
    if st.button(label, key="export-measure", type="primary", help=f"Accuracy, intervals and time; {takes}."):
        jobs_of(_MEASURED)[name] = _measure(explorer)
        st.rerun()


def _measure(explorer: Explorer) -> jobs.Job[RunDocument]:
    bench, mask, selection, recover = explorer.bench, explorer.mask, explorer.board.selection, explorer.recover
    if recover == "distill":
        bench = bench.for_distillation()
    clustering = None if explorer.clusters is None else explorer.clusters.clustering

    def work(progress: Progress) -> RunDocument:
        def costs(mask: HeadMask) -> Costs:
            with Stopwatch(
                bench.settings.model,
                device=bench.settings.device,
                store=bench.resources.store,
                prompt=bench.card.prompt,
            ) as watch:
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

    return jobs.submit(explorer.id, f"export-{name_of(explorer)}", work)
