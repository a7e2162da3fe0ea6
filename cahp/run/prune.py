"""One run: from a model and data to a mask, its outcomes, its cost and its recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp import methods
from cahp import processes as parallel
from cahp.methods.shared.registry import Method
from cahp.models.costs import Costs
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench, labelling
from cahp.run.document import (
    BY_HAND,
    Budget,
    DataRecord,
    ModelRecord,
    Report,
    RunDocument,
    Timings,
    Verification,
    cost_record,
    machine,
    versions,
)
from cahp.run.evenness import Evenness
from cahp.run.evidence import HeadEvidence
from cahp.run.goal_search import confirm, reach_goal
from cahp.run.head_search import improve_heads
from cahp.run.measurements import timed_on
from cahp.run.options import parse_duration
from cahp.run.recovered import Recovered, distill_report, measure_steps, refit_report
from cahp.run.sections import Sections, check_sections, list_inputs, measure_sections
from cahp.run.settings import RECOVER_TIME, Settings, key_fields
from cahp.run.split_log import TestSplitLog
from cahp.run.splits import record_split
from cahp.run.timeline import STAGES
from cahp.stages.clustering import CLUSTERS_REVISION, grid_notice
from cahp.stages.selection import layer_minimum, parse_budget, round_to_multiple
from cahp.store import Entry, digest_code, key
from cahp.values import (
    BudgetError,
    HeadMask,
    Selection,
)
from cahp.values.statistics import Clustering

#: Bump to invalidate cached runs.
_REVISION = 6


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its document (``run.json``), its mask, and the arrays of ``arrays.npz``."""

    document: RunDocument
    mask: HeadMask
    arrays: Mapping[str, NDArray[Any]]


def measure_run(
    bench: Bench,
    command: str = "",
    start: float | None = None,
    *,
    costs: Costs | None = None,
    sections: Sections = (),
) -> Run:
    """Choose heads, and measure the outcomes, cost and recovery of the pruned model.

    An identical run is read from the store, without loading the model. An interrupted training is resumed by the next
    identical run. ``costs`` of its mask are used if they were measured elsewhere. The ``sections`` that the settings
    want are measured with it.

    Raises:
        CahpError: If model, data and options cannot be used together.
    """
    start = bench.resources.clock() if start is None else start
    name = _run_key(bench, sections)
    stored = _read_run(bench, name, sections)
    if stored is None:
        run = _measure(bench, command, start, costs, sections)
        # Weights that had no room take another time where they have.
        if not (bench.resources.lacks_room and bench.settings.latency):
            entry = {**run.arrays, "keep": run.mask.keep.astype(np.uint8)}
            bench.resources.store.save(name, arrays=entry, meta=run.document.to_json())
        return run
    timings = replace(stored.document.timings, total_s=bench.resources.clock() - start)
    return replace(stored, document=replace(stored.document, timings=timings, command=command))


def read_run(bench: Bench, *, sections: Sections = ()) -> Run | None:
    """Return the same run from the store, or None; nothing is measured."""
    return _read_run(bench, _run_key(bench, sections), sections)


def _read_run(bench: Bench, name: str, sections: Sections) -> Run | None:
    def read(entry: Entry) -> tuple[RunDocument, dict[str, NDArray[Any]], HeadMask]:
        arrays = dict(entry.arrays)
        keep = arrays.pop("keep")
        return RunDocument.from_json(entry.meta), arrays, HeadMask(keep.astype(np.bool_))

    stored = bench.resources.store.read(name, read)
    if stored is None:
        return None
    document, arrays, mask = stored
    # The test split may have been opened by another run since.
    opened = TestSplitLog(bench.card, bench.dataset, bench.resources.store).count
    document = replace(document, cached=_cached_stages(document, sections), test_opened=opened)
    timing = document.cost.pruned.latency_ms
    if timing is not None:
        # The mask may have been timed again since.
        length = None
        if bench.card.saves == "time":
            length = timing.length
        costs = bench.measurements.read_costs(mask, length=length, seconds=bench.latency_seconds)
        document = document if costs is None else document.timed(costs)
    return Run(document, mask, arrays)


