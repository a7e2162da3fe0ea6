"""Filling the table of all budgets: what each row's mask answers and costs, one measurement or glimpse a step."""

from __future__ import annotations

from collections.abc import Generator

from cahp.costs import Costs
from cahp.outcomes import Outcomes, measure
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.latency_worker import LatencyWorker
from cahp.run.recovered import Recovered
from cahp.studies.budget_sweep import BudgetTable, Speed
from cahp.values import Estimate, HeadMask, Progress, silent


def measure_mask(bench: Bench, mask: HeadMask, *, recover: str = "none") -> Outcomes:
    """Measure the model under ``mask`` on the evaluation texts, after a recovery (see ``recovered_by``)."""
    return measure_recovered(bench, mask, recovered_by(recover, bench, mask))


def measure_recovered(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Outcomes:
    """Measure the model under ``mask`` on the evaluation texts, recovered so (None: as pruned)."""
    answers = bench.measurements.evaluate(bench.evaluation, mask=mask, recovered=recovered)
    return measure(answers, full=bench.full, seed=bench.settings.seed)


def recovered_by(recover: str, bench: Bench, mask: HeadMask) -> Recovered | None:
    """What ``recover`` makes of the model under ``mask`` (None: it stays as pruned, as the full model always does).

    A refit solves the output projections of the cut model anew; a distillation is found in the store, or trained.
    """
    recovery = RECOVERIES[recover]
    if recovery is NONE or mask.is_full:
        return None
    if recovery.imitates:
        return bench.for_distillation().recoveries.distill(mask)
    return bench.recoveries.refit(mask)


def glimpse(bench: Bench, mask: HeadMask) -> Estimate | None:
    """An estimate of the accuracy under ``mask`` from a part of the evaluation texts (None: all may as well answer).

    Texts that are hard or easy for both models move neither, so this says more than the share of right answers would.
    """
    part = bench.measurements.glimpse(bench.evaluation, mask)
    if part is None:
        return None
    rows, answered = part
    right = bench.measurements.evaluate(bench.evaluation).correct
    change = float(answered.correct.mean()) - float(right[rows].mean())
    return Estimate(min(1.0, max(0.0, float(right.mean()) + change)), None, len(rows), "share")


def fill(table: BudgetTable, bench: Bench, progress: Progress = silent) -> Generator[None, None, BudgetTable]:
    """Measure what the table lacks, one measurement or glimpse a step.

    Budgets whose first layers keep the same heads run these once. Latency is measured in a process of its own, so that
    nothing here disturbs it. ``progress`` may raise ``Cancelled``.
    """
    masks = [selection.mask for selection in table.selections]
    with bench.measurements.sharing(bench.evaluation, masks), LatencyWorker.of(bench) as watch:
        while (task := table.missing()) is not None:
            what, budget = task
            done, total = table.measured()
            # A glimpse is a third of a measurement: with none of them counted, the time left would grow meanwhile.
            progress("table", done + table.glimpsed // 3, total)
            mask = table.selection(budget).mask
            seen = glimpse(bench, mask) if what == "glimpse" else None
            if seen is not None:
                table.add(budget, glimpse=seen)
            elif what != "speed":
                table.add(budget, outcomes=measure_mask(bench, mask, recover=table.recover))
            else:
                costs = timed(watch, bench, mask, progress)
                table.add(budget, speed=Speed.of(costs.ratio, costs.full, costs.pruned))
            yield
    return table


def timed(
    watch: LatencyWorker, bench: Bench, mask: HeadMask, progress: Progress = silent, *, fresh: bool = False
) -> Costs:
    """What the model cut to ``mask`` costs, measured by the other process; ``fresh`` times it once more."""
    return watch.costs(mask, length=bench.length, seconds=bench.latency_seconds, fresh=fresh, progress=progress)
