"""Measure cells: select a mask, recover the model, predict the evaluation texts. Runs in any process.

Selections and predictions are stored under keys of everything they depend on, as soon as each is computed. So an
interrupted comparison resumes, even between two recoveries that took hours, and another comparison reuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from cahp import methods, models
from cahp.comparison.plan import FULL, WITHOUT, Cell, Plan, facts_of, split_minimum, without_labels
from cahp.data import Dataset
from cahp.methods.shared.registry import Evidence, Method
from cahp.models.cards import ModelCard, SelectionCost
from cahp.outcomes import same_predictions
from cahp.recoveries import RECOVERIES, refit_texts
from cahp.run.bench import Bench, open_bench
from cahp.run.evidence import HeadEvidence
from cahp.run.recoveries import cut_model
from cahp.run.resources import Loader
from cahp.run.settings import AFTERWARDS, IN_DIGESTS, MACHINE, Settings, identify_model, key_fields
from cahp.run.texts import load_data, window_protocol
from cahp.stages.clustering import CLUSTERS_REVISION
from cahp.stages.selection import layer_minimum
from cahp.store import Entry, Store, digest_code, key
from cahp.tasks.answers import Evaluation, WindowProtocol
from cahp.tasks.texts import Texts
from cahp.values import BudgetError, CahpError, Cancelled, Floats, HeadMask, Progress, digest, silent, spread

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


#: Removing each head of a language model alone may take this part of the time of all masks.
_CRITICALITY = 0.25


class Loaded(TypedDict, total=False):
    """What this process has loaded: how it reads the model, and data whose labels are not matched yet."""

    load: Loader
    dataset: Dataset | None


class Workspace:
    """What all methods of a comparison share: one model, one data set, the same evaluation texts, a bench per seed.

    ``splits`` are the texts to evaluate on: ``eval``, and ``report`` if the plan reports on the test split. They are
    the same for all seeds, so that differences are paired. If settings are tuned, every other text of the evaluation
    sample is one of ``tuning_texts`` and the rest are evaluation texts; otherwise there are no tuning texts (None).
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
        self.plan = plan
        self.store = store
        self.progress = progress
        self._load_model = load
        self.card = identify_model(plan.settings)
        if dataset is None:
            dataset = load_data(plan.settings, self.card)
        self.raw = dataset
        self._model: HeadModel | None = None
        self._benches: dict[int, Bench] = {}
        first = self._benches[plan.settings.seed] = self._open(plan.settings)
        self.dataset = first.dataset
        self.notices = first.notices
        if not self.dataset.labelled and first.evaluation.task.predicts_labels:
            self.plan, left_out = without_labels(plan)
            self.notices += left_out
        self.tuning_texts: Texts | None = None
        self.splits: dict[str, Texts] = {"eval": first.evaluation}
        if self.plan.tries_used > 1:
            self.tuning_texts, self.splits["eval"] = _halve(first.evaluation)
        if plan.settings.report:
            self.splits["report"] = first.dataset.split(plan.settings.report)
        if not len(self.splits["eval"]):
            raise CahpError(
                "tuning and evaluation need different texts, and there is only one; raise --eval-limit, or use "
                "--tries 1"
            )

    @cached_property
    def protocols(self) -> dict[str, WindowProtocol] | None:
        """How a language model is measured on each split (None: a classifier)."""
        settings = self.plan.settings
        protocols = {name: window_protocol(settings, self.card, texts) for name, texts in self.splits.items()}
        return {name: protocol for name, protocol in protocols.items() if protocol is not None} or None

    @cached_property
    def criticality_texts(self) -> Texts | None:
        """The evaluation texts on which heads are removed one by one; None: on too few to measure it.

        Items of many predictions are expensive: as many are taken, evenly spread, as a part of the time allows.
        """
        texts = self.splits["eval"]
        if not texts.task.predicts_often:
            return texts
        rows = np.array(texts.text_rows)
        affordable = int(_CRITICALITY * self._mask_passes / self.removal_passes)
        if not affordable:
            return None
        return texts.take(rows[spread(len(rows), affordable)])

    @property
    def removal_passes(self) -> float:
        """Forward passes of a text to remove each head alone: the layers below a head are computed once for all."""
        return self.card.heads * (self.card.layers + 1) / 2

    @property
    def _mask_passes(self) -> float:
        """Forward passes to evaluate and recover all masks of the plan, if nothing is stored."""
        evaluated = sum(texts.task.count_passes(texts) for texts in self.splits.values())
        recovered = len(self.bench(self.plan.seeds[0]).calibration)
        return sum(
            RECOVERIES[name].passes(recovered, can_refit=not self.card.no_refit) + evaluated
            for cell in self.plan.cells(layers=self.card.layers, heads=self.card.heads)
            for name in cell.recoveries
        )

    @property
    def criticality_notice(self) -> str | None:
        """On how many windows the criticality of heads is measured, where these are not all."""
        texts = self.criticality_texts
        count = self.splits["eval"].count
        if texts is None:
            return "the criticality of heads was not measured: it would take too long beside so few masks."
        if len(texts) >= count:
            return None
        return (
            f"the criticality of heads was measured on {len(texts)} of {count} windows: on all it would take longer "
            "than a quarter of the time of all masks."
        )

    @cached_property
    def content(self) -> str:
        """Digest of the model and of all texts: the same names may mean others on another machine."""
        sampled = [self.bench(seed).calibration for seed in self.plan.seeds]
        texts = [*self.splits.values(), *sampled]
        if self.tuning_texts is not None:
            texts.insert(0, self.tuning_texts)
        return digest(self.card.sha256, *(one.sha256 for one in texts))

    def bench(self, seed: int) -> Bench:
        """The bench whose calibration texts ``seed`` draws."""
        if seed not in self._benches:
            self._benches[seed] = self._open(replace(self.plan.settings, seed=seed))
        return self._benches[seed]

    def splits_of(self, cell: Cell) -> dict[str, Texts]:
        """The texts to evaluate a cell on: the criticality of heads is measured on evaluation texts alone."""
        if cell.method != WITHOUT:
            return self.splits
        if self.criticality_texts is None:
            return {}
        return {"eval": self.criticality_texts}

    def _open(self, settings: Settings) -> Bench:
        bench = open_bench(
            settings,
            store=self.store,
            card=self.card,
            dataset=self.raw,
            load=self._load,
            progress=lambda stage, done, total: self.progress(stage, done, total),
        )
        if not bench.evaluation.task.compares_while_reading or not self._benches:
            return bench
        # What is known of the full model at each token takes time and memory, so that all seeds share it.
        return replace(bench, measurements=next(iter(self._benches.values())).measurements)

    def _load(self, name: ModelCard, /, *, device: str) -> HeadModel:
        if self._model is None:
            self._model = self._load_model(name, device=device)
        return self._model


