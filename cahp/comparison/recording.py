"""Record a comparison as a document: its plan, every cell, and the answers to each text."""

from collections.abc import Iterator, Mapping, Sequence

from cahp import methods
from cahp.comparison.arrays import to_answers
from cahp.comparison.cells import MeasuredCell, Workspace
from cahp.comparison.document import (
    SCHEMA,
    CellRecord,
    ComparisonDocument,
    DataRecords,
    Participant,
    RecoveryResult,
    SeedSample,
)
from cahp.comparison.plan import FULL, REFERENCE, facts_of, split_minimum
from cahp.comparison.result import Comparison
from cahp.files import plain_json
from cahp.models.cards import SelectionCost
from cahp.outcomes import OUTCOMES, Outcomes, accuracy_change, finite, list_further, measure, to_delta, to_metrics
from cahp.recoveries import NONE
from cahp.run.bench import labelling
from cahp.run.document import ModelRecord, versions
from cahp.run.resources import record_split
from cahp.run.texts import label_reading
from cahp.stages.clustering import grid_notice
from cahp.tasks.answers import Evaluation
from cahp.values import Fields, Floats, JsonObject


def record(
    workspace: Workspace,
    measured: Sequence[MeasuredCell],
    criticality: Floats,
    *,
    estimate: Fields,
    test_opened: int,
    command: str,
    seconds: float,
) -> Comparison:
    """Record the ``measured`` cells, which are in the order of the plan; ``seconds`` is the time of all."""
    plan = workspace.plan
    full = {one.cell.seed: one for one in measured if one.cell.method == FULL}
    rows: dict[str, list[Evaluation]] = {split: [] for split in workspace.splits}
    # Recording the cells fills ``rows`` in this order.
    records = [_record_cell(workspace, one, full, rows) for one in measured]
    critical: int | None = len(workspace.critical_texts)
    if critical == workspace.splits["eval"].count:
        critical = None
    document = ComparisonDocument(
        schema=SCHEMA,
        model=ModelRecord.of(workspace.card),
        data=_record_data(workspace),
        settings=plan.as_json(),
        methods={name: _describe_participant(name) for name in plan.methods},
        full=tuple(records[: len(full)]),
        estimate=estimate,
        timings={"total_s": seconds},
        test_opened=test_opened,
        notices=tuple(_list_notices(workspace, measured, rows["eval"][0])),
        versions=versions(),
        command=command,
        cells=tuple(records[len(full) :]),
        criticality=tuple(map(tuple, criticality.tolist())),
        criticality_texts=critical,
        protocols=workspace.protocols,
    )
    return Comparison(document, {split: to_answers(evaluations) for split, evaluations in rows.items()})


def _record_data(workspace: Workspace) -> DataRecords:
    settings = workspace.plan.settings
    resources = workspace.bench(settings.seed).resources
    select = []
    for seed in workspace.plan.seeds:
        sample = record_split(resources, settings.select_split, workspace.bench(seed).calibration)
        select.append(SeedSample(**vars(sample), seed=seed))
    named = {"eval": settings.eval_split, "steer": settings.eval_split, "report": "test"}
    texts = {**workspace.splits, "steer": workspace.tuning_texts}
    records: JsonObject = dict.fromkeys(named)
    for part, split in named.items():
        own = texts.get(part)
        if own is not None:
            records[part] = record_split(resources, split, own)
    return DataRecords(workspace.dataset.id, workspace.dataset.classes, tuple(select), **records)


def _describe_participant(name: str) -> Participant:
    method, minimum = split_minimum(name)
    facts = facts_of(name)
    about = (type(methods.get(method)).__doc__ or "").strip().split("\n")[0]
    if minimum is not None:
        about += f" Each layer keeps at least {minimum}."
    return Participant(about, facts.draws, facts.learned)


