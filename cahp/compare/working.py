"""One cell, measured: choose a mask, recover the model, answer the texts that judge. Runs here or in a worker.

Whatever a cell consists of is kept under a key of its content, and handed back too, since a worker elsewhere has a
store of its own.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cahp import models, registry
from cahp.compare.engines import stopped
from cahp.compare.plan import FULL, Cell, Plan, tries
from cahp.data import Dataset
from cahp.registry import Evidence, Method
from cahp.run.bench import Bench, load_data, open_bench
from cahp.run.measurements import Loader
from cahp.run.settings import Recovery, Settings
from cahp.store import Entry, Store, key
from cahp.values import (
    BudgetError,
    CahpError,
    Cancelled,
    DataError,
    Evaluation,
    Floats,
    HeadMask,
    ModelCard,
    Price,
    Progress,
    Texts,
    digest,
    silent,
)

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.stages.recovery import Walk

#: Raised when a change of the code changes numbers, so that nothing that is kept outlives it.
_REVISION = 1
#: What a process keeps of the full model's way through calibration texts, so that refits need not go it again.
_WALKS = 1 << 30
#: With fewer texts a refit holds none out to be judged by.
_FEWEST = 5


class ComparisonBench:
    """A model and its data as a comparison needs them: opened once a process, with a bench for every seed.

    The texts that judge are the same for all seeds, so that differences are paired. If validation also chooses
    settings, every other text of its sample does that, and the rest judge.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        store: Store,
        progress: Progress = silent,
        load: Loader = models.load,
        dataset: Dataset | None = None,
    ) -> None:
        self.plan, self.store, self._progress, self._load_model = plan, store, progress, load
        self.card = models.identify(plan.settings.model)
        self.raw = load_data(plan.settings, self.card) if dataset is None else dataset
        self._model: HeadModel | None = None
        self._walks: dict[str, Walk] = {}
        first = self._open(plan.settings)
        self._benches = {plan.settings.seed: first}
        self.dataset, self.notices = first.dataset, first.notices
        rows = np.arange(len(first.evaluation))
        choosing = plan.tries_used > 1
        self.tuning_texts = first.evaluation.take(rows[0::2]) if choosing else None
        self.splits: dict[str, Texts] = {"eval": first.evaluation.take(rows[1::2]) if choosing else first.evaluation}
        if plan.settings.report:
            self.splits["report"] = first.dataset.split(plan.settings.report)
        if not len(self.splits["eval"]):
            raise CahpError("one text cannot both choose settings and judge; raise --eval-limit, or use --tries 1")

    def bench(self, seed: int) -> Bench:
        """The bench whose selection texts ``seed`` draws."""
        if seed not in self._benches:
            self._benches[seed] = self._open(replace(self.plan.settings, seed=seed))
        return self._benches[seed]

    def walk(self, texts: Texts) -> Walk | None:
        """The full model's walk through what a refit on ``texts`` calibrates on, if there is room to keep it."""
        from cahp.stages import recovery

        if texts.sha256 not in self._walks:
            room = _WALKS - sum(walk.nbytes for walk in self._walks.values())
            model = self.bench(self.plan.seeds[0]).workbench.model
            made = recovery.Walk(model, recovery.calibration_inputs(texts), room=room)
            if not made.kept:
                return None
            self._walks[texts.sha256] = made
        return self._walks[texts.sha256]

    def prepare(self, progress: Progress) -> None:
        """Report what follows to ``progress``."""
        self._progress = progress

    def _open(self, settings: Settings) -> Bench:
        return open_bench(
            settings,
            store=self.store,
            card=self.card,
            dataset=self.raw,
            load=self._load,
            progress=lambda stage, done, total: self._progress(stage, done, total),
        )

    def _load(self, name: ModelCard, /, *, device: str) -> HeadModel:
        if self._model is None:
            self._model = self._load_model(name, device=device)
        return self._model