def _halve(texts: Texts) -> tuple[Texts, Texts]:
    """Split texts in two; see ``Task.halve``."""
    first, second = texts.task.halve(texts)
    return texts.take(first), texts.take(second)


#: Bump to invalidate cached results.
_REVISION = 5
#: Settings that do not affect the selection of heads: the cell has its own, or they apply after it.
_NOT_SELECTING = (
    *(*IN_DIGESTS, *AFTERWARDS, *MACHINE),
    *("method", "budget", "goal", "select_time", "seed", "representative"),
)
#: Settings that do not affect the predictions of a given mask: they select it, or measure something else.
_NOT_PREDICTING = (
    *(*IN_DIGESTS, "method", "budget", "goal", "seed", "min_per_layer", "min_first_layers", "even"),
    *("pool_size", "poly_degree", "projection", "salience", "representative"),
    *("recover", "report", "device", "precision"),
    *("latency", "latency_time"),
)


# Results and their place in the store ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MaskChoice:
    """The mask of a cell, the setting of its method, its cost, and the seconds of the selection."""

    mask: HeadMask
    setting: Mapping[str, Any]
    price: SelectionCost | None
    seconds: float

    def to_entry(self) -> Entry:
        """Convert it for the store."""
        price = self.price and {"forwards": float(self.price.forwards), "labels": int(self.price.labels)}
        meta = {"setting": dict(self.setting), "price": price, "seconds": self.seconds}
        return Entry({"keep": self.mask.keep.astype(np.uint8)}, meta)

    @classmethod
    def from_entry(cls, entry: Entry) -> MaskChoice:
        """Read it from the store."""
        price = entry.meta["price"]
        mask = HeadMask(entry.arrays["keep"].astype(np.bool_))
        return cls(mask, entry.meta["setting"], price and SelectionCost(**price), entry.meta["seconds"])


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a recovered model on a split, with the seconds of its recovery and of the evaluation.

    ``accepted`` tells whether the recovery was kept (None: it is never rejected).
    """

    evaluation: Evaluation
    recovery: float
    seconds: float
    accepted: bool | None

    def to_entry(self) -> Entry:
        """Convert them for the store, without the texts."""
        meta = {"recovery": self.recovery, "seconds": self.seconds, "accepted": self.accepted}
        return Entry({"scores": self.evaluation.scores}, meta)

    @classmethod
    def from_entry(cls, entry: Entry, texts: Texts) -> Predictions:
        """Read the predictions on ``texts`` from the store."""
        evaluation = texts.evaluation_of(entry.arrays["scores"])
        return cls(evaluation, entry.meta["recovery"], entry.meta["seconds"], entry.meta["accepted"])


@dataclass(frozen=True, eq=False)
class MeasuredCell:
    """A cell's mask (None if its selection failed), its predictions by recovery and split, and its error."""

    cell: Cell
    choice: MaskChoice | None = None
    predictions: Mapping[tuple[str, str], Predictions] = field(default_factory=dict)
    error: str | None = None

    def lacks(self, splits: Iterable[str]) -> dict[str, list[str]]:
        """The splits without predictions, by recovery."""
        lacking: dict[str, list[str]] = {}
        for recovery, split in product(self.cell.recoveries, splits):
            if (recovery, split) not in self.predictions:
                lacking.setdefault(recovery, []).append(split)
        return lacking


