"""One run: from a model and data to a mask, its outcomes, its cost and its recovery."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from cahp import methods
from cahp.methods.shared.registry import Method
from cahp.models.cards import Costs
from cahp.outcomes import estimate_mean
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench, labelling
from cahp.run.document import (
    BY_HAND,
    Budget,
    DataRecord,
    Evenness,
    ModelRecord,
    Report,
    RunDocument,
    Timings,
    Verification,
    cost_fields,
    machine,
    versions,
)
from cahp.run.measurements import timed_on
from cahp.run.measures import Measures, check_wanted, list_wanted, measure_wanted
from cahp.run.recoveries import Recovered, measure_steps
from cahp.run.resources import TestSplitLog, record_split
from cahp.run.search import confirm, improve_heads, reach_goal
from cahp.run.settings import Settings, key_fields
from cahp.stages.clustering import CLUSTERS_REVISION, grid_notice
from cahp.store import Entry, digest_code, key
from cahp.values import Array, Arrays, BudgetError, HeadMask, Selection
from cahp.values.statistics import Clustering

#: Bump to invalidate cached runs.
_REVISION = 8


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its document (``run.json``), its mask, and the arrays of ``arrays.npz``."""

    document: RunDocument
    mask: HeadMask
    arrays: Arrays


def measure_run(
    bench: Bench,
    command: str = "",
    start: float | None = None,
    *,
    measures: Measures = (),
) -> Run:
    """Choose heads, and measure the outcomes, cost and recovery of the pruned model.

    An identical run is read from the store, without loading the model, unless a busy machine disturbed its times. An
    interrupted training is resumed by the next identical run. The ``measures`` that the settings want are measured with
    it.

    Raises:
        CahpError: If model, data and options cannot be used together.
    """
    resources = bench.resources
    if start is None:
        start = resources.clock()
    run = read_run(bench, measures=measures)
    if run is None or run.document.cost.full.noisy or run.document.cost.pruned.noisy:
        run = _measure(bench, start, measures)
        # Weights that had no room take another time where they have.
        if not (resources.lacks_room and bench.settings.latency):
            arrays = {**run.arrays, "keep": run.mask.keep.astype(np.uint8)}
            # Stages that the run computed are stored now, too.
            cached = dict.fromkeys(stage for name, stage in resources.asked.items() if resources.store.holds(name))
            stored = replace(run.document, cached=tuple(cached))
            resources.store.save(_run_key(bench, measures), arrays=arrays, meta=stored.to_json())
    timings = replace(run.document.timings, total_s=resources.clock() - start)
    return replace(run, document=replace(run.document, timings=timings, command=command))


def read_run(bench: Bench, *, measures: Measures = ()) -> Run | None:
    """Return the same run from the store, or None; nothing is measured."""

    def read(entry: Entry) -> Run:
        arrays = dict(entry.arrays)
        mask = HeadMask(arrays.pop("keep").astype(np.bool_))
        return Run(RunDocument.from_json(entry.meta), mask, arrays)

    run = bench.resources.store.read(_run_key(bench, measures), read)
    if run is None:
        return None
    # The test split may have been opened by another run since.
    opened = TestSplitLog(bench.card, bench.dataset, bench.resources.store).count
    return replace(run, document=replace(run.document, test_opened=opened))


def _run_key(bench: Bench, measures: Measures) -> str:
    settings = bench.settings
    report = None
    if settings.report is not None:
        report = bench.dataset.split(settings.report).sha256
    # A recovery may draw other texts than the calibration texts.
    inputs = bench.recoveries.inputs_sha256
    if RECOVERIES[settings.recover].timed:
        inputs = bench.recoveries.digest_everything()
    timing = None
    if settings.latency:
        timing = timed_on(settings.device)
    wanted = list_wanted(measures, bench)
    return key(
        "run",
        _REVISION,
        key_fields(settings),
        bench.card.sha256,
        bench.calibration.sha256,
        bench.evaluation.sha256,
        CLUSTERS_REVISION,
        asdict(bench.resources.precisions),
        timing,
        inputs,
        # Methods of other packages change without a new version of this one.
        digest_code([type(methods.get(settings.method)).__module__]),
        report,
        [(one.name, one.revision, asdict(options), one.inputs(bench, options)) for one, options in wanted],
    )


