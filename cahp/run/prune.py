"""The one file that knows the order of the stages: from a model and data to a mask, its cost and its price."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cahp import data, methods, models, registry
from cahp import processes as parallel
from cahp.run.measurements import Costs, Loader, Repaired, Salience, Tuned, Workbench
from cahp.stages.clustering import DEGREES
from cahp.stages.selection import Representative, parse_budget
from cahp.stages.space import Projection
from cahp.store import Store, key
from cahp.values import (
    BudgetError,
    DataError,
    Evaluation,
    HeadMask,
    KneeNotFoundError,
    ModelCard,
    ModelError,
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

__all__ = ["Bench", "Run", "Settings", "methods", "open_bench", "prune"]

Recovery = Literal["none", "refit", "finetune"]
SCHEMA = "cahp.run/1"
#: Raised when a change of the code changes numbers, so that no stored run outlives it.
_REVISION = 1
_LIBRARIES = ("numpy", "scikit-learn", "kmedoids", "kneed", "torch", "transformers")


@dataclass(frozen=True)
class Settings:
    """What a run is asked; the defaults are the published method's where it has one."""

    model: str = "minilm-bbc"
    data: str | None = None
    method: str = "complementary"
    limit: int | None = 2000
    sample: Literal["stratified", "head"] = "stratified"
    select_split: str = "train"
    eval_split: str = "validation"
    eval_limit: int | None = 1000
    budget: str = "auto"
    min_per_layer: int = 1
    pool_size: int = 32
    poly_degree: int = 6
    projection: Projection = "tsne"
    salience: Salience = "batch"
    representative: Representative = "salience"
    recover: Recovery = "none"
    seed: int = 42
    device: str = "auto"
    report: str | None = None
    latency: bool = True
    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("sample", self.sample, ("stratified", "head"))
        _one_of("projection", self.projection, get_args(Projection))
        _one_of("salience", self.salience, get_args(Salience))
        _one_of("representative", self.representative, get_args(Representative))
        _one_of("recover", self.recover, get_args(Recovery))
        _one_of("device", self.device, ("auto", "cpu", "cuda", "mps"))
        if self.report not in (None, "test"):
            raise OptionError(f"--report {self.report} is unknown; the only split to report on is test")
        _within("limit", self.limit, 2, 10_000_000)
        _within("eval-limit", self.eval_limit, 1, 10_000_000)
        _within("pool-size", self.pool_size, 2, 128)
        _within("poly-degree", self.poly_degree, DEGREES.start, DEGREES.stop - 1)
        _within("seed", self.seed, 0, 2**32 - 1)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"--{name} {value} is unknown; choose one of {', '.join(choices)}")


