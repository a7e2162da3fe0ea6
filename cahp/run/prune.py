"""The one file that knows the order of the stages: from a model and data to a mask, its cost and its price."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp import methods
from cahp import processes as parallel
from cahp.registry import Method
from cahp.run.bench import Bench, labelling, open_bench
from cahp.run.measurements import Costs, FineTuned, Refitted, Workbench
from cahp.run.seal import TestSeal
from cahp.run.settings import Settings
from cahp.stages.selection import parse_budget
from cahp.store import Store, key
from cahp.values import (
    BudgetError,
    Evaluation,
    HeadMask,
    KneeNotFoundError,
    OptionError,
    Progress,
    Selection,
    Texts,
    silent,
)

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Watch
    from cahp.stages.evaluation import Metrics

SCHEMA = "cahp.run/1"
#: Raised when a change of the code changes numbers, so that no stored run outlives it.
_REVISION = 1
_LIBRARIES = ("numpy", "scikit-learn", "kmedoids", "kneed", "torch", "transformers")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: what ``run.json`` says, the mask, and the arrays behind it."""

    document: Mapping[str, Any]
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
    fine-tuning, which ``watch`` sees, then goes on from there in the next identical run.

    Raises:
        CahpError: If model, data and options cannot be used together, with the next step.
    """
    start = clock()
    bench = open_bench(settings, store=store, model=model, progress=progress, watch=watch, clock=clock)
    return measure(bench, command, start)


def measure(bench: Bench, command: str = "", start: float | None = None) -> Run:
    """``prune`` on a bench that is open already."""
    start = bench.workbench.clock() if start is None else start
    found = known(bench)
    if found is None:
        run = _measure(bench, command, start)
        entry = {**run.arrays, "keep": run.mask.keep.astype(np.uint8)}
        bench.workbench.store.save(_run_key(bench), arrays=entry, meta=run.document)
        return run
    document = dict(found.document)
    document["timings"] = {**document["timings"], "total_s": bench.workbench.clock() - start}
    document["command"] = command
    return replace(found, document=document)


def known(bench: Bench) -> Run | None:
    """The run of an earlier time, if it is in the store; nothing is measured."""
    found = bench.workbench.store.load(_run_key(bench))
    if found is None:
        return None
    document = dict(found.meta)
    timings, before = document["timings"], document["cached"]
    document["cached"] = [stage for stage, seconds in _STAGES if stage in before or timings[seconds] is not None]
    if document["latency_ratio"] is not None:
        document["cached"].append("latency")
    # Another run may have opened the test split since.
    document["test_opened"] = TestSeal(bench.card, bench.dataset, bench.workbench.store).opened
    arrays = dict(found.arrays)
    keep = arrays.pop("keep")
    return Run(document, HeadMask(keep.astype(np.bool_)), arrays)


def _run_key(bench: Bench) -> str:
    settings = bench.settings
    name = key(
        "run",
        _REVISION,
        _key_settings(settings),
        bench.card.sha256,
        bench.calibration.sha256,
        bench.evaluation.sha256,
    )
    if settings.recover == "finetune" and parallel.world() > 1:
        # Several processes take a batch each at a time, which makes it another training.
        name = key("shared", name, parallel.world())
    return key("reported", name, bench.dataset.split(settings.report).sha256) if settings.report else name


def _key_settings(settings: Settings) -> dict[str, Any]:
    return {**asdict(settings), "label_map": dict(settings.label_map)}


_STAGES = (
    ("signatures", "signatures_s"),
    ("space", "projection_s"),
    ("clustering", "clustering_s"),
    ("salience", "salience_s"),
    ("evaluation", "evaluation_s"),
    ("recovery", "recovery_s"),
)


def _measure(bench: Bench, command: str, start: float) -> Run:
    settings, card, workbench = bench.settings, bench.card, bench.workbench
    seal = TestSeal(card, bench.dataset, workbench.store)
    if settings.recover == "refit" and card.no_refit:
        raise OptionError(f"{card.no_refit}; use --recover finetune or none")
    budget = _requested(bench)
    selection = choose(bench)
    mask = selection.mask
    if mask.empty_layers and settings.recover != "none":
        raise BudgetError(
            f"layer {mask.empty_layers[0]} keeps no head, so the model cannot be cut and recovered; "
            "use --min-per-layer 1 or --recover none"
        )
    recovered = _recover(bench, mask)
    notices = [*bench.notices, *labelling(bench.full, bench.reading)]
    judged = outcomes(workbench, bench.evaluation, mask, recovered=recovered, seed=settings.seed)
    report = None
    if settings.report:
        texts = bench.dataset.split(settings.report)
        report = {"split": settings.report, **split_document(texts)}
        report |= outcomes(workbench, texts, mask, recovered=recovered, seed=settings.seed)
    costs = None
    if settings.latency and not mask.empty_layers:
        costs = workbench.costs(mask, length=bench.length)
    # The mask itself, not only the random ones of the self-test, must do the same as its surgery.
    verified = _verify(bench, mask)
    # Before the document, which says what was found in the store.
    arrays = _arrays(workbench, selection)
    seconds = workbench.timings
    document = {
        "schema": SCHEMA,
        "model": {
            "id": card.id,
            "revision": card.revision,
            "family": card.family,
            "layers": card.layers,
            "heads": card.heads,
            "sha256": card.sha256,
        },
        "data": {
            "id": bench.dataset.id,
            "select": {"split": settings.select_split, **split_document(bench.calibration)},
            "eval": {"split": settings.eval_split, **split_document(bench.evaluation)},
            "classes": list(bench.dataset.classes),
        },
        "settings": {**asdict(settings), "label_map": dict(settings.label_map)},
        "knee": workbench.clustering.knee or None,
        "knee_rule": workbench.clustering.knee_rule if workbench.clustering.knee else None,
        "budget": {"requested": budget, "attained": mask.count},
        "kept": {str(layer): heads for layer, heads in enumerate(mask.by_layer)},
        "rescued": [[head // card.heads, head % card.heads] for head in selection.rescued],
        "clusters": selection.k,
        **judged,
        "refit": recovered.document if isinstance(recovered, Refitted) else None,
        **cost_document(costs),
        "report": report,
        "timings": {
            **{f"{stage}_s": seconds.get(stage) for stage in _TIMED},
            "total_s": workbench.clock() - start,
        },
        "cached": list(workbench.cached),
        "verified": verified,
        "test_opened": seal.opened if report is None else seal.open(),
        "notices": notices,
        "versions": versions(),
        "command": command,
    }
    return Run(document, mask, arrays)


_TIMED = ("signatures", "features", "projection", "clustering", "salience", "evaluation", "recovery")


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
        selection = method.choose(bench.workbench, budget=budget, min_per_layer=settings.min_per_layer)
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


def _recover(bench: Bench, mask: HeadMask) -> Refitted | FineTuned | None:
    if bench.settings.recover == "refit":
        return bench.workbench.refit(mask)
    return bench.workbench.tuned(mask) if bench.settings.recover == "finetune" else None


def outcomes(
    workbench: Workbench,
    texts: Texts,
    mask: HeadMask | None,
    *,
    recovered: Refitted | FineTuned | None = None,
    seed: int = 42,
) -> dict[str, Any]:
    """``metrics`` and ``delta`` of a run: the full model, under the mask, and recovered (None: not measured)."""
    from cahp.stages.evaluation import delta, metrics

    full = workbench.evaluate(texts)
    found: dict[str, Evaluation | None] = {
        "pruned": None if mask is None else workbench.evaluate(texts, mask=mask),
        "recovered": None,
    }
    if recovered is not None:
        found["recovered"] = workbench.evaluate(texts, mask=mask, recovered=recovered)
    quality: dict[str, Metrics | None] = {"full": metrics(full)}
    quality |= {name: None if answers is None else metrics(answers, full=full) for name, answers in found.items()}
    return {
        "metrics": {name: None if value is None else value.as_json() for name, value in quality.items()},
        "delta": {
            name: None if answers is None else delta(answers, full, seed=seed).as_json()
            for name, answers in found.items()
        },
    }


def _verify(bench: Bench, mask: HeadMask) -> dict[str, Any]:
    """The self-test passed when the model was read; this adds the run's own mask (None where it cannot be cut)."""
    if mask.empty_layers:
        return {"mask_bites": True, "mask_equals_surgery": None, "difference": None}
    model = bench.workbench.model
    from cahp.models.selftest import difference

    worst = difference(model, mask, model.batches(model.tokenize(bench.evaluation.inputs[:8])))
    return {"mask_bites": True, "mask_equals_surgery": True, "difference": worst}


