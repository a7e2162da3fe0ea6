"""The mask on the board and its measurements, or how to measure it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp.costs import Costs
from cahp.exports import recipe as takeaway
from cahp.recoveries import NONE, RECOVERIES, name_of_result
from cahp.run.document import BY_HAND, RunDocument, machine
from cahp.run.latency_worker import LatencyWorker
from cahp.run.prune import measure_mask
from cahp.studies.budget_sweep import Speed
from cahp.studies.filling import time_mask
from cahp.ui.frame import page as shell
from cahp.ui.frame.running import follow, time_button
from cahp.ui.parts.display import plain, problem
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import SPEED, recovery_seconds
from cahp.values import Estimate, HeadMask, Progress
from cahp.words import duration

#: Session key: the jobs that measure masks for a report.
_MEASURED = "cahp_export_measured"


@dataclass(frozen=True, eq=False)
class View:
    """The mask on the board and its run, a document of ``cahp.run/1``; None until it is measured."""

    mask: HeadMask
    labels: NDArray[np.int64] | None
    document: RunDocument | None
    arrays: Mapping[str, NDArray[Any]]
    bundled: bool

    @property
    def method(self) -> str:
        """Return who selected the heads."""
        return BY_HAND if self.document is None else self.document.settings.method


def on_board(explorer: Explorer) -> View:
    """Return the mask on the board with the run that measured it, on screen or here."""
    mask, evidence = explorer.mask, explorer.clusters
    labels = None if evidence is None else explorer.board.labels
    run = _run_on_screen(explorer)
    if run is not None:
        bundled = explorer.results.bundled
        return View(mask, labels, _timed_last(explorer, run, bundled), explorer.results.arrays, bundled)
    arrays = dict(explorer.results.arrays)
    if evidence is not None and labels is not None:
        _, medoids = evidence.groups(int(labels.max()) + 1)
        arrays |= {"labels": labels, "medoids": medoids}
    job = jobs_of(_MEASURED).get(name_of(explorer))
    measured = None if job is None or job.result is None else _timed_last(explorer, job.result, bundled=False)
    return View(mask, labels, measured, arrays, bundled=False)


def chosen_by(explorer: Explorer) -> str:
    """Return who selected the heads on the board."""
    return BY_HAND if explorer.board.by_hand else explorer.settings.method


def _run_on_screen(explorer: Explorer) -> RunDocument | None:
    """Return the run on screen if it measured this mask with the recovery of the board, without other recoveries."""
    run, mask = explorer.results.run, explorer.mask
    if run is None or not run.is_of(mask):
        return None
    if explorer.board.by_hand:
        return None
    if explorer.recover == NONE.name:
        # Otherwise the report would describe a model that is neither on the board nor exported.
        return run.as_pruned(command=lambda settings: takeaway.recipe(settings).shell)
    if run.settings.recover != explorer.recover or "recovered" not in run.outcomes:
        return None
    return run


def _timed_last(explorer: Explorer, run: RunDocument, bundled: bool) -> RunDocument:
    """Return ``run`` with the latency that the board shows."""
    costs = explorer.results.costs(explorer.mask)
    if costs is None or (costs.full, costs.pruned) == (run.cost.full, run.cost.pruned):
        return run
    found = run.timed(costs)
    here = f"the time was measured on {machine()}, the rest of the figures where it says below"
    return replace(found, notices=(*found.notices, here)) if bundled else found


def jobs_of(name: str) -> dict[str, jobs.Job[Any]]:
    """Return the jobs of this session that are stored as ``name``, by what they compute."""
    return st.session_state.setdefault(name, {})  # type: ignore[no-any-return]


def name_of(explorer: Explorer) -> str:
    """Return a name for what a job computes: the model, the texts, the mask and its recovery."""
    bench = explorer.bench
    asked = (explorer.card.sha256, bench.calibration.sha256, bench.evaluation.sha256, explorer.mask.sha256)
    return "-".join((*asked, explorer.recover, "hand" if explorer.board.by_hand else "budget"))


def found(explorer: Explorer, view: View) -> None:
    """Draw the measurements of the mask with their intervals."""
    run = view.document
    if run is None:
        quality = explorer.outcomes(explorer.recover)
        said = "Not measured yet."
        if quality is not None:
            accuracy = quality["accuracy"]
            said = (
                f"Accuracy {accuracy.text}, {RECOVERIES[explorer.recover].result} (95 % interval {accuracy.span} %, "
                f"n = {accuracy.n:,})."
            )
        st.markdown(f"**{said}** The mask can be downloaded now; a report needs a run.")
        _measure_button(explorer)
        return
    states = [
        (name, words)
        for name, words in (
            ("full", "all heads"),
            ("pruned", "pruned"),
            ("recovered", name_of_result(run.settings.recover)),
        )
        if name in run.outcomes
    ]
    with st.container(key="export-figures"):
        columns = st.columns(len(states) + (run.latency_ratio is not None), gap="medium")
    for column, (name, words) in zip(columns, states, strict=False):
        accuracy, change = run.outcomes[name]["accuracy"], run.outcomes[name].get("accuracy_change")
        column.metric(f"Accuracy, {words}", accuracy.text)
        column.caption(f"{accuracy.span} % (95 % interval), n = {accuracy.n:,}")
        if change is not None:
            column.caption(f"{change.text} ({change.span}) against all heads")
    if run.latency_ratio is not None:
        with columns[-1]:
            _time(run, run.latency_ratio)
    bundle = explorer.results.bundle
    if view.bundled and bundle is not None:
        where = shell.of_bundle(explorer, bundle)
    else:
        where = f"Measured on this machine ({plain(machine())})."
    if view.mask.empty_layers:
        where += " One layer keeps no head, so the model cannot be cut, timed or refitted with this mask."
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="export-measured"):
        job = explorer.job(SPEED)
        if job is not None and not job.ended:
            follow(job, place="export-time", title="Measure latency")
        elif time_button(explorer, place="export"):
            st.rerun()
        st.caption(where)


def _time(run: RunDocument, ratio: Estimate) -> None:
    """Draw the latency of the cut model relative to the full one, or that no change was measurable."""
    speed = Speed.of(ratio, run.cost.full, run.cost.pruned)
    if ratio.excludes(1):
        st.metric("Time per batch", ratio.text, help="Median, measured on the cut model.")
    else:
        st.caption("Time per batch")
        st.markdown("**no measurable change**")
    st.caption(f"{speed.pruned_ms:.1f} instead of {speed.full_ms:.1f} ms (median)")
    st.caption(f"{ratio.text} ({ratio.span}, 95 % interval), n = {ratio.n} rounds")
    if speed.busy:
        st.caption("The machine was busy during the measurement: measure again for a reliable result.")


# Measuring it ---------------------------------------------------------------------------------------------------


def _measure_button(explorer: Explorer) -> None:
    name = name_of(explorer)
    job = jobs_of(_MEASURED).get(name)
    if job is not None and not job.ended:
        follow(job, place="export-measure")
        return
    if job is not None and job.error:
        problem(job.error)
    label, takes = "Measure it", "seconds"
    if explorer.awaits_distillation:
        about = duration(recovery_seconds(explorer.bench, explorer.recover))
        label, takes = f"Distil and measure (about {about})", "the distillation takes longest"
    if st.button(label, key="export-measure", type="primary", help=f"Accuracy, intervals and time; {takes}."):
        jobs_of(_MEASURED)[name] = _measure(explorer)
        st.rerun()


def _measure(explorer: Explorer) -> jobs.Job[RunDocument]:
    bench, mask, selection, recover = explorer.bench, explorer.mask, explorer.board.selection, explorer.recover
    results = explorer.results
    if RECOVERIES[recover].trains:
        bench = bench.for_distillation()
    clustering = None if explorer.clusters is None else explorer.clusters.clustering

    def work(progress: Progress) -> RunDocument:
        def costs(mask: HeadMask) -> Costs:
            known = results.costs(mask)
            if known is not None:
                return known
            with LatencyWorker.of(bench) as watch:
                made = time_mask(watch, bench, mask, progress)
            results.add_costs(mask, made)
            return made

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
