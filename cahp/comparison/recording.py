"""Record a comparison as a document: its plan, every cell, and the answers to each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cahp import methods
from cahp.comparison.arrays import to_answers
from cahp.comparison.cells import MeasuredCell, Workspace
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
from cahp.comparison.plan import FULL, REFERENCE, WITHOUT, facts_of, split_minimum
from cahp.comparison.result import Comparison
from cahp.outcomes import Outcomes, accuracy_change, finite, measure
from cahp.run.bench import labelling
from cahp.run.document import ModelRecord, versions
from cahp.run.resources import SplitRecord, record_split
from cahp.run.texts import label_reading
from cahp.stages.clustering import grid_notice
from cahp.tasks.answers import Evaluation


def record(
    workspace: Workspace,
    measured: Sequence[MeasuredCell],
    *,
    estimate: Mapping[str, Any],
    test_opened: int,
    command: str,
    seconds: float,
) -> Comparison:
    """Record the ``measured`` cells, which are in the order of the plan; ``seconds`` is the time of all."""
    plan = workspace.plan
    full_models = {one.cell.seed: one for one in measured if one.cell.method == FULL}
    reference = next(iter(full_models.values()))
    singles = [one for one in measured if one.cell.method == WITHOUT]
    selected = [one for one in measured if one.cell.method not in (FULL, WITHOUT)]
    rows: dict[str, list[Evaluation]] = {split: [] for split in workspace.splits}
    # Recording the cells fills ``rows`` in this order.
    full_records = [_record_cell(one, full_models, rows) for one in full_models.values()]
    records = [_record_cell(one, full_models, rows) for one in selected]
    texts = workspace.criticality_texts
    criticality_texts: int | None = None
    if texts is not None and len(texts) < workspace.splits["eval"].count:
        criticality_texts = len(texts)
    document = ComparisonDocument(
        schema=SCHEMA,
        model=ModelRecord.of(workspace.card),
        data=_record_data(workspace),
        settings=plan.as_json(),
        methods={name: _describe_participant(name) for name in plan.methods},
        full=tuple(full_records),
        estimate=estimate,
        timings={"total_s": seconds},
        test_opened=test_opened,
        notices=tuple(_list_notices(workspace, (*full_models.values(), *selected))),
        versions=versions(),
        command=command,
        cells=tuple(records),
        criticality=_measure_criticality(singles, reference, workspace.card.layers),
        criticality_texts=criticality_texts,
        protocols=workspace.protocols,
    )
    answers = {}
    for split, evaluations in rows.items():
        answers[split] = to_answers(evaluations, full=reference.predictions["none", split].evaluation)
    return Comparison(document, answers)


def _record_data(workspace: Workspace) -> DataRecords:
    settings = workspace.plan.settings
    resources = workspace.bench(settings.seed).resources
    select = []
    for seed in workspace.plan.seeds:
        sample = record_split(resources, settings.select_split, workspace.bench(seed).calibration)
        select.append(SeedSample(**vars(sample), seed=seed))
    steer: SplitRecord | None = None
    if workspace.tuning_texts is not None:
        steer = record_split(resources, settings.eval_split, workspace.tuning_texts)
    report: SplitRecord | None = None
    if "report" in workspace.splits:
        report = record_split(resources, "test", workspace.splits["report"])
    evaluation = record_split(resources, settings.eval_split, workspace.splits["eval"])
    return DataRecords(workspace.dataset.id, workspace.dataset.classes, tuple(select), evaluation, steer, report)


def _describe_participant(name: str) -> Participant:
    method, minimum = split_minimum(name)
    facts = facts_of(name)
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
    cell = measured.cell
    reference = next(iter(full.values()))
    recoveries: dict[str, RecoveryResult] = {}
    recovering: dict[str, float] = {}
    evaluating: dict[str, float] = {}
    for recovery in dict.fromkeys(recovery for recovery, _ in measured.predictions):
        row = len(rows["eval"])
        splits = {split: one for (name, split), one in measured.predictions.items() if name == recovery}
        if splits.keys() != rows.keys():
            # It failed in between: a row stands for the same cell in every split.
            continue
        outcomes: dict[str, Outcomes] = {}
        for split, predictions in splits.items():
            evaluation = predictions.evaluation
            rows[split].append(evaluation)
            compared: Evaluation | None = reference.predictions["none", split].evaluation
            if cell.method == FULL and recovery == "none":
                # Without labels there are only differences: those of the full model from itself.
                compared = None if evaluation.labelled else evaluation
            measures = measure(evaluation, full=compared)
            # The full model after the same recovery, if the recovery changes it.
            alike = full[cell.seed].predictions.get((recovery, split))
            if alike is not None and recovery != "none" and cell.method != FULL and alike.evaluation.labelled:
                measures[CHANGE_ALIKE] = accuracy_change(evaluation, alike.evaluation)
            outcomes[split] = finite(measures)
        accepted = splits["eval"].accepted
        recoveries[recovery] = RecoveryResult(row, outcomes.get("eval"), outcomes.get("report"), accepted)
        evaluating[recovery] = sum(predictions.seconds for predictions in splits.values())
        if recovery != "none":
            recovering[recovery] = splits["eval"].recovery
    recorded = CellRecord(
        method=cell.method,
        setting={},
        seed=cell.seed,
        draw=cell.draw,
        noise=cell.noise,
        budget=CellBudget(cell.budget, None),
        kept=None,
        recoveries=recoveries,
        seconds=CellSeconds(None, recovering, evaluating),
        price=None,
        error=measured.error,
    )
    choice = measured.choice
    if choice is None:
        return recorded
    return replace(
        recorded,
        setting=dict(choice.setting),
        budget=CellBudget(cell.budget, choice.mask.count),
        kept={str(layer): tuple(heads) for layer, heads in enumerate(choice.mask.by_layer)},
        seconds=CellSeconds(choice.seconds, recovering, evaluating),
        price=choice.price,
    )


def _list_notices(workspace: Workspace, measured: Sequence[MeasuredCell]) -> Iterator[str]:
    """List the notices of a comparison; the full model comes first in ``measured``."""
    plan = workspace.plan
    yield from dict.fromkeys(workspace.notices)
    yield from workspace.bench(plan.seeds[0]).cut_notices
    full = measured[0].predictions["none", "eval"].evaluation
    yield from labelling(full, label_reading(workspace.raw, workspace.dataset))
    if len(plan.seeds) > 1 == len({workspace.bench(seed).calibration.sha256 for seed in plan.seeds}):
        noun = "texts"
        limit = "--limit"
        if workspace.protocols is not None:
            noun = "tokens"
            limit = "--tokens"
        same = f"so every seed selects heads on the same {noun}"
        if plan.settings.sample == "head":
            yield f"--sample head takes the first {noun}, {same}."
        else:
            yield (
                f"{plan.settings.select_split} has no more {noun} than {limit}, {same}; a lower {limit} shows how much "
                "the sample matters."
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