@dataclass(frozen=True, eq=False)
class Choice:
    """The mask of a cell, the setting that was chosen, what it cost and the seconds it took."""

    mask: HeadMask
    setting: Mapping[str, Any]
    price: Price | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Answers:
    """What a recovered model answered on a split, and the seconds that its recovery and its answers took."""

    evaluation: Evaluation
    recovery: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Measured:
    """A cell's choice (None if it failed), its answers by recovery and split, and the error that ended it."""

    cell: Cell
    choice: Choice | None = None
    answers: Mapping[tuple[Recovery, str], Answers] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Task:
    """What a worker is sent: the plan, a cell, and where results are kept (None: in the worker's own store)."""

    plan: Plan
    cell: Cell
    folder: Path | None


Entries = dict[str, Entry]
_tables: dict[str, ComparisonBench] = {}
_lock = threading.Lock()


def work(task: Task) -> tuple[Measured, Entries]:
    """Measure a cell in a worker process, which keeps the model and its evidence for the next one."""
    name = repr((task.plan, task.folder))
    # A cluster's worker may run several threads, which would only wait for each other's products.
    with _lock:
        if name not in _tables:
            _tables.clear()
            _tables[name] = ComparisonBench(task.plan, store=Store(task.folder), progress=stopped)
        return measure(_tables[name], task.cell)


