"""One run: from a model and data to a mask, its outcomes, its cost and its recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp import methods
from cahp.methods.shared.registry import Method
from cahp.models.cards import Costs, Timing
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
    cost_record,
    machine,
    versions,
)
from cahp.run.evidence import HeadEvidence
from cahp.run.measurements import timed_on
from cahp.run.measures import Measures, check_wanted, list_inputs, measure_wanted
from cahp.run.recoveries import Recovered, measure_steps
from cahp.run.resources import STAGES, TestSplitLog, record_split
from cahp.run.search import confirm, improve_heads, reach_goal
from cahp.run.settings import Settings, key_fields
from cahp.stages.clustering import CLUSTERS_REVISION, grid_notice
from cahp.stages.selection import layer_minimum, parse_budget, round_evenly
from cahp.store import Entry, digest_code, key
from cahp.values import BudgetError, HeadMask, Selection
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
    measures: Measures = (),
) -> Run:
    """Choose heads, and measure the outcomes, cost and recovery of the pruned model.

    An identical run is read from the store, without loading the model unless a busy machine disturbed its times. An
    interrupted training is resumed by the next identical run. ``costs`` of its mask are used if they were measured
    elsewhere. The ``measures`` that the settings want are measured with it.

    Raises:
        CahpError: If model, data and options cannot be used together.
    """
    if start is None:
        start = bench.resources.clock()
    name = _run_key(bench, measures)
    stored = _read_run(bench, name, measures)
    if stored is None:
        run = _measure(bench, command, start, costs, measures)
        # Weights that had no room take another time where they have.
        if not (bench.resources.lacks_room and bench.settings.latency):
            entry = {**run.arrays, "keep": run.mask.keep.astype(np.uint8)}
            bench.resources.store.save(name, arrays=entry, meta=run.document.to_json())
        return run
    document = _time_again(bench, stored, costs)
    timings = replace(document.timings, total_s=bench.resources.clock() - start)
    return replace(stored, document=replace(document, timings=timings, command=command))


def _time_again(bench: Bench, stored: Run, costs: Costs | None) -> RunDocument:
    """Return the document of a stored run, with other times if a busy machine disturbed its own."""
    document = stored.document
    full = document.cost.full.latency_ms
    pruned = document.cost.pruned.latency_ms
    if full is None or pruned is None or not (full.noisy or pruned.noisy):
        return document
    if costs is None:
        length = _timed_length(bench, pruned)
        costs = bench.measurements.costs(stored.mask, length=length, seconds=bench.latency_seconds)
    cached = tuple(stage for stage in document.cached if stage != "latency")
    return replace(document.timed(costs), cached=cached)


def read_run(bench: Bench, *, measures: Measures = ()) -> Run | None:
    """Return the same run from the store, or None; nothing is measured."""
    return _read_run(bench, _run_key(bench, measures), measures)


def _read_run(bench: Bench, name: str, measures: Measures) -> Run | None:
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
    document = replace(document, cached=_cached_stages(document, measures), test_opened=opened)
    timing = document.cost.pruned.latency_ms
    if timing is not None:
        # The mask may have been timed again since.
        length = _timed_length(bench, timing)
        costs = bench.measurements.read_costs(mask, length=length, seconds=bench.latency_seconds)
        if costs is not None:
            document = document.timed(costs)
    return Run(document, mask, arrays)


def _timed_length(bench: Bench, timing: Timing) -> int | None:
    """The tokens per text of a timing, as the function that times asks for them."""
    if bench.card.saves == "time":
        return timing.length
    return None


def _cached_stages(document: RunDocument, measures: Measures) -> tuple[str, ...]:
    """The stages that a stored run answers, whether it computed them or found them in the store."""

    untimed: dict[str, object] = {"latency": document.latency_ratio}
    for one in measures:
        untimed[one.name] = document.sections.get(one.name)

    def answers(name: str, seconds: str | None) -> bool:
        if seconds is None:
            return untimed.get(name) is not None
        return name in document.cached or getattr(document.timings, seconds) is not None

    return tuple(stage.cached for stage in STAGES if stage.cached and answers(stage.cached, stage.seconds))


def _run_key(bench: Bench, measures: Measures) -> str:
    settings = bench.settings
    timing = None
    if settings.latency:
        timing = timed_on(settings.device)
    report = None
    if settings.report is not None:
        report = bench.dataset.split(settings.report).sha256
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
        *_list_recovery_inputs(bench),
        # Methods of other packages change without a new version of this one.
        digest_code([type(methods.get(settings.method)).__module__]),
        report,
        list_inputs(measures, bench),
    )


def _list_recovery_inputs(bench: Bench) -> tuple[str | None, str | None]:
    """List what a recovery depends on beside the mask: digests of its texts."""
    recovery = RECOVERIES[bench.settings.recover]
    inputs = None
    everything = None
    if recovery.solves:
        # It may draw other texts than the calibration texts.
        inputs = bench.recoveries.inputs_sha256
    if recovery.timed:
        everything = bench.recoveries.everything_sha256
    return inputs, everything


@dataclass(frozen=True, eq=False)
class _Choice:
    """A mask and where it comes from; without ``selection`` and ``clustering`` it was made by hand.

    ``settings`` make it again. ``requested`` is the number of heads that was asked for (None: where the curve stops).
    """

    mask: HeadMask
    settings: Settings
    requested: int | None
    selection: Selection | None
    clustering: Clustering | None

    @property
    def knee(self) -> int | None:
        """The number of clusters at which the curve stops (None: it does not stop, or there is no curve)."""
        if self.clustering is None:
            return None
        return self.clustering.knee or None

    @property
    def knee_rule(self) -> str | None:
        """The rule that found the knee."""
        if self.clustering is None or self.knee is None:
            return None
        return self.clustering.knee_rule

    @property
    def clusters(self) -> int | None:
        """The number of clusters with a representative."""
        if self.selection is None:
            return None
        return self.selection.k

    @property
    def rescued(self) -> tuple[tuple[int, int], ...]:
        """Layer and head of those that only the per-layer minimum keeps."""
        if self.selection is None:
            return ()
        return tuple(divmod(head, self.mask.heads) for head in self.selection.rescued)


@dataclass(frozen=True, eq=False)
class _Results:
    """What was measured of a mask before its document is written (None: not measured, or not recovered)."""

    recovered: Recovered | None
    costs: Costs | None
    report: Report | None = None
    notices: Iterable[str] = ()


def _measure(bench: Bench, command: str, start: float, costs: Costs | None, measures: Measures) -> Run:
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
    selection = choose(bench, requested)
    # Whatever chose the heads, the run describes them: texts that cannot serve for that are found before more work.
    _ = bench.evidence.space
    search = None
    chosen = selection.mask
    if settings.select_time is not None:
        selection, search = improve_heads(bench, selection)
    mask = selection.mask

    # Cut and recover the model.
    can_cut = bench.measurements.can_cut(mask)
    if not can_cut and settings.recover != NONE.name:
        raise BudgetError(
            f"layer {mask.empty_layers[0]} keeps no head, and {bench.card.id} cannot do without the attention of a "
            "layer, so it cannot be cut and recovered; use --min-per-layer 1 or --recover none"
        )
    recovered = bench.recoveries.recover(
        mask, settings.recover, labels=settings.labels, seconds=settings.recover_seconds
    )

    # Open the test split, if that was asked for, and time the model.
    report = _report(bench, mask, recovered)
    if goal is not None and report is not None:
        goal = confirm(goal, report.outcomes)
    if costs is None and settings.latency and can_cut:
        costs = bench.measurements.costs(mask, length=bench.length, seconds=bench.latency_seconds)

    # Evaluate it, and write down what is known of it.
    arrays = _arrays(bench.evidence, selection)
    choice = _Choice(mask, settings, requested, selection, bench.evidence.clustering)
    results = _Results(recovered, costs, report, labelling(bench.full, bench.reading))
    document = _document(bench, choice, results, start=start, command=command)

    # Measure what stands beside the outcomes.
    null = None
    if document.knee is not None and requested is None:
        curves = bench.evidence.null_curves
        if curves is not None:
            null = curves.knee(settings.poly_degree)
            arrays["mss_null"] = curves.mss
    measured = measure_wanted(measures, bench, mask, recovered)
    evenness = None
    if settings.even:
        # The free selection is not improved either.
        evenness = price_evenness(bench, chosen)
    document = replace(
        document,
        knee_null=null,
        goal=goal,
        search=search,
        evenness=evenness,
        sections=measured,
        timings=Timings.of(bench.resources.timings, bench.resources.clock() - start),
        cached=tuple(bench.resources.cached),
    )
    return Run(document, mask, arrays)


def _report(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Report | None:
    """Evaluate the model on the split that is opened only for a report (None: it stays closed)."""
    settings = bench.settings
    if settings.report is None:
        return None
    texts = bench.dataset.split(settings.report)
    # What is stopped after this has opened it.
    TestSplitLog(bench.card, bench.dataset, bench.resources.store).open(settings.report)
    outcomes = bench.measurements.outcomes(texts, mask, recovered=recovered, seed=settings.seed)
    return Report(**vars(record_split(bench.resources, settings.report, texts)), outcomes=outcomes)


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
    results = _Results(None, None)
    if bench.measurements.can_cut(mask):
        results = _Results(bench.recoveries.recover(mask, recover), costs(mask))
    settings = replace(bench.settings, budget=str(mask.count), goal=None, recover=NONE.name, labels=False)
    if results.recovered is not None:
        settings = replace(settings, recover=recover)
    requested = None
    if selection is None:
        settings = replace(settings, method=BY_HAND)
    else:
        requested = mask.count
    choice = _Choice(mask, settings, requested, selection, clustering)
    document = _document(bench, choice, results, start=start, command=command(settings))
    if settings.even and selection is not None:
        document = replace(document, evenness=price_evenness(bench, mask))
    return document


def price_evenness(bench: Bench, mask: HeadMask) -> Evenness | None:
    """Compare an even ``mask`` with a free selection of as many heads (None: it keeps all, or no even number)."""
    if mask.is_full or len(set(mask.counts)) > 1:
        return None
    free_mask = choose(bench, mask.count, even=False).mask
    even = bench.measurements.evaluate(bench.evaluation, mask=mask)
    free = bench.measurements.evaluate(bench.evaluation, mask=free_mask)
    return Evenness.of(even, free, full=bench.full, seed=bench.settings.seed)


def _document(bench: Bench, choice: _Choice, results: _Results, *, start: float, command: str) -> RunDocument:
    """Measure what is still missing of a mask, and return all of it as a document without timings of stages."""
    settings = choice.settings
    mask = choice.mask
    recovered = results.recovered
    measurements = bench.measurements
    verified = _verify(bench, mask)
    data = DataRecord(
        bench.dataset.id,
        record_split(bench.resources, settings.select_split, bench.calibration),
        record_split(bench.resources, settings.eval_split, bench.evaluation),
        bench.dataset.classes,
        bench.dataset.labelled,
    )
    outcomes = measurements.outcomes(bench.evaluation, mask, recovered=recovered, seed=settings.seed)
    steps = measure_steps(measurements, bench.evaluation, mask, recovered, seed=settings.seed)
    reports = recovered or Recovered({})
    test_opened = TestSplitLog(bench.card, bench.dataset, bench.resources.store).count
    cost, ratio, share = cost_record(results.costs)
    speed = None
    if results.costs is not None:
        speed = results.costs.speed
    return RunDocument(
        model=ModelRecord.of(bench.card),
        data=data,
        settings=settings,
        knee=choice.knee,
        knee_rule=choice.knee_rule,
        budget=Budget(choice.requested, mask.count),
        kept={layer: tuple(heads) for layer, heads in mask.kept.items()},
        rescued=choice.rescued,
        clusters=choice.clusters,
        outcomes=outcomes,
        refit=reports.refit,
        distill=reports.distill,
        cost=cost,
        latency_ratio=ratio,
        attention_share=share,
        report=results.report,
        steps=steps,
        verified=verified,
        test_opened=test_opened,
        notices=_list_notices(bench, choice, results),
        timings=Timings.of({}, bench.resources.clock() - start),
        cached=(),
        versions=versions(),
        command=command,
        machine=machine(),
        precision=bench.resources.precisions,
        kv_cache=bench.card.measure_cache(mask),
        speed=speed,
        attention_weights=bench.card.cacheable_weights,
        protocol=bench.protocol,
    )


def _verify(bench: Bench, mask: HeadMask) -> Verification:
    """Compare the masked model with the cut one: the self-test has compared them under random masks only."""
    verified = Verification(None, None, bench.measurements.difference(mask, bench.evaluation))
    if verified.difference is not None:
        verified = replace(verified, mask_equals_surgery=True)
    proof = bench.resources.proof
    if proof is not None:
        verified = replace(verified, mask_bites=proof.gates > 0)
    return verified


def _list_notices(bench: Bench, choice: _Choice, results: _Results) -> tuple[str, ...]:
    notices = [*bench.notices, *bench.cut_notices, *bench.resources.storage_notices, *results.notices]
    if choice.clustering is not None:
        notice = grid_notice(choice.mask.layers * choice.mask.heads)
        if notice is not None:
            notices.append(notice)
    if results.costs is not None:
        notices += results.costs.notices
    return tuple(notices)


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
    layers = bench.card.layers
    floor = settings.floor(layers)
    if budget is None and even:
        suggested = method.choose(bench.evidence, budget=None, min_per_layer=floor)
        budget = round_evenly(suggested.mask.count, layers, bench.card.heads, min_per_layer=floor)
    minimum = layer_minimum(budget, layers, min_per_layer=floor, even=even)
    return method.choose(bench.evidence, budget=budget, min_per_layer=minimum)


def _requested(bench: Bench) -> int | None:
    settings = bench.settings
    card = bench.card
    return parse_budget(
        settings.budget,
        total=card.layers * card.heads,
        layers=card.layers,
        min_per_layer=settings.floor(card.layers),
        even=settings.even,
    )


def _arrays(evidence: HeadEvidence, selection: Selection) -> dict[str, NDArray[Any]]:
    signatures = evidence.signatures
    space = evidence.space
    clustering = evidence.clustering
    k = selection.k
    if k is None:
        # A method without clusters gets those of the suggested number, or of the number of kept heads.
        k = clustering.knee or clustering.nearest(selection.mask.count)
    labels, medoids = clustering.at(k)
    return {
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