def _cached_stages(document: RunDocument, sections: Sections) -> tuple[str, ...]:
    """The stages that a stored run answers, whether it computed them or found them in the store."""

    untimed: dict[str, object] = {"latency": document.latency_ratio}
    for section in sections:
        if section.stage is not None:
            untimed[section.stage] = document.sections.get(section.name)

    def answers(name: str, seconds: str | None) -> bool:
        if seconds is None:
            return untimed.get(name) is not None
        return name in document.cached or getattr(document.timings, seconds) is not None

    return tuple(stage.cached for stage in STAGES if stage.cached and answers(stage.cached, stage.seconds))


def _run_key(bench: Bench, sections: Sections) -> str:
    settings = bench.settings
    recovery = RECOVERIES[settings.recover]
    return key(
        "run",
        _REVISION,
        key_fields(settings),
        bench.card.sha256,
        bench.calibration.sha256,
        bench.evaluation.sha256,
        CLUSTERS_REVISION,
        asdict(bench.resources.precisions),
        timed_on(settings.device) if settings.latency else None,
        # A recovery may draw other texts than the calibration texts, and several processes train with other batches.
        bench.recoveries.inputs_sha256 if recovery.solves else None,
        bench.recoveries.everything_sha256 if recovery.timed else None,
        parallel.world() if recovery.trains else None,
        # Methods of other packages change without a new version of this one.
        digest_code([type(methods.get(settings.method)).__module__]),
        bench.dataset.split(settings.report).sha256 if settings.report else None,
        list_inputs(sections, bench),
    )


def _measure(bench: Bench, command: str, start: float, costs: Costs | None, sections: Sections) -> Run:
    settings, recovery = bench.settings, RECOVERIES[bench.settings.recover]
    bench.recoveries.check(recovery.name)
    check_sections(sections, bench)
    goal = None if settings.goal is None else reach_goal(bench, lambda budget: choose(bench, budget))
    selection, searched = choose(bench, None if goal is None else goal.heads), None
    if settings.select_time is not None:
        selection, searched = improve_heads(bench, selection)
    mask = selection.mask
    can_cut = bench.measurements.can_cut(mask)
    if not can_cut and recovery is not NONE:
        raise BudgetError(
            f"layer {mask.empty_layers[0]} keeps no head, and {bench.card.id} cannot do without the attention of a "
            "layer, so it cannot be cut and recovered; use --min-per-layer 1 or --recover none"
        )
    limit = parse_duration(settings.recover_time or RECOVER_TIME)
    recovered = bench.recoveries.recover(mask, settings.recover, labels=settings.labels, seconds=limit)
    report = None
    if settings.report is not None:
        texts = bench.dataset.split(settings.report)
        outcomes = bench.measurements.outcomes(texts, mask, recovered=recovered, seed=settings.seed)
        report = Report(**vars(record_split(bench.resources, settings.report, texts)), outcomes=outcomes)
        goal = None if goal is None else confirm(goal, outcomes)
    if costs is None and settings.latency and can_cut:
        costs = bench.measurements.costs(mask, length=bench.length, seconds=bench.latency_seconds)
    arrays = _arrays(bench.evidence, selection)
    document = _document(
        bench,
        mask,
        settings=settings,
        selection=selection,
        requested=_requested(bench) if goal is None else goal.heads,
        clustering=bench.evidence.clustering,
        recovered=recovered,
        costs=costs,
        report=report,
        start=start,
        notices=labelling(bench.full, bench.reading),
        command=command,
    )
    null = None
    if document.knee and document.budget.requested is None:
        curves = bench.evidence.null_curves
        if curves is not None:
            null, arrays = curves.knee(settings.poly_degree), {**arrays, "mss_null": curves.mss}
    measured = measure_sections(sections, bench, mask, recovered)
    evenness = price_evenness(bench, mask) if settings.even else None
    timings = Timings.of(bench.resources.timings, bench.resources.clock() - start)
    cached = tuple(bench.resources.cached)
    document = replace(document, knee_null=null, goal=goal, timings=timings, cached=cached)
    document = replace(document, search=searched, evenness=evenness, sections=measured)
    return Run(document, mask, arrays)