def read_cell(workspace: Workspace, cell: Cell) -> MeasuredCell:
    """Read what the store has of a cell. Measures nothing and reads no weights."""
    choice = read_choice(workspace, cell)
    if choice is None:
        return MeasuredCell(cell)
    stored = {
        (recovery, split): predictions
        for recovery in cell.recoveries
        for split, predictions in _read_predictions(workspace, cell, choice.mask, recovery).items()
    }
    return MeasuredCell(cell, choice, stored)


def read_choice(workspace: Workspace, cell: Cell) -> MaskChoice | None:
    """The mask of a cell, unless it is not selected yet."""
    if cell.method in (FULL, WITHOUT):
        keep = np.ones((workspace.card.layers, workspace.card.heads), dtype=np.bool_)
        if cell.method == WITHOUT:
            keep.flat[cell.draw] = False
        return MaskChoice(HeadMask(keep), {}, None, 0.0)
    return workspace.store.read(_choice_key(workspace, cell), MaskChoice.from_entry)


def _read_predictions(workspace: Workspace, cell: Cell, mask: HeadMask, recovery: str) -> dict[str, Predictions]:
    """The stored predictions by split; they may be those of another cell with the same mask."""
    stored = {}
    for split, texts in workspace.splits_of(cell).items():
        name = _predictions_key(workspace, cell, mask, recovery, texts)
        predictions = workspace.store.read(name, partial(Predictions.from_entry, texts=texts))
        if predictions is not None:
            stored[split] = predictions
    return stored


