"""Record a comparison as a document: its plan, every cell, and the answers to each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cahp import methods
from cahp.comparison.arrays import to_answers
from cahp.comparison.cells import MeasuredCell
from cahp.comparison.document import (
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
from cahp.comparison.fields import CHANGE_ALIKE
from cahp.comparison.plan import FULL, REFERENCE, Cell, facts_of, split_minimum
from cahp.comparison.result import Comparison
from cahp.comparison.workspace import Workspace
from cahp.outcomes import Outcomes, accuracy_change, finite, measure
from cahp.run.bench import labelling
from cahp.run.document import ModelRecord, versions
from cahp.run.splits import record_split
from cahp.run.texts import label_reading
from cahp.stages.clustering import grid_notice
from cahp.tasks.answers import Evaluation


def record(
    workspace: Workspace,
    measured: Mapping[Cell, MeasuredCell],
    cells: Sequence[Cell],
    full_cells: Sequence[Cell],
    single_cells: Sequence[Cell],
    *,
    estimate: Mapping[str, Any],
    test_opened: int,
    command: str,
    seconds: float,
) -> Comparison:
    """Record measured cells: ``cells`` of methods, ``full_cells`` of the full model, and those without a head."""
    plan, settings = workspace.plan, workspace.plan.settings
    splits, tuning = workspace.splits, workspace.tuning_texts
    resources = workspace.bench(plan.settings.seed).resources
    samples = {
        seed: record_split(resources, settings.select_split, workspace.bench(seed).calibration) for seed in plan.seeds
    }
    full = {cell.seed: measured[cell] for cell in full_cells}
    reference = next(iter(full.values()))
    rows: dict[str, list[Evaluation]] = {split: [] for split in splits}
    texts = workspace.criticality_texts
    document = ComparisonDocument(
        schema=SCHEMA,
        model=ModelRecord.of(workspace.card),
        data=DataRecords(
            id=workspace.dataset.id,
            classes=workspace.dataset.classes,
            select=tuple(SeedSample(**vars(sample), seed=seed) for seed, sample in samples.items()),
            eval=record_split(resources, settings.eval_split, splits["eval"]),
            steer=None if tuning is None else record_split(resources, settings.eval_split, tuning),
            report=record_split(resources, "test", splits["report"]) if "report" in splits else None,
        ),
        settings=plan.as_json(),
        methods={name: _describe_participant(name) for name in plan.methods},
        full=tuple(_record_cell(measured[cell], full, rows) for cell in full_cells),
        estimate=estimate,
        timings={"total_s": seconds},
        test_opened=test_opened,
        notices=tuple(_list_notices(workspace, [measured[cell] for cell in (*full_cells, *cells)])),
        versions=versions(),
        command=command,
        cells=tuple(_record_cell(measured[cell], full, rows) for cell in cells),
        criticality=_measure_criticality([measured[cell] for cell in single_cells], reference, workspace.card.layers),
        criticality_texts=None if texts is None or len(texts) == splits["eval"].count else len(texts),
        protocols=workspace.protocols,
    )
    return Comparison(
        document,
        {
            split: to_answers(evaluations, full=reference.predictions["none", split].evaluation)
            for split, evaluations in rows.items()
        },
    )


def _describe_participant(name: str) -> Participant:
    (method, minimum), facts = split_minimum(name), facts_of(name)
    about = (type(methods.get(method)).__doc__ or "").strip().split("\n")[0]
    if minimum is not None:
        about += f" Each layer keeps at least {minimum}."
    return Participant(about, facts.draws, facts.learned)


def _measure_criticality(
    singles: Sequence[MeasuredCell], full: MeasuredCell, layers: int
) -> tuple[tuple[float, ...], ...] | None:
    """The mean KL divergence of the model without each head, ``(L, H)``; None if one was not measured."""
    if not singles or any(single.error for single in singles):
        return None
    reference = full.predictions["none", "eval"].evaluation
    apart = [single.predictions["none", "eval"].evaluation.divergences(reference).mean() for single in singles]
    return tuple(map(tuple, np.reshape(apart, (layers, -1)).tolist()))


def _record_cell(
    measured: MeasuredCell, full: Mapping[int, MeasuredCell], rows: dict[str, list[Evaluation]]
) -> CellRecord:
    """Record a cell, and add its evaluations to ``rows``; ``full`` are full models by seed."""
    cell, choice = measured.cell, measured.choice
    reference = next(iter(full.values()))
    recoveries: dict[str, RecoveryResult] = {}
    recovering: dict[str, float] = {}
    evaluating: dict[str, float] = {}
    for recovery in dict.fromkeys(recovery for recovery, _ in measured.predictions):
        row = len(rows["eval"])
        splits = {split: made for (name, split), made in measured.predictions.items() if name == recovery}
        outcomes: dict[str, Outcomes] = {}
        for split, made in splits.items():
            rows[split].append(made.evaluation)
            is_full = cell.method == FULL and recovery == "none"
            compared = None if is_full else reference.predictions["none", split].evaluation
            if not made.evaluation.labelled:
                compared = compared or made.evaluation
            measures = measure(made.evaluation, full=compared)
            # The full model after the same recovery, if the recovery changes it.
            alike = full[cell.seed].predictions.get((recovery, split))
            if alike is not None and recovery != "none" and cell.method != FULL and alike.evaluation.labelled:
                measures[CHANGE_ALIKE] = accuracy_change(made.evaluation, alike.evaluation)
            outcomes[split] = finite(measures)
        accepted = splits["eval"].accepted
        recoveries[recovery] = RecoveryResult(row, outcomes.get("eval"), outcomes.get("report"), accepted)
        evaluating[recovery] = sum(made.seconds for made in splits.values())
        if recovery != "none":
            recovering[recovery] = splits["eval"].recovery
    mask = None if choice is None else choice.mask
    return CellRecord(
        method=cell.method,
        setting={} if choice is None else dict(choice.setting),
        seed=cell.seed,
        draw=cell.draw,
        noise=cell.noise,
        budget=CellBudget(cell.budget, None if mask is None else mask.count),
        kept=None if mask is None else {str(layer): tuple(heads) for layer, heads in enumerate(mask.by_layer)},
        recoveries=recoveries,
        seconds=CellSeconds(None if choice is None else choice.seconds, recovering, evaluating),
        price=None if choice is None else choice.price,
        error=measured.error,
    )


def _list_notices(workspace: Workspace, measured: Sequence[MeasuredCell]) -> Iterator[str]:
    """List the notices of a comparison; the full model comes first in ``measured``."""
    plan = workspace.plan
    yield from dict.fromkeys(workspace.notices)
    yield from workspace.bench(plan.seeds[0]).cut_notices
    full = measured[0].predictions["none", "eval"].evaluation
    yield from labelling(full, label_reading(workspace.raw, workspace.dataset))
    if len(plan.seeds) > 1 == len({workspace.bench(seed).calibration.sha256 for seed in plan.seeds}):
        what, limit = ("texts", "--limit") if workspace.protocols is None else ("tokens", "--tokens")
        yield (
            f"{plan.settings.select_split} has no more {what} than {limit}, so every seed selects heads on the same "
            f"{what}; a lower {limit} shows how much the sample matters."
        )
    if workspace.criticality_notice:
        yield workspace.criticality_notice
    grid = grid_notice(workspace.card.layers * workspace.card.heads)
    if grid is not None and REFERENCE in plan.methods:
        yield f"{REFERENCE}: {grid}"
    if plan.tries_used < plan.tries:
        yield f"settings were chosen among {plan.tries_used}, not {plan.tries}: all methods get equally many tries."
    few = [name for name in plan.methods if name in plan.few_seeds]
    if few and len(plan.seeds) > 1:
        yield f"{', '.join(few)}: measured with one seed only, because of the time they take."
    failed = [one for one in measured if one.error]
    if failed:
        names = ", ".join(dict.fromkeys(one.cell.method for one in failed))
        yield f"{len(failed)} cells failed ({names}): {failed[0].error}"