def measure_mask(
    bench: Bench,
    mask: HeadMask,
    *,
    costs: Callable[[HeadMask], Costs],
    command: Callable[[Settings], str],
    recover: str = NONE.name,
    selection: Selection | None = None,
    clustering: Clustering | None = None,
) -> RunDocument:
    """Measure the mask on a board as a run does.

    ``selection`` and ``clustering`` tell where the mask comes from; without them it was made by hand. ``costs`` times
    the cut model; a mask that cannot be cut is neither timed nor recovered. ``command`` writes the command line that
    repeats a run with these settings. The stages have no timings: the run that filled the board measured them.
    """
    start = bench.resources.clock()
    can_cut = bench.measurements.can_cut(mask)
    recovered = bench.recoveries.recover(mask, recover) if can_cut else None
    settings = replace(
        bench.settings,
        budget=str(mask.count),
        goal=None,
        recover=NONE.name if recovered is None else recover,
        labels=False,
        method=BY_HAND if selection is None else bench.settings.method,
    )
    document = _document(
        bench,
        mask,
        settings=settings,
        selection=selection,
        requested=None if selection is None else mask.count,
        clustering=clustering,
        recovered=recovered,
        costs=costs(mask) if can_cut else None,
        start=start,
        command=command(settings),
    )
    chosen_evenly = settings.even and selection is not None
    return replace(document, evenness=price_evenness(bench, mask) if chosen_evenly else None)


def price_evenness(bench: Bench, mask: HeadMask) -> Evenness | None:
    """Compare an even ``mask`` with a free selection of as many heads (None: it keeps all, or no even number)."""
    if mask.is_full or len({len(heads) for heads in mask.by_layer}) > 1:
        return None
    free, texts = choose(bench, mask.count, even=False).mask, bench.evaluation
    answers = (bench.measurements.evaluate(texts, mask=one) for one in (mask, free))
    return Evenness.of(*answers, full=bench.full, seed=bench.settings.seed)


def _document(
    bench: Bench,
    mask: HeadMask,
    *,
    settings: Settings,
    selection: Selection | None,
    requested: int | None,
    clustering: Clustering | None,
    recovered: Recovered | None,
    costs: Costs | None,
    start: float,
    command: str,
    report: Report | None = None,
    notices: Iterable[str] = (),
) -> RunDocument:
    """Measure what is still missing of a mask, and return all of it as a document without timings of stages."""
    knee = None if clustering is None else clustering.knee or None
    searched = None if clustering is None else grid_notice(mask.layers * mask.heads)
    cost, ratio, share = cost_record(costs)
    # The mask itself must give the same logits as its cut model, not only the random masks of the self-test.
    difference, proof = bench.measurements.difference(mask, bench.evaluation), bench.resources.proof
    log = TestSplitLog(bench.card, bench.dataset, bench.resources.store)
    measured, texts, seed = bench.measurements, bench.evaluation, settings.seed
    return RunDocument(
        model=ModelRecord.of(bench.card),
        data=DataRecord(
            bench.dataset.id,
            record_split(bench.resources, settings.select_split, bench.calibration),
            record_split(bench.resources, settings.eval_split, bench.evaluation),
            bench.dataset.classes,
            bench.dataset.labelled,
        ),
        settings=settings,
        knee=knee,
        knee_rule=None if clustering is None or knee is None else clustering.knee_rule,
        budget=Budget(requested, mask.count),
        kept={layer: tuple(heads) for layer, heads in mask.kept.items()},
        rescued=() if selection is None else tuple(divmod(head, mask.heads) for head in selection.rescued),
        clusters=None if selection is None else selection.k,
        outcomes=measured.outcomes(texts, mask, recovered=recovered, seed=seed),
        refit=refit_report(recovered),
        distill=distill_report(recovered),
        cost=cost,
        latency_ratio=ratio,
        attention_share=share,
        report=report,
        steps=measure_steps(measured, texts, mask, recovered, seed=seed),
        verified=Verification(
            None if proof is None else proof.gates > 0, None if difference is None else True, difference
        ),
        test_opened=log.count if report is None else log.add(),
        notices=(
            *bench.notices,
            *bench.cut_notices,
            *bench.resources.storage_notices,
            *notices,
            *(() if searched is None else (searched,)),
            *(() if costs is None else costs.notices),
        ),
        timings=Timings.of({}, bench.resources.clock() - start),
        cached=(),
        versions=versions(),
        command=command,
        machine=machine(),
        precision=bench.resources.precisions,
        kv_cache=bench.card.measure_cache(mask),
        speed=None if costs is None else costs.speed,
        attention_weights=bench.card.cacheable_weights,
        protocol=bench.protocol,
    )