def _choice_key(workspace: Workspace, cell: Cell) -> str:
    settings = workspace.plan.settings
    tries = [dict(setting) for setting in workspace.plan.settings_to_try(cell.method)]
    tuning: str | None = None
    if workspace.tuning_texts is not None and len(tries) > 1:
        tuning = workspace.tuning_texts.sha256
    return key(
        "compare-choice",
        *(_REVISION, CLUSTERS_REVISION),
        *(workspace.card.sha256, workspace.bench(cell.seed).calibration.sha256),
        *(cell.method, _digest_choosing(_make_method(cell)), tries, tuning),
        *(cell.budget, cell.seed, cell.noise, key_fields(settings, without=_NOT_SELECTING)),
    )


def _predictions_key(workspace: Workspace, cell: Cell, mask: HeadMask, recovery: str, texts: Texts) -> str:
    """The key of a mask's predictions after a recovery, whichever cell selected the mask."""
    # A recovery depends on the calibration texts, and on the seed that draws its held-out texts.
    bench = workspace.bench(cell.seed)
    row = RECOVERIES[recovery]
    recovered: tuple[str, str, int] | None = None
    solved: int | None = None
    if row.solves or row.trains:
        recovered = (bench.calibration.sha256, bench.recoveries.inputs_sha256, cell.seed)
    if row.solves:
        solved = refit_texts(len(bench.calibration))
    parts = (workspace.card.sha256, mask.sha256, recovery, recovered, texts.sha256)
    settings = key_fields(workspace.plan.settings, without=_NOT_PREDICTING)
    return key("compare-answers", _REVISION, *parts, settings, solved)


def _make_method(cell: Cell, **setting: Any) -> Method:
    return methods.get(split_minimum(cell.method)[0], **setting)


def _digest_choosing(method: Method) -> str:
    """Digest the code of a method and of the evidence from which it chooses."""
    return digest_code([type(method).__module__, HeadEvidence.__module__])


# Measuring ---------------------------------------------------------------------------------------------------


def measure_cell(workspace: Workspace, cell: Cell, save: Callable[[str, Entry], object]) -> MeasuredCell:
    """Read what the store has of a cell and measure the rest; ``save`` gets each new result with its key at once.

    An error of a method or a recovery ends the cell, not the comparison.
    """
    choice: MaskChoice | None = None
    predictions: dict[tuple[str, str], Predictions] = {}
    try:
        choice = read_choice(workspace, cell)
        if choice is None:
            choice = _select_mask(workspace, cell)
            save(_choice_key(workspace, cell), choice.to_entry())
        for recovery in cell.recoveries:
            stored = _read_predictions(workspace, cell, choice.mask, recovery)
            predictions |= {(recovery, split): known for split, known in stored.items()}
            missing = {split: texts for split, texts in workspace.splits_of(cell).items() if split not in stored}
            if not missing:
                continue
            # Load the model before the clock starts, and what is known of it at each token.
            _ = workspace.bench(cell.seed).model
            for texts in missing.values():
                workspace.bench(cell.seed).measurements.prepare(texts)
            start = perf_counter()
            predict, accepted = _recover(workspace, cell, choice.mask, recovery)
            recovery_seconds = perf_counter() - start
            if recovery == "none":
                recovery_seconds = 0.0
            for split, texts in missing.items():
                start = perf_counter()
                evaluation = predict(texts)
                on_split = Predictions(evaluation, recovery_seconds, perf_counter() - start, accepted)
                save(_predictions_key(workspace, cell, choice.mask, recovery, texts), on_split.to_entry())
                predictions[recovery, split] = on_split
    except (Cancelled, MemoryError):
        raise
    except Exception as error:
        message = " ".join(str(error).split()) or "no reason given"
        return MeasuredCell(cell, choice, predictions, f"{type(error).__name__}: {message}")
    return MeasuredCell(cell, choice, predictions)


