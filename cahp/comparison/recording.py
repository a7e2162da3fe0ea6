"""Record a comparison as a document: its plan, every cell, and which predictions are correct."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cahp import methods
from cahp.comparison.cells import MeasuredCell, Predictions
from cahp.comparison.cost import ComparisonCost
from cahp.comparison.document import (
    CHANGE_ALIKE,
    SCHEMA,
    CellBudget,
    CellRecord,
    CellSeconds,
    ComparisonDocument,
    DataRecords,
    Participant,
    RecoveryResult,
    SeedSample,
)
from cahp.comparison.plan import FULL, REFERENCE, Cell, Plan
from cahp.comparison.result import Comparison
from cahp.comparison.workspace import Workspace
from cahp.outcomes import Outcomes, accuracy_change, measure
from cahp.run.bench import label_reading, labelling
from cahp.run.document import ModelRecord, SplitRecord, versions
from cahp.stages.clustering import grid_notice
from cahp.values import Evaluation


def record(
    workspace: Workspace,
    measured: Mapping[Cell, MeasuredCell],
    cells: Sequence[Cell],
    full_cells: Sequence[Cell],
    *,
    cost: ComparisonCost,
    test_opened: int,
    command: str,
    seconds: float,
) -> Comparison:
    """Record measured cells: ``cells`` of methods, and ``full_cells`` of the full model, one per seed."""
    plan, card, settings = workspace.plan, workspace.card, workspace.plan.settings
    recorder = _Recorder(tuple(workspace.splits), measured[full_cells[0]])
    splits, tuning = workspace.splits, workspace.tuning_texts
    samples = [(seed, SplitRecord.of(settings.select_split, workspace.bench(seed).calibration)) for seed in plan.seeds]
    document = ComparisonDocument(
        schema=SCHEMA,
        model=ModelRecord.of(card),
        data=DataRecords(
            id=workspace.dataset.id,
            classes=workspace.dataset.classes,
            select=tuple(SeedSample(seed, **vars(sample)) for seed, sample in samples),
            eval=SplitRecord.of(settings.eval_split, splits["eval"]),
            steer=None if tuning is None else SplitRecord.of(settings.eval_split, tuning),
            report=SplitRecord.of("test", splits["report"]) if "report" in splits else None,
        ),
        settings=plan.as_json(),
        methods={name: _describe_method(name) for name in plan.methods},
        full=tuple(recorder.record_cell(measured[cell]) for cell in full_cells),
        estimate=cost.as_json(),
        timings={"total_s": seconds},
        test_opened=test_opened,
        notices=tuple(_list_notices(workspace, measured)),
        versions=versions(),
        command=command,
        cells=tuple(recorder.record_cell(measured[cell]) for cell in cells),
    )
    return Comparison(document, recorder.correct)


def _describe_method(name: str) -> Participant:
    facts = methods.facts(name)
    return Participant((type(methods.get(name)).__doc__ or "").strip().split("\n")[0], facts.draws, facts.learned)


def _list_notices(workspace: Workspace, measured: Mapping[Cell, MeasuredCell]) -> list[str]:
    plan = workspace.plan
    notices = list(dict.fromkeys(workspace.notices))
    full = next(cell for cell in measured.values() if cell.cell.method == FULL)
    notices += labelling(full.predictions["none", "eval"].evaluation, label_reading(workspace.raw, workspace.dataset))
    if len(plan.seeds) > 1 and workspace.draws_same_texts(plan.seeds):
        notices.append(
            f"{plan.settings.select_split} has no more texts than --limit, so every seed selects heads on the same "
            "texts; a lower --limit shows how much the sample matters."
        )
    grid = grid_notice(workspace.card.layers * workspace.card.heads)
    if grid is not None and REFERENCE in plan.methods:
        notices.append(f"{REFERENCE}: {grid}")
    if plan.tries_used < plan.tries:
        notices.append(
            f"settings were chosen among {plan.tries_used}, not {plan.tries}: all methods get equally many tries."
        )
    if plan.recovered_draws is not None or plan.draws is not None:
        notices += _count_random_masks(plan, measured)
    few = [name for name in plan.methods if name in plan.few_seeds]
    if few and len(plan.seeds) > 1:
        notices.append(f"{', '.join(few)}: measured with one seed only, because of the time they take.")
    failed = [cell for cell in measured.values() if cell.error]
    if failed:
        names = ", ".join(dict.fromkeys(cell.cell.method for cell in failed))
        notices.append(f"{len(failed)} cells failed ({names}): {failed[0].error}")
    return notices


def _count_random_masks(plan: Plan, cells: Iterable[Cell]) -> Iterator[str]:
    """Tell how many random masks there are. Each seed recovers equally many, which may exceed the plan's number."""
    random = [cell for cell in cells if cell.method in plan.methods and methods.facts(cell.method).draws > 1]
    drawn = Counter((cell.method, cell.budget) for cell in random)
    recovered = Counter((cell.method, cell.budget) for cell in random if len(cell.recoveries) > 1)
    if drawn:
        of_them = "" if plan.recoveries == ("none",) else f", {_most(recovered)} of them recovered"
        yield f"random masks per method and budget, over all seeds: {_most(drawn)} drawn{of_them}."