def method_of(settings: Settings) -> Method:
    """Return the method of the settings, with those of its options that are settings.

    Raises:
        OptionError: If there is no such method.
    """
    own = [option for option in methods.facts(settings.method).options if hasattr(settings, option)]
    return methods.get(settings.method, **{option: getattr(settings, option) for option in own})


def choose(bench: Bench, budget: int | None = None, *, even: bool | None = None) -> Selection:
    """Choose the heads of the bench's method at ``budget``, ``even`` or not (None: as its settings say).

    Raises:
        BudgetError, KneeNotFoundError: If the budget is impossible, or there is none and the curve has no knee.
    """
    settings = bench.settings
    budget = _requested(bench) if budget is None else budget
    method = method_of(settings)
    if budget is None and method.needs_budget:
        raise BudgetError(f"{settings.method} cannot suggest how many heads to keep; give --budget a number")
    least, layers = settings.min_per_layer, bench.card.layers
    even = settings.even if even is None else even
    if budget is None and even:
        suggested = method.choose(bench.evidence, budget=None, min_per_layer=least)
        budget = max(round_to_multiple(suggested.mask.count, layers), layers)
    minimum = layer_minimum(budget, layers, min_per_layer=least, even=even)
    selection = method.choose(bench.evidence, budget=budget, min_per_layer=minimum)
    # Rounding may differ between processes that work together, and all must prune the same heads.
    return parallel.from_first(lambda: selection)


def _requested(bench: Bench) -> int | None:
    settings, card = bench.settings, bench.card
    return parse_budget(
        settings.budget,
        total=card.layers * card.heads,
        layers=card.layers,
        min_per_layer=settings.min_per_layer,
        even=settings.even,
    )


def _arrays(evidence: HeadEvidence, selection: Selection) -> dict[str, NDArray[Any]]:
    signatures, space, clustering = evidence.signatures, evidence.space, evidence.clustering
    # A method without clusters gets those of the suggested number, or of the number of kept heads.
    fallback = clustering.knee or clustering.nearest(selection.mask.count)
    labels, medoids = clustering.at(fallback if selection.k is None else selection.k)
    return {
        "class_counts": signatures.counts,
        "mean": signatures.mean.astype(np.float32),
        "var": signatures.variance.astype(np.float32),
        "features": space.features,
        "embedding": space.embedding,
        "salience": evidence.salience.ravel(),
        "ks": clustering.ks,
        "mss": clustering.mss,
        "labels": labels,
        "medoids": medoids,
        "distances": space.distances,
        "labels_of_k": clustering.labels.astype(np.uint16),
        "medoids_of_k": np.concatenate(clustering.medoids).astype(np.uint16),
    }