def measure(table: ComparisonBench, cell: Cell) -> tuple[Measured, Entries]:
    """What is known of a cell and, where nothing is, what is measured now, ready to be kept.

    A method or a recovery that fails costs the cell, not the comparison.
    """
    fresh: Entries = {}
    choice: Choice | None = None
    answers: dict[tuple[Recovery, str], Answers] = {}
    try:
        choice = _chosen(table, cell, fresh)
        for recovery in recoveries(table.plan, cell):
            answers |= _answered(table, cell, choice.mask, recovery, fresh)
    except (Cancelled, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or "no reason given"
        return Measured(cell, choice, answers, f"{type(error).__name__}: {said}"), fresh
    return Measured(cell, choice, answers), fresh


def known(table: ComparisonBench, cell: Cell) -> Measured | None:
    """A cell of which everything is in the store; nothing is measured and no weights are read."""
    choice = _kept_choice(table, cell)
    if choice is None:
        return None
    answers: dict[tuple[Recovery, str], Answers] = {}
    for recovery in recoveries(table.plan, cell):
        for split, (_, entry) in _kept_answers(table, cell, choice.mask, recovery).items():
            if entry is None:
                return None
            answers[recovery, split] = _as_answers(entry, table.splits[split])
    return Measured(cell, choice, answers)


def to_do(table: ComparisonBench, cell: Cell) -> tuple[bool, list[tuple[Recovery, list[str]]]]:
    """What of a cell is not in the store: whether its mask is to be chosen, and the splits to answer, by recovery."""
    choice = _kept_choice(table, cell)
    asked = recoveries(table.plan, cell)
    if choice is None:
        return True, [(recovery, list(table.splits)) for recovery in asked]
    kept = {recovery: _kept_answers(table, cell, choice.mask, recovery) for recovery in asked}
    missing = {recovery: [split for split, (_, entry) in of.items() if entry is None] for recovery, of in kept.items()}
    return False, [(recovery, splits) for recovery, splits in missing.items() if splits]


def recoveries(plan: Plan, cell: Cell) -> Iterator[Recovery]:
    """What a cell is measured after."""
    for recovery in plan.recoveries:
        measured = cell.recovered and (cell.finetuned or recovery != "finetune")
        # A refit of the unpruned model returns its own weights.
        if recovery == "none" or (measured and (cell.method, recovery) != (FULL, "refit")):
            yield recovery


# --- the mask


def _chosen(table: ComparisonBench, cell: Cell, fresh: Entries) -> Choice:
    if cell.method == FULL:
        return _as_choice(table, None)
    name = _choice_key(table, cell)
    found = table.store.load(name)
    if found is None:
        found = fresh[name] = _choose(table, cell)
    return _as_choice(table, found)


def _as_choice(table: ComparisonBench, entry: Entry | None) -> Choice:
    if entry is None:
        return Choice(HeadMask.full(table.card.layers, table.card.heads), {}, None, 0.0)
    price = entry.meta["price"]
    mask = HeadMask(entry.arrays["keep"].astype(np.bool_))
    return Choice(mask, entry.meta["setting"], price and Price(**price), entry.meta["seconds"])


def _kept_choice(table: ComparisonBench, cell: Cell) -> Choice | None:
    """The mask of a cell, if it is in the store; that of the full model needs no choice."""
    found = table.store.load(_choice_key(table, cell)) if cell.method != FULL else None
    return None if found is None and cell.method != FULL else _as_choice(table, found)


def _choice_key(table: ComparisonBench, cell: Cell) -> str:
    settings, tried = table.plan.settings, [dict(setting) for setting in _settings(table.plan, cell)]
    return key(
        "compare-choice",
        _REVISION,
        *(
            table.card.sha256,
            table.bench(cell.seed).calibration.sha256,
            cell.method,
            _source(registry.get(cell.method)),
        ),
        *(tried, table.tuning_texts.sha256 if table.tuning_texts is not None and len(tried) > 1 else None),
        *(cell.budget, cell.seed, cell.noise, settings.min_per_layer),
        *(settings.pool_size, settings.poly_degree, settings.projection, settings.salience),
    )


def _settings(plan: Plan, cell: Cell) -> list[Mapping[str, Any]]:
    return list(tries(cell.method)[: plan.tries_used])


def _source(method: Method) -> str:
    """Digest of the code of a method's file: one that was changed is asked again."""
    try:
        return digest(inspect.getsource(inspect.getmodule(type(method)) or type(method)))
    except (OSError, TypeError):
        return ""


def _choose(table: ComparisonBench, cell: Cell) -> Entry:
    bench = table.bench(cell.seed)
    workbench = bench.workbench
    redrawn = cell.noise != cell.seed
    evidence = cast(Evidence, _Redrawn(workbench, cell.noise) if redrawn else workbench)
    floor = table.plan.settings.min_per_layer
    best: tuple[int, HeadMask, Mapping[str, Any], Method] | None = None
    start = perf_counter()
    settings = _settings(table.plan, cell)
    for setting in settings:
        method = registry.get(cell.method, **setting)
        mask = method.choose(evidence, budget=cell.budget, min_per_layer=floor).mask
        if mask.count != cell.budget:
            raise BudgetError(f"{cell.method} kept {mask.count} heads and not the {cell.budget} asked for")
        right = 0
        if table.tuning_texts is not None and len(settings) > 1:
            right = int(workbench.evaluate(table.tuning_texts, mask=mask).correct.sum())
        # Of equals the first, which is the default.
        if best is None or right > best[0]:
            best = right, mask, setting, method
    assert best is not None
    seconds = perf_counter() - start
    _, mask, setting, method = best
    price = priced(method, evidence, cell.budget)
    meta = {
        "setting": dict(setting),
        "price": price and {"forwards": float(price.forwards) * len(settings), "labels": int(price.labels)},
        "seconds": seconds,
    }
    return Entry({"keep": mask.keep.astype(np.uint8)}, meta)


def priced(method: Method, evidence: Evidence, budget: int) -> Price | None:
    """What a choice costs, if the method says so."""
    price: Callable[..., Price] | None = getattr(method, "price", None)
    return None if price is None else price(evidence, budget=budget)


class _Redrawn:
    """The same evidence with another seed for the method's own randomness, for one more draw."""

    def __init__(self, evidence: Evidence, seed: int) -> None:
        self._evidence, self.seed = evidence, seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evidence, name)

    def remembered(self, name: str, make: Callable[[], Floats]) -> NDArray[np.float64]:
        return self._evidence.remembered(f"{name}, drawn with {self.seed}", make)


# --- the answers


