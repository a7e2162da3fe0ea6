"""Fill the table of all budgets, one measurement or glimpse per step."""

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


def evaluate_mask(bench: Bench, mask: HeadMask, *, recover: str = "none") -> Outcomes:
    """Measure the model under ``mask`` on the evaluation texts, after a recovery (see ``recovered_by``)."""
    return measure_recovered(bench, mask, recovered_by(recover, bench, mask))


def measure_recovered(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Outcomes:
    """Measure the model under ``mask`` on the evaluation texts, recovered so (None: as pruned)."""
    answers = bench.measurements.evaluate(bench.evaluation, mask=mask, recovered=recovered)
    return measure(answers, full=bench.full, seed=bench.settings.seed)


def recovered_by(recover: str, bench: Bench, mask: HeadMask) -> Recovered | None:
    """Recover the model under ``mask`` (None: no recovery, or the mask keeps all heads).

    A distillation is read from the store or trained.
    """
    recovery = RECOVERIES[recover]
    if recovery is NONE or mask.is_full:
        return None
    if recovery.imitates:
        return bench.for_distillation().recoveries.distill(mask)
    return bench.recoveries.refit(mask)


def glimpse(bench: Bench, mask: HeadMask) -> Estimate | None:
    """Estimate the accuracy under ``mask`` from a part of the evaluation texts (None: there is no such part).

    It is the full model's accuracy plus the change on that part: texts that are easy or hard for both models cancel.
    """
    part = bench.measurements.glimpse(bench.evaluation, mask)
    if part is None:
        return None
    rows, evaluation = part
    correct = bench.full.correct
    change = float(evaluation.correct.mean()) - float(correct[rows].mean())
    return Estimate(min(1.0, max(0.0, float(correct.mean()) + change)), None, len(rows), "share")


def fill(table: BudgetTable, bench: Bench, progress: Progress = silent) -> Generator[None, None, BudgetTable]:
    """Measure what the table lacks, one measurement or glimpse per step.

    First layers that several budgets share run once. Latency is measured in another process, undisturbed by this one.
    ``progress`` may raise ``Cancelled``.
    """
    masks = [selection.mask for selection in table.selections]
    with bench.measurements.sharing(bench.evaluation, masks), LatencyWorker.of(bench) as worker:
        while (task := table.missing()) is not None:
            kind, budget = task
            done, total = table.measured()
            # A glimpse takes a third of a measurement; without counting it, the estimated time left would grow.
            progress("table", done + table.glimpsed // 3, total)
            mask = table.selection(budget).mask
            estimate = glimpse(bench, mask) if kind == "glimpse" else None
            if estimate is not None:
                table.add(budget, glimpse=estimate)
            elif kind != "speed":
                table.add(budget, outcomes=evaluate_mask(bench, mask, recover=table.recover))
            else:
                costs = time_mask(worker, bench, mask, progress)
                table.add(budget, speed=Speed.of(costs.ratio, costs.full, costs.pruned))
            yield
    return table


def time_mask(
    worker: LatencyWorker, bench: Bench, mask: HeadMask, progress: Progress = silent, *, fresh: bool = False
) -> Costs:
    """Measure the costs of the model cut to ``mask`` in the other process; ``fresh`` ignores a stored result."""
    return worker.costs(mask, length=bench.length, seconds=bench.latency_seconds, fresh=fresh, progress=progress)
