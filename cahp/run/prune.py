"""The order of the stages: from a model and data to a mask, what it answers, costs and wins back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp import methods
from cahp import processes as parallel
from cahp.costs import Costs
from cahp.head_statistics import Clustering
from cahp.outcomes import Outcomes, measure
from cahp.recoveries import NONE, RECOVERIES
from cahp.registry import Method
from cahp.run.bench import Bench, labelling, open_bench
from cahp.run.document import (
    BY_HAND,
    Budget,
    DataRecord,
    ModelRecord,
    Report,
    RunDocument,
    SplitRecord,
    StateOutcomes,
    Timings,
    cost_record,
    machine,
    verification,
    versions,
)
from cahp.run.evidence import HeadEvidence
from cahp.run.measurements import Measurements, timed_on
from cahp.run.recovered import Recovered, distill_report, refit_report
from cahp.run.recoveries import more_texts
from cahp.run.recovery_steps import measure_steps
from cahp.run.seal import TestSeal
from cahp.run.settings import RECOVER_TIME, Settings, key_fields, parse_duration
from cahp.run.timeline import STAGES
from cahp.stages.clustering import grid_notice, revision
from cahp.stages.selection import parse_budget
from cahp.store import Entry, Store, key
from cahp.values import (
    BudgetError,
    HeadMask,
    KneeNotFoundError,
    OptionError,
    Precisions,
    Progress,
    Selection,
    Texts,
    silent,
)

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Watch

#: Bump to invalidate cached runs.
_REVISION = 2


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: what ``run.json`` says, the mask, and the arrays behind it."""

    document: RunDocument
    mask: HeadMask
    arrays: Mapping[str, NDArray[Any]]