def _most(counts: Counter[tuple[str, int]]) -> str:
    return f"{'at most ' if len(set(counts.values())) > 1 else ''}{max(counts.values(), default=0)}"


class _Recorder:
    """Records cells, and collects which of their predictions are correct."""

    def __init__(self, splits: Sequence[str], reference: MeasuredCell) -> None:
        self._reference = reference
        self._correct: dict[str, list[NDArray[np.bool_]]] = {split: [] for split in splits}
        #: Predictions of the full model, by recovery, seed and split.
        self._full: dict[tuple[str, int, str], Evaluation] = {}

    @property
    def correct(self) -> dict[str, NDArray[np.bool_]]:
        return {split: np.array(rows) for split, rows in self._correct.items()}

    def record_cell(self, measured: MeasuredCell) -> CellRecord:
        cell, choice = measured.cell, measured.choice
        by_recovery: dict[str, dict[str, Predictions]] = {}
        for (recovery, split), predictions in measured.predictions.items():
            by_recovery.setdefault(recovery, {})[split] = predictions
            if cell.method == FULL:
                self._full[recovery, cell.seed, split] = predictions.evaluation
        return CellRecord(
            method=cell.method,
            setting={} if choice is None else dict(choice.setting),
            seed=cell.seed,
            draw=cell.draw,
            noise=cell.noise,
            budget=CellBudget(cell.budget, None if choice is None else choice.mask.count),
            kept=None
            if choice is None
            else {str(layer): tuple(heads) for layer, heads in enumerate(choice.mask.by_layer)},
            recoveries={name: self._record_recovery(cell, name, splits) for name, splits in by_recovery.items()},
            seconds=CellSeconds(
                None if choice is None else choice.seconds,
                {name: splits["eval"].recovery for name, splits in by_recovery.items() if name != "none"},
                {name: sum(one.seconds for one in splits.values()) for name, splits in by_recovery.items()},
            ),
            price=None if choice is None else choice.price,
            error=measured.error,
        )

    def _record_recovery(self, cell: Cell, recovery: str, splits: dict[str, Predictions]) -> RecoveryResult:
        row = len(self._correct["eval"])
        outcomes: dict[str, Outcomes] = {}
        for split, predictions in splits.items():
            self._correct[split].append(predictions.evaluation.correct)
            outcomes[split] = self._measure_outcomes(cell, recovery, split, predictions.evaluation)
        return RecoveryResult(row, outcomes.get("eval"), outcomes.get("report"))

    def _measure_outcomes(self, cell: Cell, recovery: str, split: str, evaluation: Evaluation) -> Outcomes:
        full = self._reference.predictions["none", split].evaluation
        is_full = cell.method == FULL and recovery == "none"
        # The full model after the same recovery, if the recovery changes it.
        alike = self._full.get((recovery, cell.seed, split)) if recovery != "none" and cell.method != FULL else None
        outcomes = measure(evaluation, full=None if is_full else full)
        if alike is not None:
            outcomes[CHANGE_ALIKE] = accuracy_change(evaluation, alike)
        return {name: estimate for name, estimate in outcomes.items() if math.isfinite(estimate.value)}
