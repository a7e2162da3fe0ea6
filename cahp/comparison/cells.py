"""Measure cells: select a mask, recover the model, predict the evaluation texts. Runs in any process.

Selections and predictions are stored under keys of everything they depend on, as soon as each is computed. So an
interrupted comparison resumes, even between two recoveries that took hours, and another comparison reuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cahp import methods, models
from cahp.comparison.plan import FULL, Cell, Plan, facts_of, split_minimum, without_labels
from cahp.data import Dataset
from cahp.methods.shared.registry import Evidence, Method
from cahp.models.cards import ModelCard, SelectionCost
from cahp.outcomes import same_predictions
from cahp.recoveries import NONE, RECOVERIES, refit_texts
from cahp.run.bench import Bench, open_bench
from cahp.run.evidence import HeadEvidence
from cahp.run.recoveries import cut_model
from cahp.run.resources import Loader
from cahp.run.settings import AFTERWARDS, IN_DIGESTS, MACHINE, Settings, identify_model, key_fields
from cahp.run.texts import load_data, window_protocol
from cahp.stages.clustering import CLUSTERS_REVISION
from cahp.stages.evaluation import SharedLayers
from cahp.store import Entry, Store, digest_code, key
from cahp.tasks.answers import WindowProtocol
from cahp.tasks.texts import Texts
from cahp.values import Array, BudgetError, CahpError, Cancelled, Floats, HeadMask, Progress, digest, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: Bump to invalidate cached results.
_REVISION = 7
#: Settings that affect neither the selection of a cell's heads nor its predictions: the cell has its own, or they apply
#: after it.
_WITHOUT_EFFECT = (
    *(*IN_DIGESTS, *AFTERWARDS, *MACHINE),
    *("method", "budget", "goal", "select_time", "seed", "representative"),
)


def count_critical(card: ModelCard) -> float:
    """Count the forward passes of a text that the criticality of all heads takes."""
    # Models without one head have their lower layers in common.
    return card.heads * (card.layers + 1) / 2


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
        first = self.bench(plan.settings.seed)
        self.dataset = first.dataset
        self.notices = first.notices
        if first.evaluation.task.predicts_labels and not first.evaluation.labelled:
            self.plan, left_out = without_labels(plan)
            self.notices += left_out
        self.tuning_texts: Texts | None = None
        self.splits: dict[str, Texts] = {"eval": first.evaluation}
        if self.plan.tries_used > 1:
            tuning, rest = first.evaluation.task.halve(first.evaluation)
            self.tuning_texts = first.evaluation.take(tuning)
            self.splits["eval"] = first.evaluation.take(rest)
            if not len(rest):
                raise CahpError(
                    "tuning and evaluation need different texts, and there is only one; raise --eval-limit, or use "
                    "--tries 1"
                )
        if plan.settings.report:
            self.splits["report"] = first.dataset.split(plan.settings.report)
        self.critical_texts = self.splits["eval"].sample(first.evaluation.task.critical)

    @property
    def protocols(self) -> dict[str, WindowProtocol] | None:
        """How a language model is measured on each split (None: a classifier)."""
        settings = self.plan.settings
        protocols = {name: window_protocol(settings, self.card, texts) for name, texts in self.splits.items()}
        return {name: protocol for name, protocol in protocols.items() if protocol is not None} or None

    @property
    def content(self) -> str:
        """Digest of the model and of all texts: the same names may mean others on another machine."""
        sampled = [self.bench(seed).calibration for seed in self.plan.seeds]
        return digest(self.card.sha256, *(texts.sha256 for texts in (*self.splits.values(), *sampled)))

    def bench(self, seed: int) -> Bench:
        """The bench whose calibration texts ``seed`` draws."""
        if seed not in self._benches:
            self._benches[seed] = self._open(replace(self.plan.settings, seed=seed))
        return self._benches[seed]

    def _open(self, settings: Settings) -> Bench:
        bench = open_bench(
            settings,
            store=self.store,
            card=self.card,
            dataset=self.raw,
            load=self._load,
            progress=lambda stage, done, total: self.progress(stage, done, total),
        )
        # What is known of the full model may take time and memory, so that all seeds share it.
        for other in self._benches.values():
            return replace(bench, measurements=other.measurements)
        return bench

    def _load(self, name: ModelCard, /, *, device: str) -> HeadModel:
        if self._model is None:
            self._model = self._load_model(name, device=device)
        return self._model

    # Criticality ---------------------------------------------------------------------------------------------

    @property
    def _critical_key(self) -> str:
        return key("compare-criticality", 1, self.card.sha256, self.critical_texts.sha256)

    def read_criticality(self) -> Floats | None:
        """The stored criticality ``(L, H)`` of heads (None: not measured)."""
        return self.store.read(self._critical_key, lambda entry: entry.arrays["kl"])

    def measure_criticality(self) -> Floats:
        """Measure the KL divergence from the full model without each head alone, ``(L, H)``."""
        measurements = self.bench(self.plan.seeds[0]).measurements
        texts = self.critical_texts
        shape = (self.card.layers, self.card.heads)
        masks = [HeadMask.without([head], *shape) for head in range(np.prod(shape))]
        # Models without one head have all lower layers in common.
        shared = SharedLayers(masks)
        full = measurements.evaluate(texts)
        without = [measurements.evaluate(texts, mask=mask, shared=shared) for mask in masks]
        criticality = np.reshape([one.divergences(full).mean() for one in without], shape)
        self.store.save(self._critical_key, arrays={"kl": criticality})
        return criticality


# Results and their place in the store ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MeasuredCell:
    """What is known of a cell: its mask (None: not selected), its predictions by recovery, and its error.

    The entry of the ``choice`` has the array ``keep (L, H)``, the ``setting`` of the method, its ``price`` and the
    ``seconds`` of the selection; that of predictions the scores by split, the seconds of the ``recovery`` and of the
    evaluation, and whether the recovery was ``accepted`` (None: it is never rejected).
    """

    cell: Cell
    choice: Entry | None = None
    predictions: Mapping[str, Entry] = field(default_factory=dict)
    error: str | None = None

    @property
    def mask(self) -> HeadMask:
        """The selected mask."""
        assert self.choice is not None
        return HeadMask(self.choice.arrays["keep"])

    @property
    def missing(self) -> list[str]:
        """The recoveries without predictions."""
        return [recovery for recovery in self.cell.recoveries if recovery not in self.predictions]


def read_cell(workspace: Workspace, cell: Cell) -> MeasuredCell:
    """Read what the store has of a cell. Measures nothing and reads no weights."""
    if cell.method != FULL:
        choice = workspace.store.load(_choice_key(workspace, cell))
    else:
        keep = np.ones((workspace.card.layers, workspace.card.heads), dtype=np.uint8)
        choice = Entry({"keep": keep}, {"setting": {}, "price": None, "seconds": 0.0})
    stored = {}
    if choice is not None:
        # They may be those of another cell with the same mask.
        for recovery in cell.recoveries:
            entry = workspace.store.load(_predictions_key(workspace, MeasuredCell(cell, choice), recovery))
            if entry is not None:
                stored[recovery] = entry
    return MeasuredCell(cell, choice, stored)


def save_cell(workspace: Workspace, measured: MeasuredCell) -> None:
    """Store what a worker has measured elsewhere."""
    if measured.choice is not None and measured.cell.method != FULL:
        workspace.store.save(_choice_key(workspace, measured.cell), **vars(measured.choice))
    for recovery, entry in measured.predictions.items():
        workspace.store.save(_predictions_key(workspace, measured, recovery), **vars(entry))


def _choice_key(workspace: Workspace, cell: Cell) -> str:
    settings = workspace.plan.settings
    tries = [dict(setting) for setting in workspace.plan.settings_to_try(cell.method)]
    tuning = None
    if workspace.tuning_texts is not None and len(tries) > 1:
        tuning = workspace.tuning_texts.sha256
    # That of the method, and of the evidence from which it chooses.
    code = digest_code([type(_make_method(cell)).__module__, HeadEvidence.__module__])
    return key(
        "compare-choice",
        *(_REVISION, CLUSTERS_REVISION),
        *(workspace.card.sha256, workspace.bench(cell.seed).calibration.sha256),
        *(cell.method, code, tries, tuning),
        *(cell.budget, cell.seed, cell.noise, key_fields(settings, without=_WITHOUT_EFFECT)),
    )


def _predictions_key(workspace: Workspace, measured: MeasuredCell, recovery: str) -> str:
    """The key of a mask's predictions after a recovery, whichever cell selected the mask."""
    seed = measured.cell.seed
    bench = workspace.bench(seed)
    recovered = []
    if recovery != NONE.name:
        # It depends on the calibration texts, and on the seed that draws its held-out texts.
        texts = bench.calibration
        recovered = [texts.sha256, bench.recoveries.inputs_sha256, seed, refit_texts(len(texts))]
    return key(
        "compare-answers",
        *(_REVISION, workspace.card.sha256, measured.mask.sha256, recovery, recovered),
        [texts.sha256 for texts in workspace.splits.values()],
        key_fields(workspace.plan.settings, without=_WITHOUT_EFFECT),
    )