def prune(
    settings: Settings,
    *,
    store: Store | None = None,
    model: HeadModel | None = None,
    command: str = "",
    progress: Progress = silent,
    watch: Watch | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Run:
    """Select heads, and measure what the pruned model answers, costs and saves.

    An identical run is found again in the store, without reading the model. ``progress`` may raise ``Cancelled``;
    a training, which ``watch`` sees, then goes on from there in the next identical run.

    Raises:
        CahpError: If model, data and options cannot be used together, with the next step.
    """
    start = clock()
    bench = open_bench(settings, store=store, model=model, progress=progress, watch=watch, clock=clock)
    return measure_run(bench, command, start)


def measure_run(bench: Bench, command: str = "", start: float | None = None, *, costs: Costs | None = None) -> Run:
    """``prune`` on a bench that is open already; ``costs`` of its mask are taken if they were measured elsewhere."""
    start = bench.resources.clock() if start is None else start
    found = known(bench)
    if found is None:
        run = _measure(bench, command, start, costs)
        entry = {**run.arrays, "keep": run.mask.keep.astype(np.uint8)}
        bench.resources.store.save(_run_key(bench), arrays=entry, meta=run.document.to_json())
        return run
    timings = replace(found.document.timings, total_s=bench.resources.clock() - start)
    return replace(found, document=replace(found.document, timings=timings, command=command))


def known(bench: Bench) -> Run | None:
    """The run of an earlier time, if it is in the store; nothing is measured."""
    found = bench.resources.store.read(_run_key(bench), _stored)
    if found is None:
        return None
    document, arrays, mask = found
    # Another run may have opened the test split since.
    opened = TestSeal(bench.card, bench.dataset, bench.resources.store).opened
    document = replace(document, cached=_answered(document), test_opened=opened)
    timing = document.cost.pruned.latency_ms
    if timing is not None:
        # It may have been timed once more since.
        costs = bench.measurements.costs_before(mask, length=timing.length, seconds=bench.latency_seconds)
        document = document if costs is None else document.timed(costs)
    return Run(document, mask, arrays)


def _stored(entry: Entry) -> tuple[RunDocument, dict[str, NDArray[Any]], HeadMask]:
    arrays = dict(entry.arrays)
    keep = arrays.pop("keep")
    return RunDocument.from_json(entry.meta), arrays, HeadMask(keep.astype(np.bool_))


def _answered(document: RunDocument) -> tuple[str, ...]:
    """The stages that a stored run answers, whether it ran them or found them."""

    def there(name: str, seconds: str | None) -> bool:
        if seconds is None:
            return document.latency_ratio is not None
        return name in document.cached or getattr(document.timings, seconds) is not None

    return tuple(stage.cached for stage in STAGES if stage.cached is not None and there(stage.cached, stage.seconds))


def _run_key(bench: Bench) -> str:
    settings = bench.settings
    recovery = RECOVERIES[settings.recover]
    name = key(
        "run",
        _REVISION,
        key_fields(settings),
        bench.card.sha256,
        bench.calibration.sha256,
        bench.evaluation.sha256,
    )
    clustered = revision(bench.card.layers * bench.card.heads)
    if clustered > 1:
        name = key("clustered", name, clustered)
    if settings.latency:
        # Timings were of thirty rounds once, whatever these said, and are another machine's elsewhere.
        name = key("timed until known", name, *timed_on(settings.device))
    if bench.resources.precisions != Precisions():
        name = key("computed in", name, asdict(bench.resources.precisions))
    if settings.recover_data is not None or recovery.imitates:
        # Other texts than the calibration's: without labels they are drawn anew from all there are.
        name = key("recovered on", name, bench.measurements.inputs_sha256)
    if recovery.trains and parallel.world() > 1:
        # Several processes take a batch each at a time, which makes it another training.
        name = key("shared", name, parallel.world())
    if recovery.solves and more_texts(len(bench.measurements.inputs)):
        name = key("refitted on", name, *more_texts(len(bench.measurements.inputs)))
    if recovery.imitates:
        # What each step brought came later.
        name = key("stepped", name)
    return key("reported", name, bench.dataset.split(settings.report).sha256) if settings.report else name


def _measure(bench: Bench, command: str, start: float, costs: Costs | None) -> Run:
    settings, card, resources = bench.settings, bench.card, bench.resources
    if RECOVERIES[settings.recover].swept and settings.recover != NONE.name and card.no_refit:
        raise OptionError(f"{card.no_refit}; use --recover distill, finetune or none")
    selection = choose(bench)
    mask = selection.mask
    if mask.empty_layers and settings.recover != "none":
        raise BudgetError(
            f"layer {mask.empty_layers[0]} keeps no head, so the model cannot be cut and recovered; "
            "use --min-per-layer 1 or --recover none"
        )
    recovered = _recover(bench, mask)
    notices = (*bench.notices, *labelling(bench.full, bench.reading))
    outcomes = measure_outcomes(bench.measurements, bench.evaluation, mask, recovered=recovered, seed=settings.seed)
    report = _report(bench, mask, recovered)
    if costs is None and settings.latency and not mask.empty_layers:
        costs = bench.measurements.costs(mask, length=bench.length, seconds=bench.latency_seconds)
    # The mask itself, not only the random ones of the self-test, must do the same as its surgery.
    difference = bench.measurements.difference(mask, bench.evaluation)
    # Before the document, which says what was found in the store.
    arrays = _arrays(bench.evidence, selection)
    seal = TestSeal(card, bench.dataset, resources.store)
    document = _document(
        bench,
        mask,
        settings=settings,
        requested=_requested(bench),
        selection=selection,
        clustering=bench.evidence.clustering,
        outcomes=outcomes,
        recovered=recovered,
        costs=costs,
        difference=difference,
        report=report,
        seconds=resources.timings,
        start=start,
        cached=tuple(resources.cached),
        test_opened=seal.opened if report is None else seal.open(),
        notices=notices,
        command=command,
    )
    return Run(document, mask, arrays)


def measure_mask(
    bench: Bench,
    mask: HeadMask,
    *,
    costs: Callable[[HeadMask], Costs],
    command: Callable[[Settings], str],
    recover: str = "none",
    selection: Selection | None = None,
    clustering: Clustering | None = None,
) -> RunDocument:
    """The document of the mask on a board, measured like that of a run.

    ``selection`` and ``clustering`` say where the mask comes from; without them it was made by hand. ``costs`` takes
    the time of the cut model, ``recover`` says how it is recovered; neither is possible where a layer is empty.
    ``command`` spells the command line that makes a run of these settings again.
    """
    start = bench.resources.clock()
    cuttable = not mask.empty_layers
    recovered = bench.measurements.recover(mask, recover) if cuttable else None
    settings = replace(
        bench.settings,
        budget=str(mask.count),
        recover="none" if recovered is None else recover,
        method=BY_HAND if selection is None else bench.settings.method,
    )
    return _document(
        bench,
        mask,
        settings=settings,
        requested=None if selection is None else mask.count,
        selection=selection,
        clustering=clustering,
        outcomes=measure_outcomes(
            bench.measurements, bench.evaluation, mask, recovered=recovered, seed=bench.settings.seed
        ),
        recovered=recovered,
        costs=costs(mask) if cuttable else None,
        difference=bench.measurements.difference(mask, bench.evaluation),
        report=None,
        # The board's stages were timed by the run that filled it, not here.
        seconds={},
        start=start,
        cached=(),
        test_opened=TestSeal(bench.card, bench.dataset, bench.resources.store).opened,
        notices=bench.notices,
        command=command(settings),
    )


def _document(
    bench: Bench,
    mask: HeadMask,
    *,
    settings: Settings,
    requested: int | None,
    selection: Selection | None,
    clustering: Clustering | None,
    outcomes: StateOutcomes,
    recovered: Recovered | None,
    costs: Costs | None,
    difference: float | None,
    report: Report | None,
    seconds: Mapping[str, float],
    start: float,
    cached: tuple[str, ...],
    test_opened: int,
    notices: tuple[str, ...],
    command: str,
) -> RunDocument:
    """What was measured of a mask, as a run says it."""
    knee = None if clustering is None else clustering.knee or None
    cost, ratio, share = cost_record(costs)
    return RunDocument(
        model=ModelRecord.of(bench.card),
        data=DataRecord(
            bench.dataset.id,
            SplitRecord.of(settings.select_split, bench.calibration),
            SplitRecord.of(settings.eval_split, bench.evaluation),
            bench.dataset.classes,
        ),
        settings=settings,
        knee=knee,
        knee_rule=None if clustering is None or knee is None else clustering.knee_rule,
        budget=Budget(requested, mask.count),
        kept={layer: tuple(heads) for layer, heads in mask.kept.items()},
        rescued=() if selection is None else tuple(divmod(head, mask.heads) for head in selection.rescued),
        clusters=None if selection is None else selection.k,
        outcomes=outcomes,
        refit=refit_report(recovered),
        distill=distill_report(recovered),
        cost=cost,
        latency_ratio=ratio,
        attention_share=share,
        report=report,
        timings=Timings.of(seconds, bench.resources.clock() - start),
        cached=cached,
        verified=verification(bench.resources.proof, difference),
        test_opened=test_opened,
        notices=(*notices, *_swept(mask.layers * mask.heads, clustering), *(() if costs is None else costs.notices)),
        versions=versions(),
        command=command,
        machine=machine(),
        steps=measure_steps(bench.measurements, bench.evaluation, mask, recovered, seed=settings.seed),
        precision=bench.resources.precisions,
    )


def _swept(heads: int, clustering: Clustering | None) -> tuple[str, ...]:
    """What a person should know of how the number of clusters was looked for."""
    said = None if clustering is None else grid_notice(heads)
    return () if said is None else (said,)


def method_of(settings: Settings) -> Method:
    """The method that ``settings`` name, constructed with what they say of its own options.

    Raises:
        OptionError: If there is none of that name.
    """
    own = [option for option in methods.facts(settings.method).options if hasattr(settings, option)]
    return methods.get(settings.method, **{option: getattr(settings, option) for option in own})


def choose(bench: Bench) -> Selection:
    """What the method of ``bench.settings`` keeps at their budget."""
    settings = bench.settings
    budget = _requested(bench)
    method = method_of(settings)
    if budget is None and method.needs_budget:
        raise BudgetError(f"{settings.method} cannot suggest how many heads to keep; give --budget a number")
    try:
        selection = method.choose(bench.evidence, budget=budget, min_per_layer=settings.min_per_layer)
    except KneeNotFoundError:
        raise KneeNotFoundError(
            "the curve over the numbers of clusters has no knee that would suggest how many heads to keep; give "
            "--budget a number of heads or a share such as 30%"
        ) from None
    # Processes that work together must prune the same heads, whatever they make of the last digit.
    return parallel.from_first(lambda: selection)


def _requested(bench: Bench) -> int | None:
    settings, card = bench.settings, bench.card
    return parse_budget(
        settings.budget, total=card.layers * card.heads, layers=card.layers, min_per_layer=settings.min_per_layer
    )


def _recover(bench: Bench, mask: HeadMask) -> Recovered | None:
    settings = bench.settings
    return bench.measurements.recover(
        mask, settings.recover, labels=settings.labels, seconds=parse_duration(settings.recover_time or RECOVER_TIME)
    )


def _report(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Report | None:
    """What is found on the split that the settings open to report on."""
    split = bench.settings.report
    if split is None:
        return None
    texts = bench.dataset.split(split)
    outcomes = measure_outcomes(bench.measurements, texts, mask, recovered=recovered, seed=bench.settings.seed)
    return Report(**vars(SplitRecord.of(split, texts)), outcomes=outcomes)


def measure_outcomes(
    measurements: Measurements,
    texts: Texts,
    mask: HeadMask | None,
    *,
    recovered: Recovered | None = None,
    seed: int = 42,
) -> dict[str, Outcomes]:
    """Measure the outcomes of the full model, of the pruned one under ``mask``, and of the ``recovered`` one.

    Models that are not given are left out. ``seed`` draws the bootstrap.
    """
    full = measurements.evaluate(texts)
    outcomes: dict[str, Outcomes] = {"full": measure(full, seed=seed)}
    if mask is not None:
        outcomes["pruned"] = measure(measurements.evaluate(texts, mask=mask), full=full, seed=seed)
    if recovered is not None:
        answers = measurements.evaluate(texts, mask=mask, recovered=recovered)
        outcomes["recovered"] = measure(answers, full=full, seed=seed)
    return outcomes


def _arrays(evidence: HeadEvidence, selection: Selection) -> dict[str, NDArray[Any]]:
    signatures, space, clustering = evidence.signatures, evidence.space, evidence.clustering
    # Where no clusters chose the heads, those of the suggested number, or of as many as there are heads kept.
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