def _within(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise OptionError(f"--{name} {value} is impossible; it must lie in {low}..{high}")


def _check_splits(settings: Settings) -> None:
    if settings.select_split == settings.eval_split:
        raise OptionError(
            f"heads would be chosen and judged on the same split ({settings.eval_split}); give --select-split and "
            "--eval-split different names"
        )
    if "test" in (settings.select_split, settings.eval_split):
        raise OptionError(
            "the test split is opened only to report (--report test); choose on train and steer on validation"
        )


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: what ``run.json`` says, the mask, and the arrays behind it."""

    document: Mapping[str, Any]
    mask: HeadMask
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Bench:
    """A model and its data, matched and sampled: the workbench on the selection texts, and texts to judge by."""

    settings: Settings
    card: ModelCard
    dataset: data.Dataset
    workbench: Workbench
    select: Texts
    judge: Texts
    notices: tuple[str, ...]
    #: The model's class for each label as the data spells it.
    reading: Mapping[str, str] = field(default_factory=dict)

    @property
    def full(self) -> Evaluation:
        """The unpruned model's answers on the texts to judge by."""
        return self.workbench.evaluate(self.judge)

    @cached_property
    def length(self) -> int:
        """The length in tokens at which latency is measured: that of long texts (95th percentile) of this data."""
        name = key("length", 1, self.card.sha256, self.judge.sha256)
        found = self.workbench.store.load(name)
        if found is not None:
            return int(found.meta["tokens"])
        model = self.workbench.model
        lengths = [len(entry["input_ids"]) for entry in model.tokenize(self.judge.inputs)]
        tokens = min(model.max_length, 8 * math.ceil(float(np.percentile(lengths, 95)) / 8))
        self.workbench.store.save(name, meta={"tokens": tokens})
        return tokens


class TestSeal:
    """Counts how often the test split of some data was opened for a model, on this machine."""

    def __init__(self, card: ModelCard, dataset: data.Dataset, store: Store) -> None:
        self._there = "test" in dataset.splits
        self._store = store
        self._name = key("test-opened", card.sha256, dataset.split("test").sha256 if self._there else "")

    @property
    def opened(self) -> int:
        """How often so far."""
        if self._store.trouble:
            return 0
        # Counted even where results are measured anew.
        found = Store(self._store.folder.parent).load(self._name)
        return int(found.meta["count"]) if found else 0

    def open(self) -> int:
        """Count one more look; how many there were."""
        count = self.opened + 1
        self._store.save(self._name, meta={"count": count})
        return count


def open_bench(
    settings: Settings,
    *,
    store: Store | None = None,
    card: ModelCard | None = None,
    dataset: data.Dataset | None = None,
    model: HeadModel | None = None,
    load: Loader = models.load,
    progress: Progress = silent,
    watch: Watch | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Bench:
    """Find the model, read and match the data, draw the samples; reads no weights.

    What is at hand already may be given: the model or its ``card``, and the ``dataset`` as it was read, its labels not
    yet matched. ``load`` reads the model when it is first needed. ``watch`` sees how fine-tuning goes.

    Raises:
        ModelError, DataError, OptionError: If model and data cannot be used together, with the next step.
    """
    _check_splits(settings)
    if card is None:
        card = models.identify(settings.model) if model is None else model.card
    check_classifier(settings, card)
    if card.kept is not None:
        raise ModelError(
            f"{card.id} was pruned before, and its heads cannot be chosen again; prune the model that it was made from"
        )
    raw = load_data(settings, card) if dataset is None else dataset
    dataset = match_labels(raw, settings, card)
    select, drawn = _sampled(dataset, "select-split", settings.limit, settings)
    judge, judged = _sampled(dataset, "eval-split", settings.eval_limit, settings)
    drawn += _scarce(dataset.split(settings.select_split), select, settings)
    workbench = Workbench(
        card,
        select,
        store=store or Store(),
        pool_size=settings.pool_size,
        projection=settings.projection,
        salience=settings.salience,
        degree=settings.poly_degree,
        seed=settings.seed,
        device=settings.device,
        model=model,
        load=load,
        progress=progress,
        watch=watch,
        clock=clock,
    )
    notices = (*card.notes, *dataset.notices, *drawn, *judged)
    return Bench(settings, card, dataset, workbench, select, judge, notices, label_reading(raw, dataset))


def read_data(settings: Settings, card: ModelCard) -> data.Dataset:
    """The data of ``settings`` with its labels in the model's order."""
    return match_labels(load_data(settings, card), settings, card)


def load_data(settings: Settings, card: ModelCard) -> data.Dataset:
    """The data of ``settings``, or what comes with the model, with its labels as they are."""
    builtin = models.BUILTINS.get(card.id)
    name = settings.data or (builtin.data if builtin else None)
    if name is None:
        raise OptionError(f"{card.id} comes without data; name some with --data")
    return data.load(
        name,
        text_column=settings.text_column,
        pair_column=settings.pair_column,
        label_column=settings.label_column,
    )


def match_labels(raw: data.Dataset, settings: Settings, card: ModelCard) -> data.Dataset:
    """Data as it was read, with its labels brought into the model's order.

    Raises:
        DataError, OptionError: If labels do not match.
    """
    return data.match(raw, card.labels, label_map=settings.label_map or None)


def check_classifier(settings: Settings, card: ModelCard) -> None:
    """Check that the model has classes, before any data is read.

    Raises:
        ModelError: If it is a plain encoder.
    """
    if not card.labels:
        raise ModelError(
            f"{card.id} has no trained classification head; train one with "
            f"`cahp fit --model {settings.model} --data DATA --out DIR`"
        )


def label_reading(raw: data.Dataset, matched: data.Dataset) -> dict[str, str]:
    """The model's class for each label as the data spells it."""
    found: dict[str, str] = {}
    for split, texts in raw.splits.items():
        labels, first = np.unique(texts.labels, return_index=True)
        goals = matched.splits[split].labels[first]
        found |= {raw.classes[ours]: matched.classes[theirs] for ours, theirs in zip(labels, goals, strict=True)}
    return found


def _sampled(
    dataset: data.Dataset, option: Literal["select-split", "eval-split"], limit: int | None, settings: Settings
) -> tuple[Texts, tuple[str, ...]]:
    split = settings.select_split if option == "select-split" else settings.eval_split
    if split not in dataset.splits:
        sizes = ", ".join(f"{name} ({len(texts):,} texts)" for name, texts in dataset.splits.items())
        raise DataError(
            f"{dataset.id} has no split {split!r}, only {sizes}; add texts to it, or name another with --{option}"
        )
    texts, notices = data.sample(dataset.split(split), limit, how=settings.sample, seed=settings.seed)
    return texts, tuple(f"{split}: {notice}" for notice in notices)


def _scarce(split: Texts, sample: Texts, settings: Settings) -> tuple[str, ...]:
    """What too few texts of a class mean for the signatures.

    Raises:
        DataError: If there is one class only, which nothing can be told apart from.
    """
    counts = sample.class_counts
    if np.count_nonzero(counts) < 2:
        name = sample.classes[int(counts.argmax())]
        if np.count_nonzero(split.class_counts) < 2:
            raise DataError(f"every text of {settings.select_split} is {name!r}; add texts of another class")
        raise DataError(f"all {len(sample)} texts of the sample are {name!r}; raise --limit or use --sample stratified")
    single = [name for name, count in zip(sample.classes, counts, strict=True) if count == 1]
    if not single:
        return ()
    return (
        f"{settings.select_split}: there is only one text of {', '.join(map(repr, single))}, which says nothing of how "
        "attention varies within that class; raise --limit or add texts.",
    )


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
    name = key("run", _REVISION, _key_settings(settings), bench.card.sha256, bench.select.sha256, bench.judge.sha256)
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
            f"layer {mask.empty_layers[0]} keeps no head, so the model cannot be cut and repaired; "
            "use --min-per-layer 1 or --recover none"
        )
    repaired = _recover(bench, mask)
    notices = [*bench.notices, *labelling(bench.full, bench.reading)]
    judged = outcomes(workbench, bench.judge, mask, repaired=repaired, seed=settings.seed)
    report = None
    if settings.report:
        texts = bench.dataset.split(settings.report)
        report = {"split": settings.report, **split_document(texts)}
        report |= outcomes(workbench, texts, mask, repaired=repaired, seed=settings.seed)
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
            "select": {"split": settings.select_split, **split_document(bench.select)},
            "eval": {"split": settings.eval_split, **split_document(bench.judge)},
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
        "refit": repaired.document if isinstance(repaired, Repaired) else None,
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


def choose(bench: Bench) -> Selection:
    """What the method of ``bench.settings`` keeps at their budget."""
    settings = bench.settings
    budget = _requested(bench)
    ours = settings.method == methods.complementary.Complementary.name
    method = registry.get(settings.method, **({"representative": settings.representative} if ours else {}))
    if budget is None and method.needs_budget:
        raise BudgetError(f"{settings.method} cannot suggest how many heads to keep; give --budget a number")
    try:
        selection = method.choose(bench.workbench, budget=budget, min_per_layer=settings.min_per_layer)
    except KneeNotFoundError:
        raise KneeNotFoundError(
            "the curve over the numbers of clusters has no bend that would suggest how many heads to keep; give "
            "--budget a number of heads or a share such as 30%"
        ) from None
    # Processes that work together must prune the same heads, whatever they make of the last digit.
    return parallel.from_first(lambda: selection)


def _requested(bench: Bench) -> int | None:
    settings, card = bench.settings, bench.card
    return parse_budget(
        settings.budget, total=card.layers * card.heads, layers=card.layers, min_per_layer=settings.min_per_layer
    )


def _recover(bench: Bench, mask: HeadMask) -> Repaired | Tuned | None:
    if bench.settings.recover == "refit":
        return bench.workbench.refit(mask)
    return bench.workbench.tuned(mask) if bench.settings.recover == "finetune" else None


def outcomes(
    workbench: Workbench,
    texts: Texts,
    mask: HeadMask | None,
    *,
    repaired: Repaired | Tuned | None = None,
    seed: int = 42,
) -> dict[str, Any]:
    """``metrics`` and ``delta`` of a run: the full model, under the mask, and repaired (None: not measured)."""
    from cahp.stages.evaluation import delta, metrics

    full = workbench.evaluate(texts)
    found: dict[str, Evaluation | None] = {
        "pruned": None if mask is None else workbench.evaluate(texts, mask=mask),
        "recovered": None,
    }
    if repaired is not None:
        found["recovered"] = workbench.evaluate(texts, mask=mask, repaired=repaired)
    quality: dict[str, Metrics | None] = {"full": metrics(full)}
    quality |= {name: None if answers is None else metrics(answers, full=full) for name, answers in found.items()}
    return {
        "metrics": {name: None if value is None else value.as_json() for name, value in quality.items()},
        "delta": {
            name: None if answers is None else delta(answers, full, seed=seed).as_json()
            for name, answers in found.items()
        },
    }


def labelling(full: Evaluation, reading: Mapping[str, str]) -> list[str]:
    """A notice if the full model's answers suggest that the labels are permuted, with the option that mends it.

    ``reading`` is the model's class for each label as the data spells it.
    """
    from cahp.stages.evaluation import better_labelling, wilson

    better = better_labelling(full)
    if better is None:
        return []
    accuracy, mapping = better
    right, total = int(full.correct.sum()), len(full)
    # A few texts answered wrongly prove nothing: the two accuracies must lie apart.
    if wilson(round(accuracy * total), total)[0] <= wilson(right, total)[1]:
        return []
    # All labels, since a map switches matching by value off.
    pairs = [f"{ours}={mapping.get(theirs, theirs)}" for ours, theirs in reading.items()]
    option = io.StringIO()
    csv.writer(option, lineterminator="").writerow(pairs)
    return [
        f"the labels may be permuted: the model is right on {right / total:.1%} of the texts as they are labelled, but "
        f"would be on {accuracy:.1%} with --label-map {shlex.quote(option.getvalue())}"
    ]


def _verify(bench: Bench, mask: HeadMask) -> dict[str, Any]:
    """The self-test passed when the model was read; this adds the run's own mask (None where it cannot be cut)."""
    if mask.empty_layers:
        return {"mask_bites": True, "mask_equals_surgery": None, "difference": None}
    model = bench.workbench.model
    from cahp.models.selftest import difference

    worst = difference(model, mask, model.batches(model.tokenize(bench.judge.inputs[:8])))
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