def _make_method(cell: Cell, **setting: Any) -> Method:
    return methods.get(split_minimum(cell.method)[0], **setting)


# Measuring ---------------------------------------------------------------------------------------------------


def measure_cell(workspace: Workspace, cell: Cell) -> MeasuredCell:
    """Read what the store has of a cell and measure the rest; each new result is stored at once.

    An error of a method or a recovery ends the cell, not the comparison.
    """
    found = read_cell(workspace, cell)
    try:
        if found.choice is None:
            choice = _select_mask(workspace, cell)
            workspace.store.save(_choice_key(workspace, cell), **vars(choice))
            found = replace(read_cell(workspace, cell), choice=choice)
        for recovery in found.missing:
            entry = _predict(workspace, found, recovery)
            workspace.store.save(_predictions_key(workspace, found, recovery), **vars(entry))
            found = replace(found, predictions={**found.predictions, recovery: entry})
    except (Cancelled, MemoryError):
        raise
    except Exception as error:
        message = " ".join(str(error).split()) or "no reason given"
        return replace(found, error=f"{type(error).__name__}: {message}")
    return found


def _select_mask(workspace: Workspace, cell: Cell) -> Entry:
    bench = workspace.bench(cell.seed)
    tuning_texts = workspace.tuning_texts
    evidence = cast(Evidence, bench.evidence)
    if cell.noise != cell.seed:
        evidence = cast(Evidence, _Redrawn(evidence, cell.noise))
    start = perf_counter()
    settings = workspace.plan.settings_to_try(cell.method)
    plan = workspace.plan.settings
    minimum = split_minimum(cell.method)[1]
    if minimum is None:
        minimum = plan.min_per_layer
    least = replace(plan, min_per_layer=minimum).budget_rules(workspace.card).layer_minimum(cell.budget)
    masks = []
    correct = []
    for setting in settings:
        mask = _make_method(cell, **setting).choose(evidence, budget=cell.budget, min_per_layer=least).mask
        if mask.count != cell.budget:
            raise BudgetError(
                f"{cell.method} kept {mask.count} heads instead of {cell.budget}; leave it out, or correct the method"
            )
        masks.append(mask)
        right = 0.0
        if tuning_texts is not None and len(settings) > 1:
            evaluation = bench.measurements.evaluate(tuning_texts, mask=mask)
            if evaluation.labelled:
                right = float(evaluation.correct.mean())
            else:
                full = bench.measurements.evaluate(tuning_texts)
                right = float(same_predictions(evaluation, full).mean())
        correct.append(right)
    # The first of equals, which is the default.
    best = int(np.argmax(correct))
    seconds = perf_counter() - start
    price = selection_cost(workspace, cell, evidence)
    meta = {"setting": dict(settings[best]), "price": price and vars(price), "seconds": seconds}
    return Entry({"keep": masks[best].keep.astype(np.uint8)}, meta)


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
    passes = [price.forwards for price in prices]
    forwards = sum(passes) if facts_of(cell.method).learned else max(passes)
    labels = max(price.labels for price in prices)
    if workspace.tuning_texts is not None and len(settings) > 1:
        tuning = len(workspace.tuning_texts)
        forwards += len(settings) * tuning
        labels += tuning
    if not workspace.dataset.labelled:
        labels = 0
    return SelectionCost(float(forwards), int(labels))