def _record_cell(
    workspace: Workspace,
    measured: MeasuredCell,
    full: Mapping[int, MeasuredCell],
    rows: dict[str, list[Evaluation]],
) -> CellRecord:
    """Record a cell, and add its evaluations to ``rows``; ``full`` are full models by seed."""
    cell = measured.cell
    recoveries = {}
    seconds: JsonObject = {"score": None, "recovery": {}, "evaluation": {}}
    for recovery, entry in measured.predictions.items():
        row = len(rows["eval"])
        parts: JsonObject = {"eval": None, "report": None}
        for split, texts in workspace.splits.items():
            evaluation = texts.evaluation_of(entry.arrays[split])
            rows[split].append(evaluation)
            compared: Evaluation | None = rows[split][0]
            alike: Outcomes = {}
            same = full[cell.seed].predictions.get(recovery)
            if evaluation.labelled and cell.method == FULL and recovery == NONE.name:
                # Without labels there are only differences: those of the full model from itself.
                compared = None
            elif evaluation.labelled and same is not None and cell.method != FULL and recovery != NONE.name:
                # The full model after the same recovery, if the recovery changes it.
                alike = {"accuracy_change": accuracy_change(evaluation, texts.evaluation_of(same.arrays[split]))}
            parts[split] = _to_quality(finite(measure(evaluation, full=compared)), alike)
        recoveries[recovery] = RecoveryResult(row, **parts, accepted=entry.meta["accepted"])
        seconds["evaluation"][recovery] = entry.meta["seconds"]
        if recovery != NONE.name:
            seconds["recovery"][recovery] = entry.meta["recovery"]
    choice: JsonObject = {"setting": {}, "price": None, "seconds": None}
    attained: int | None = None
    kept: dict[str, tuple[int, ...]] | None = None
    if measured.choice is not None:
        choice = dict(measured.choice.meta)
        attained = measured.mask.count
        kept = {str(layer): tuple(heads) for layer, heads in enumerate(measured.mask.by_layer)}
    return CellRecord(
        method=cell.method,
        setting=choice["setting"],
        seed=cell.seed,
        draw=cell.draw,
        noise=cell.noise,
        budget={"requested": cell.budget, "attained": attained},
        kept=kept,
        recoveries=recoveries,
        seconds={**seconds, "score": choice["seconds"]},
        price=choice["price"] and SelectionCost(**choice["price"]),
        error=measured.error,
    )


def _to_quality(outcomes: Outcomes, alike: Outcomes) -> JsonObject:
    """Return outcomes as a cell's ``eval`` and ``report`` hold them."""
    quality = {**to_metrics(outcomes), "delta": to_delta(outcomes), "delta_alike": to_delta(alike)}
    for name in list_further():
        if name in outcomes:
            quality[name] = outcomes[name].value
        elif OUTCOMES[name].needs != "tokens":
            # A classifier has no fields of language models.
            quality[name] = None
    return dict(plain_json(quality))


def _list_notices(workspace: Workspace, measured: Sequence[MeasuredCell], full: Evaluation) -> Iterator[str]:
    """List the notices of a comparison."""
    plan = workspace.plan
    yield from dict.fromkeys(workspace.notices)
    yield from workspace.bench(plan.seeds[0]).cut_notices
    yield from labelling(full, label_reading(workspace.raw, workspace.dataset))
    if len(plan.seeds) > 1 == len({workspace.bench(seed).calibration.sha256 for seed in plan.seeds}):
        yield (
            f"every seed selects heads on the same part of {plan.settings.select_split}; a random sample with a lower "
            "limit shows how much the sample matters."
        )
    grid = grid_notice(workspace.card.total)
    if grid is not None and REFERENCE in plan.methods:
        yield f"{REFERENCE}: {grid}"
    if plan.tries_used < plan.tries:
        yield f"settings were chosen among {plan.tries_used}, not {plan.tries}: all methods get equally many tries."
    failed = [one for one in measured if one.error]
    if failed:
        names = ", ".join(dict.fromkeys(one.cell.method for one in failed))
        yield f"{len(failed)} cells failed ({names}): {failed[0].error}"