def _measure(bench: Bench, start: float, measures: Measures) -> Run:
    settings = bench.settings
    bench.recoveries.check(settings.recover)
    check_wanted(measures, bench)

    # Choose the heads: as many as were asked for, as reach the goal, or (None) as the curve suggests.
    goal = None
    if settings.goal is None:
        requested = _requested(bench)
    else:
        goal = reach_goal(bench, partial(choose, bench), measures)
        requested = goal.heads
    free = selection = choose(bench, requested)
    # Whatever chose the heads, the run describes them: texts that cannot serve for that are found before more work.
    evidence = bench.evidence
    _ = evidence.space
    search = None
    if settings.select_time is not None:
        selection, search = improve_heads(bench, selection)
    mask = selection.mask

    # Cut and recover the model.
    recovered = bench.recoveries.recover(
        mask, settings.recover, labels=settings.labels, seconds=settings.recover_seconds
    )

    # Open the test split, if that was asked for, and time the model.
    report = None
    if settings.report is not None:
        texts = bench.dataset.split(settings.report)
        # What is stopped after this has opened it.
        TestSplitLog(bench.card, bench.dataset, bench.resources.store).open(settings.report)
        outcomes = bench.measurements.outcomes(texts, mask, recovered=recovered, seed=settings.seed)
        report = Report(**vars(record_split(bench.resources, settings.report, texts)), outcomes=outcomes)
        if goal is not None:
            goal = confirm(goal, outcomes)
    costs = None
    if settings.latency:
        costs = bench.costs(mask, recovered)

    # Evaluate it, and write down what is known of it.
    signatures = evidence.signatures
    space = evidence.space
    clustering = evidence.clustering
    k = selection.k
    if k is None:
        # A method without clusters gets those of the suggested number, or of the number of kept heads.
        k = clustering.knee or clustering.nearest(mask.count)
    labels, medoids = clustering.at(k)
    arrays: dict[str, Array] = {
        "class_counts": signatures.counts,
        "mean": signatures.mean.astype(np.float32),
        "var": signatures.variance.astype(np.float32),
        "features": space.features,
        "embedding": space.embedding,
        "salience": evidence.salience.ravel(),
        "salience_batch": evidence.compute_salience("batch").ravel(),
        "salience_example": evidence.compute_salience("example").ravel(),
        "ks": clustering.ks,
        "mss": clustering.mss,
        "labels": labels,
        "medoids": medoids,
        "distances": space.distances,
        "labels_of_k": clustering.labels.astype(np.uint16),
        "medoids_of_k": np.concatenate(clustering.medoids).astype(np.uint16),
    }
    document = _describe(bench, settings, selection, requested, clustering, recovered, costs)
    null = None
    if document.knee is not None and requested is None and evidence.null_curves is not None:
        null = evidence.null_curves.knee(settings.poly_degree)
        arrays["mss_null"] = evidence.null_curves.mss
    evenness = None
    if settings.even:
        # The free selection is not improved either.
        evenness = price_evenness(bench, free.mask)
    document = replace(
        document,
        report=report,
        knee_null=null,
        goal=goal,
        search=search,
        evenness=evenness,
        sections=measure_wanted(measures, bench, mask, recovered),
        notices=(*document.notices, *labelling(bench.full, bench.reading)),
        timings=Timings.of(bench.resources.timings, bench.resources.clock() - start),
        cached=tuple(bench.resources.cached),
    )
    return Run(document, mask, arrays)


def measure_mask(
    bench: Bench,
    mask: HeadMask,
    *,
    costs: Callable[[Recovered | None], Costs],
    command: Callable[[Settings], str],
    recover: str = NONE.name,
    selection: Selection | None = None,
    clustering: Clustering | None = None,
) -> RunDocument:
    """Measure the mask on a board as a run does.

    ``selection`` and ``clustering`` tell where the mask comes from; without them it was made by hand. ``costs`` times
    the cut model with the recovery. ``command`` writes the command line that repeats a run with these settings. The
    stages have no timings: the run that filled the board measured them.
    """
    start = bench.resources.clock()
    recovered = bench.recoveries.recover(mask, recover)
    timed = costs(recovered)
    settings = replace(bench.settings, budget=str(mask.count), goal=None, recover=NONE.name, labels=False)
    if recovered is not None:
        settings = replace(settings, recover=recover)
    requested: int | None = mask.count
    evenness = None
    if selection is None:
        settings = replace(settings, method=BY_HAND)
        requested = None
        selection = Selection(mask, None)
    elif settings.even:
        evenness = price_evenness(bench, mask)
    document = _describe(bench, settings, selection, requested, clustering, recovered, timed)
    timings = Timings.of({}, bench.resources.clock() - start)
    return replace(document, evenness=evenness, timings=timings, command=command(settings))