class _Redrawn:
    """The same evidence with another seed for the method's own randomness."""

    def __init__(self, evidence: Evidence, seed: int) -> None:
        self._evidence = evidence
        self.seed = seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evidence, name)

    def cached(self, name: str, make: Callable[[], Floats]) -> Array:
        return self._evidence.cached(f"{name}, drawn with {self.seed}", make)


def _predict(workspace: Workspace, measured: MeasuredCell, recovery: str) -> Entry:
    """Prune and recover on the calibration texts of the cell's seed, and predict the texts of every split."""
    bench = workspace.bench(measured.cell.seed)
    measurements = bench.measurements
    mask = measured.mask
    # Load the model before the clock starts, and what is known of it at each token.
    model = bench.model
    for texts in workspace.splits.values():
        measurements.prepare(texts)
    start = perf_counter()
    meta = {"recovery": 0.0, "accepted": None}
    predict = partial(measurements.evaluate, mask=mask)
    if recovery != NONE.name:
        # Weights are not stored: those of hundreds of masks would displace everything else.
        recovered = bench.recoveries.recover(mask, recovery, keep=False)
        model = cut_model(model, mask, recovered)
        if recovered is not None and not RECOVERIES[recovery].baseline:
            meta["accepted"] = recovered.accepted
        meta["recovery"] = perf_counter() - start
    if recovery != NONE.name or mask.is_full:
        # The full model is measured even if its predictions are known: its time serves to estimate the comparison's.
        predict = partial(measurements.evaluate_model, model)
    start = perf_counter()
    scores = {split: predict(texts).scores for split, texts in workspace.splits.items()}
    return Entry(scores, {**meta, "seconds": perf_counter() - start})