def _answers_key(table: ComparisonBench, cell: Cell, mask: HeadMask, recovery: Recovery, texts: Texts) -> str:
    # What a refit gives depends on the selection texts, and fine-tuning on a seed besides; masks have none.
    recovered = None if recovery == "none" else table.bench(cell.seed).calibration.sha256
    seed = cell.seed if recovery == "finetune" else None
    return key("compare-answers", _REVISION, table.card.sha256, mask.sha256, recovery, recovered, seed, texts.sha256)


def _kept_answers(
    table: ComparisonBench, cell: Cell, mask: HeadMask, recovery: Recovery
) -> dict[str, tuple[str, Entry | None]]:
    """By split, the key of what is answered after a recovery, and the entry, if it is in the store."""
    names = {split: _answers_key(table, cell, mask, recovery, texts) for split, texts in table.splits.items()}
    return {split: (name, table.store.load(name)) for split, name in names.items()}


def _as_answers(entry: Entry, texts: Texts) -> Answers:
    arrays, meta = entry.arrays, entry.meta
    evaluation = Evaluation(arrays["predictions"].astype(np.int64), texts.labels, arrays["losses"], texts.classes)
    return Answers(evaluation, meta["recovery"], meta["seconds"])


def _answered(
    table: ComparisonBench, cell: Cell, mask: HeadMask, recovery: Recovery, fresh: Entries
) -> dict[tuple[Recovery, str], Answers]:
    kept = _kept_answers(table, cell, mask, recovery)
    found = {split: entry for split, (_, entry) in kept.items()}
    missing = [split for split, entry in found.items() if entry is None]
    if missing:
        # Read before the clock runs: whoever comes first would pay for it.
        _ = table.bench(cell.seed).workbench.model
        start = perf_counter()
        answering = _answering(table, cell, mask, recovery)
        took = 0.0 if recovery == "none" else perf_counter() - start
        for split in missing:
            found[split] = fresh[kept[split][0]] = _answer(answering, table.splits[split], took)
    return {(recovery, split): _as_answers(cast(Entry, entry), table.splits[split]) for split, entry in found.items()}


def _answering(table: ComparisonBench, cell: Cell, mask: HeadMask, recovery: Recovery) -> Callable[[Texts], Evaluation]:
    """The model that answers: pruned, and recovered on the selection texts of the cell's seed."""
    bench = table.bench(cell.seed)
    workbench = bench.workbench
    if recovery == "none":
        return lambda texts: workbench.evaluate(texts, mask=None if mask.keep.all() else mask)
    # Weights are not kept: those of hundreds of masks would push everything else out of the store.
    if recovery == "refit":
        from cahp.stages.recovery import refit

        if len(bench.calibration) < _FEWEST:
            raise DataError(
                f"every fifth text judges a refit, and there are only {len(bench.calibration)}; raise --limit"
            )
        walk = table.walk(bench.calibration)
        model = refit(workbench.model, mask, bench.calibration, walk=walk, progress=workbench.progress).model
    else:
        model = workbench.pruned(mask, workbench.tuned(mask, keep=False))
    return lambda texts: workbench.answers(model, texts)


def _answer(answering: Callable[[Texts], Evaluation], texts: Texts, recovery: float) -> Entry:
    start = perf_counter()
    made = answering(texts)
    arrays: dict[str, NDArray[Any]] = {"predictions": made.predictions.astype(np.int32), "losses": made.losses}
    return Entry(arrays, {"recovery": recovery, "seconds": perf_counter() - start})


def keep(store: Store, entries: Mapping[str, Entry]) -> None:
    """Keep what was measured."""
    for name, entry in entries.items():
        store.save(name, arrays=entry.arrays, meta=entry.meta)


def seeds_alike(table: ComparisonBench, seeds: Iterable[int]) -> bool:
    """Whether all seeds draw the same selection texts, because there are no more of them than the limit."""
    return len({table.bench(seed).calibration.sha256 for seed in seeds}) == 1