def _select_mask(workspace: Workspace, cell: Cell) -> MaskChoice:
    bench = workspace.bench(cell.seed)
    tuning_texts = workspace.tuning_texts
    evidence = cast(Evidence, bench.evidence)
    if cell.noise != cell.seed:
        evidence = cast(Evidence, _Redrawn(evidence, cell.noise))
    start = perf_counter()
    settings = workspace.plan.settings_to_try(cell.method)
    plan = workspace.plan.settings
    layers = workspace.card.layers
    minimum = split_minimum(cell.method)[1]
    if minimum is None:
        minimum = plan.min_per_layer
    floor = replace(plan, min_per_layer=minimum).floor(layers)
    masks = []
    correct = []
    for setting in settings:
        method = _make_method(cell, **setting)
        least = layer_minimum(cell.budget, layers, min_per_layer=floor, even=plan.even)
        mask = method.choose(evidence, budget=cell.budget, min_per_layer=least).mask
        if mask.count != cell.budget:
            raise BudgetError(
                f"{cell.method} kept {mask.count} heads instead of {cell.budget}; leave it out, or correct the method"
            )
        masks.append(mask)
        if tuning_texts is not None and len(settings) > 1:
            evaluation = bench.measurements.evaluate(tuning_texts, mask=mask)
            if evaluation.labelled:
                right = evaluation.correct
            else:
                right = same_predictions(evaluation, bench.measurements.evaluate(tuning_texts))
            correct.append(int(right.sum()))
    best = 0
    if correct:
        # The first of equals, which is the default.
        best = int(np.argmax(correct))
    seconds = perf_counter() - start
    return MaskChoice(masks[best], dict(settings[best]), selection_cost(workspace, cell, evidence), seconds)


def selection_cost(workspace: Workspace, cell: Cell, evidence: Evidence) -> SelectionCost | None:
    """The cost of selecting a cell's mask, with all settings to try and their tuning; None if the method has none."""
    settings = workspace.plan.settings_to_try(cell.method)
    prices = []
    for setting in settings:
        price: Callable[..., SelectionCost] | None = getattr(_make_method(cell, **setting), "estimate_cost", None)
        if price is None:
            return None
        prices.append(price(evidence, budget=cell.budget))
    # Gates are trained for each setting; other methods reuse the same evidence.
    passes = [float(price.forwards) for price in prices]
    forwards = sum(passes) if facts_of(cell.method).learned else max(passes)
    labels = max(int(price.labels) for price in prices)
    if workspace.tuning_texts is not None and len(settings) > 1:
        tuning = len(workspace.tuning_texts)
        forwards += len(settings) * tuning
        labels += tuning
    if not workspace.dataset.labelled:
        labels = 0
    return SelectionCost(forwards, labels)


class _Redrawn:
    """The same evidence with another seed for the method's own randomness."""

    def __init__(self, evidence: Evidence, seed: int) -> None:
        self._evidence = evidence
        self.seed = seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evidence, name)

    def cached(self, name: str, make: Callable[[], Floats]) -> NDArray[Any]:
        return self._evidence.cached(f"{name}, drawn with {self.seed}", make)


def _recover(
    workspace: Workspace, cell: Cell, mask: HeadMask, recovery: str
) -> tuple[Callable[[Texts], Evaluation], bool | None]:
    """Prune and recover on the calibration texts of the cell's seed.

    Returns the model's prediction function, and whether the recovery was kept (None: it is never rejected).
    """
    bench = workspace.bench(cell.seed)
    if recovery == "none" and mask.is_full:
        # Measured even if the predictions are known: its time serves to estimate the comparison's.
        return lambda texts: bench.measurements.evaluate_model(bench.model, texts), None
    if recovery == "none":
        return lambda texts: bench.measurements.evaluate(texts, mask=mask), None
    # Weights are not stored: those of hundreds of masks would displace everything else.
    recovered = bench.recoveries.recover(mask, recovery, keep=False)
    model = cut_model(bench.model, mask, recovered)
    accepted = None
    if recovered is not None and not RECOVERIES[recovery].baseline:
        accepted = recovered.accepted
    return lambda texts: bench.measurements.evaluate_model(model, texts), accepted