def split_document(texts: Texts) -> dict[str, Any]:
    """What a run file says of a sample."""
    counts = {name: int(count) for name, count in zip(texts.classes, texts.class_counts, strict=True)}
    return {"examples": len(texts), "class_counts": counts, "sha256": texts.sha256}


def cost_document(costs: Costs | None) -> dict[str, Any]:
    """``cost``, ``latency_ratio`` and ``attention_share`` of a run (None: not measured)."""
    if costs is None:
        nothing = {"parameters": None, "flops": None, "latency_ms": None}
        return {"cost": {"full": nothing, "pruned": nothing}, "latency_ratio": None, "attention_share": None}
    return {
        "cost": {
            name: {"parameters": cost.parameters, "flops": cost.flops, "latency_ms": asdict(cost.latency)}
            for name, cost in (("full", costs.full), ("pruned", costs.pruned))
        },
        "latency_ratio": {"median": costs.ratio.median, "ci95": [costs.ratio.low, costs.ratio.high]},
        "attention_share": costs.attention_share,
    }


def _arrays(workbench: Workbench, selection: Selection) -> dict[str, NDArray[Any]]:
    signatures, space, clustering = workbench.signatures, workbench.space, workbench.clustering
    # Where no clusters chose the heads, those of the suggested number, or of as many as there are heads kept.
    fallback = clustering.knee or int(np.clip(selection.mask.count, clustering.ks[0], clustering.ks[-1]))
    labels, medoids = clustering.at(fallback if selection.k is None else selection.k)
    return {
        "class_counts": signatures.counts,
        "mean": signatures.mean.astype(np.float32),
        "var": signatures.variance.astype(np.float32),
        "features": space.features,
        "embedding": space.embedding,
        "salience": workbench.salience.ravel(),
        "ks": clustering.ks,
        "mss": clustering.mss,
        "labels": labels,
        "medoids": medoids,
    }


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that numbers depend on."""
    found = {}
    for name in ("cahp-explorer", *_LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