def price_evenness(bench: Bench, mask: HeadMask) -> Evenness | None:
    """Compare an even ``mask`` with a free selection of as many heads (None: it keeps all, or no even number)."""
    if mask.is_full or len(set(mask.counts)) > 1:
        return None
    masks = (mask, choose(bench, mask.count, even=False).mask)
    even, free = (bench.measurements.evaluate(bench.evaluation, mask=each).divergences(bench.full) for each in masks)
    estimate = partial(estimate_mean, seed=bench.settings.seed, units=bench.full.units)
    return Evenness(estimate(even), estimate(free), estimate(even - free))


def _describe(
    bench: Bench,
    settings: Settings,
    selection: Selection,
    requested: int | None,
    clustering: Clustering | None,
    recovered: Recovered | None,
    costs: Costs | None,
) -> RunDocument:
    """Measure what is still missing of a mask, and describe it, as yet without the timings of stages.

    ``settings`` make the mask again. ``requested`` heads were asked for (None: where the curve stops, or by hand). A
    mask made by hand has no ``clustering``.
    """
    mask = selection.mask
    measurements = bench.measurements
    resources = bench.resources
    # The self-test, which has passed when the model is loaded, has compared them under random masks only.
    difference = measurements.difference(mask, bench.evaluation)
    outcomes = measurements.outcomes(bench.evaluation, mask, recovered=recovered, seed=settings.seed)
    steps = measure_steps(measurements, bench.evaluation, mask, recovered, seed=settings.seed)
    reports = recovered or Recovered({})
    notices = [*bench.notices, *bench.cut_notices, *resources.storage_notices]
    if costs is not None:
        notices += costs.notices
    knee = None
    knee_rule = None
    if clustering is not None:
        if clustering.knee:
            knee = clustering.knee
            knee_rule = clustering.knee_rule
        notice = grid_notice(mask.keep.size)
        if notice is not None:
            notices.append(notice)
    return RunDocument(
        model=ModelRecord.of(bench.card),
        data=DataRecord(
            bench.dataset.id,
            record_split(resources, settings.select_split, bench.calibration),
            record_split(resources, settings.eval_split, bench.evaluation),
            bench.dataset.classes,
            bench.dataset.labelled,
        ),
        settings=settings,
        knee=knee,
        knee_rule=knee_rule,
        budget=Budget(requested, mask.count),
        kept={layer: tuple(heads) for layer, heads in mask.kept.items()},
        rescued=tuple(divmod(head, mask.heads) for head in selection.rescued),
        clusters=selection.k,
        outcomes=outcomes,
        refit=reports.refit,
        distill=reports.distill,
        steps=steps,
        verified=Verification(True, True, difference),
        test_opened=TestSplitLog(bench.card, bench.dataset, resources.store).count,
        notices=tuple(notices),
        timings=Timings.of({}, 0.0),
        cached=(),
        versions=versions(),
        command="",
        machine=machine(),
        precision=resources.precisions,
        kv_cache=bench.card.measure_cache(mask),
        attention_weights=bench.card.cacheable_weights,
        protocol=bench.protocol,
        **cost_fields(costs),
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
    if budget is None:
        budget = _requested(bench)
    if even is None:
        even = settings.even
    method = method_of(settings)
    if budget is None and method.needs_budget:
        raise BudgetError(f"{settings.method} cannot suggest how many heads to keep; give --budget a number")
    rules = replace(settings, even=even).budget_rules(bench.card)
    if budget is None and even:
        suggested = method.choose(bench.evidence, budget=None, min_per_layer=rules.minimum)
        budget = rules.round_evenly(suggested.mask.count)
    return method.choose(bench.evidence, budget=budget, min_per_layer=rules.layer_minimum(budget))


def _requested(bench: Bench) -> int | None:
    settings = bench.settings
    return settings.budget_rules(bench.card).parse(settings.budget)
