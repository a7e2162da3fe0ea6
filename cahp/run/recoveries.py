"""Recoveries of one model under any mask; results are read from the store, and interrupted ones are resumed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.outcomes import Outcomes, accuracy_change, measure
from cahp.recoveries import (
    AT_ONCE,
    NONE,
    QUICK,
    RECOVERIES,
    DistillReport,
    Recovery,
    RefitReport,
    get_recovery,
    name_of_result,
    refit_texts,
)
from cahp.run.resources import Resources
from cahp.store import Entry, StoredTraining, key
from cahp.tasks.answers import Window
from cahp.tasks.task import TaskWords
from cahp.tasks.texts import Item, Texts, find_source
from cahp.values import CahpError, DataError, Estimate, HeadMask, Ints, OptionError, Progress, digest, spread

if TYPE_CHECKING:
    from cahp.models.cards import Site
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Left, Schedule
    from cahp.run.measurements import Measurements
    from cahp.stages.recovery import Grams


# Recovered models as values ------------------------------------------------------------------------------------


#: Names of the projections of a refit, beside the weights of the distillation that began with it.
_START = "refit:"


@dataclass(frozen=True, eq=False)
class Recovered:
    """A model that was recovered after pruning: the weights that changed, by name.

    They are all weights of a model that was trained, or else output projections, such as ``output-3-weight`` of layer
    3. ``report`` is that of its last step; a fine-tuned model has the ``epochs`` of its training instead, as JSON, with
    the ``learning_rate`` if held-out texts chose it. ``start`` is the refit that a distillation began with.
    ``seconds`` are those of the last step (None: not measured in one go).
    """

    weights: Mapping[str, NDArray[Any]]
    report: RefitReport | DistillReport | None = None
    start: Recovered | None = None
    seconds: float | None = None
    epochs: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Digest of the weights."""
        return digest(*(part for name, array in self.weights.items() for part in (name, array.tobytes())))

    @property
    def accepted(self) -> bool | None:
        """Whether held-out texts accepted the last step (None: it is not rejected)."""
        if self.report is None:
            return None
        return self.report.accepted

    @property
    def refit(self) -> RefitReport | None:
        """The report of its refit or mean ablation, alone or at the start of a distillation."""
        if self.start is not None:
            return self.start.refit
        if isinstance(self.report, RefitReport):
            return self.report
        return None

    @property
    def distill(self) -> DistillReport | None:
        """The report of its distillation."""
        if isinstance(self.report, DistillReport):
            return self.report
        return None

    @classmethod
    def of_projections(cls, model: HeadModel, report: RefitReport, seconds: float | None = None) -> Recovered:
        """Take the projections of a refitted model that its recovery changes."""
        sites: Collection[Site] = model.family.refits
        if not report.row.checked:
            # A quick refit solves for attention outputs alone.
            sites = {"output"}
        tensors = {
            f"{site}-{layer}-{part}": getattr(model.projection(layer, site), part)
            for layer in range(model.layers)
            for site in sites
            for part in ("weight", "bias")
        }
        weights = {name: tensor.cpu().numpy() for name, tensor in tensors.items() if tensor is not None}
        return cls(weights, report, seconds=seconds)


def _read_refit(entry: Entry) -> Recovered:
    return Recovered(entry.arrays, RefitReport(**entry.meta["report"]), seconds=entry.meta["seconds"])


def _read_tuned(entry: Entry) -> Recovered:
    return Recovered(entry.arrays, epochs=tuple(entry.meta["epochs"]))


def _read_distilled(entry: Entry) -> Recovered:
    import msgspec

    weights = dict(entry.arrays)
    projections = {name.removeprefix(_START): weights.pop(name) for name in entry.arrays if name.startswith(_START)}
    start = None
    if entry.meta["start"] is not None:
        start = _read_refit(Entry(projections, entry.meta["start"]))
    report = msgspec.convert(entry.meta["distill"], DistillReport)
    return Recovered(weights, report, start, entry.meta["seconds"])


def cut_model(model: HeadModel, mask: HeadMask, recovered: Recovered | None = None) -> HeadModel:
    """Return the model without the heads that ``mask`` drops, with the recovered weights."""
    import torch

    from cahp.models.surgery import cut, with_weights

    if recovered is None:
        return cut(model, mask)
    if not isinstance(recovered.report, RefitReport):
        return with_weights(cut(model, mask), recovered.weights)
    if not recovered.accepted:
        return cut(model, mask)
    tensors = {name: torch.tensor(array, device=model.device) for name, array in recovered.weights.items()}
    projections = {
        (layer, site): (tensors[f"{site}-{layer}-weight"], tensors.get(f"{site}-{layer}-bias"))
        for layer in range(model.layers)
        for site in model.family.refits
        if f"{site}-{layer}-weight" in tensors
    }
    return cut(model, mask, projections=projections)


def _weights_of(model: HeadModel) -> dict[str, NDArray[Any]]:
    return {name: weight.detach().cpu().numpy() for name, weight in model.network.named_parameters()}


# Steps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecoveryStep:
    """The model after a ``step``: ``pruned`` or the name of a recovery.

    ``accepted`` tells whether held-out texts accepted the step (None: nothing to accept); a rejected step changed
    nothing. It worked on ``examples`` texts for ``seconds`` (None: not measured in one go). ``outcomes`` are those on
    the evaluation texts, ``gained`` the change in accuracy against the step before.
    """

    step: str
    accepted: bool | None
    examples: int | None
    seconds: float | None
    outcomes: Outcomes
    gained: Estimate | None

    @property
    def result(self) -> str:
        """The model after it in words, such as "refitted"."""
        if self.step == "pruned":
            return NONE.result
        return name_of_result(self.step)


def measure_steps(
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int = 42
) -> tuple[RecoveryStep, ...]:
    """Evaluate each step of a distillation on ``texts``; other recoveries have no steps."""
    if recovered is None or recovered.distill is None:
        return ()
    full = measurements.evaluate(texts)
    current = measurements.evaluate(texts, mask=mask)
    steps = [RecoveryStep("pruned", None, None, None, measure(current, full=full, seed=seed), None)]
    for name, made in (("refit", recovered.start), ("distill", recovered)):
        if made is None or made.report is None:
            continue
        report = made.report
        before = current
        if report.accepted:
            current = measurements.evaluate(texts, mask=mask, recovered=made)
        outcomes = measure(current, full=full, seed=seed)
        gained = None
        if texts.labelled:
            gained = accuracy_change(current, before, seed)
        steps.append(RecoveryStep(name, report.accepted, report.examples, made.seconds, outcomes, gained))
    return tuple(steps)


def recovery_record(
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int = 42
) -> dict[str, Any]:
    """Return what a recovery reports: ``refit``, ``distill`` with its ``steps``, ``epochs``; only what applies."""
    if recovered is None:
        return {}
    reports = {
        "refit": recovered.refit,
        "distill": recovered.distill,
        "steps": measure_steps(measurements, texts, mask, recovered, seed=seed),
        "epochs": list(recovered.epochs),
    }
    return {name: report for name, report in reports.items() if report}


# A recovery with a time limit ----------------------------------------------------------------------------------


#: Forward passes of one token that solving a refit costs per hidden channel, however few the texts.
_SOLVING_PASSES = 4.4
#: A timed recovery uses at least this many texts.
_MIN_TIMED_TEXTS = 40
#: Texts on which the time of a forward pass is measured, and the share of the time that a plan fills.
_PROBED = 8
_FILLED = 0.8


def texts_in_time(model: HeadModel, inputs: Sequence[Item], left: Left, recovery: Recovery) -> int:
    """Estimate how many of ``inputs`` a recovery can use in the time left, with one epoch of training."""
    probed = model.tokenize([inputs[row] for row in spread(len(inputs), _PROBED)])
    batches = model.batches(probed)
    can_refit = not model.card.no_refit
    solving = 0.0
    if recovery.solves and can_refit:
        tokens = sum(len(entry["input_ids"]) for entry in probed)
        solving = _SOLVING_PASSES * model.card.hidden * len(probed) / tokens
    seconds = 0.0
    # The first pass allocates memory and is slower.
    for _ in range(2):
        before = left()
        for batch in batches:
            model.logits(batch)
        seconds = (before - left()) / len(probed)

    def count(texts: int) -> float:
        return seconds * (solving + recovery.passes(texts, can_refit=can_refit, epochs=1))

    choices = range(min(_MIN_TIMED_TEXTS, len(inputs)), len(inputs) + 1)
    fitting = bisect_right(choices, _FILLED * left(), key=count)
    return choices[max(0, fitting - 1)]


#: With fewer texts none can be held out.
_MIN_TEXTS = 5


class Recoveries:
    """Recovers one model under any mask, on the ``calibration`` texts.

    Recoveries without labels use the ``unlabelled`` inputs instead, where there are any. Those with a time limit read
    ``everything`` that may be learned from (None: the same inputs), of which ``digest_everything`` makes a digest.
    """

    def __init__(
        self,
        resources: Resources,
        calibration: Texts,
        *,
        seed: int = 42,
        unlabelled: Sequence[Item] | None = None,
        everything: Callable[[], Sequence[Item]] | None = None,
        digest_everything: Callable[[], str] | None = None,
    ) -> None:
        self._resources = resources
        self.card = resources.card
        self.calibration = calibration
        self._seed = seed
        self._unlabelled = unlabelled
        self._everything = everything
        self._digest_everything = digest_everything

    @property
    def inputs(self) -> list[Item]:
        """The inputs of recoveries without labels."""
        if self._unlabelled is None:
            return self.calibration.inputs
        return list(self._unlabelled)

    @cached_property
    def inputs_sha256(self) -> str:
        """Digest of ``inputs``."""
        if self._unlabelled is None and not self.calibration.task.predicts_labels:
            # The digest holds no labels, and may be known before the items are.
            return self.calibration.sha256
        return _digest_inputs(self.inputs)

    @cached_property
    def everything_sha256(self) -> str:
        """Digest of all that a recovery with a time limit may learn from; no windows are cut for it."""
        if self._digest_everything is None:
            return self.inputs_sha256
        return self._digest_everything()

    @cached_property
    def _all_inputs(self) -> list[Item]:
        if self._everything is None:
            return self.inputs
        return list(self._everything())

    @property
    def no_refit(self) -> str | None:
        """The reason why a refit on the calibration texts is impossible (None: it is possible)."""
        if self.card.no_refit:
            return self.card.no_refit
        count = self.calibration.count
        if count < _MIN_TEXTS:
            return f"{count} texts are too few to hold one out"
        return None

    def check(self, name: str) -> None:
        """Check that this model can be recovered so, before heads are chosen for it.

        Raises:
            OptionError: If its output projections cannot be changed in closed form.
            DataError: If there are too few texts to hold one out.
        """
        row = get_recovery(name)
        if row.closed_form and self.card.no_refit:
            raise OptionError(f"{self.card.no_refit}; use --recover distill, finetune or none")
        if row.needs_labels:
            _check_texts(self.calibration.inputs, row.noun, self.card.words)
        elif row.checked and row is not NONE:
            _check_texts(self.inputs, f"a {row.noun}", self.card.words)

    def recover(
        self,
        mask: HeadMask,
        name: str,
        *,
        labels: bool = False,
        seconds: float | None = None,
        schedule: Mapping[str, Any] | None = None,
        keep: bool = True,
    ) -> Recovered | None:
        """Recover the pruned model (None for ``none``); a timed recovery takes at most ``seconds``.

        A training changes fields of its usual ``Schedule`` by ``schedule``. The result is stored if ``keep`` is set.

        Raises:
            CahpError: If this model cannot be recovered so, or there are too few texts.
        """
        row = get_recovery(name)
        changes = schedule or {}
        if row.imitates:
            from cahp.stages.recovery import usual_schedule

            if not row.timed:
                seconds = None
            changed = replace(usual_schedule(self.card), **changes)
            return self.distill(mask, labels=labels, seconds=seconds, schedule=changed, keep=keep)
        if row.needs_labels:
            from cahp.models.training import Schedule

            rates = row.rates
            if "learning_rate" in changes:
                rates = ()
            return self.finetune(mask, schedule=Schedule(**changes), refitted=row.solves, rates=rates, keep=keep)
        if row.solves:
            return self.refit(mask, name, keep=keep)
        return None

    # Refit and mean ablation -----------------------------------------------------------------------------------

    def refit(
        self,
        mask: HeadMask,
        name: str = QUICK.name,
        *,
        inputs: Sequence[Item] | None = None,
        progress: Progress | None = None,
        keep: bool = True,
    ) -> Recovered:
        """Refit or mean-ablate the pruned model without reading labels; see ``cahp.stages.recovery.refit``.

        ``inputs`` replace the usual ones. The result is stored if ``keep`` is set.

        Raises:
            DataError: If there are too few texts to hold one out.
            OptionError: If the output projections of this model cannot be changed.
        """
        from cahp.stages.recovery import refit

        row = RECOVERIES[name]
        if inputs is None:
            inputs = self.inputs
        self.check(name)
        _check_texts(inputs, f"a {row.noun}", self.card.words)
        entry = self._refit_key(mask, name, inputs)
        refitted = self._resources.load_cached("recovery", entry, _read_refit)
        if refitted is None:
            # Load the model before the clock starts, in every process.
            model = self._resources.model
            clock = self._resources.clock
            progress = progress or self._resources.progress
            with self._resources.timed("recovery"):
                start = clock()
                if row.checked:
                    made, report = refit(model, mask, inputs, recovery=row, seed=self._seed, progress=progress)
                else:
                    made, report = self._refit_at_once(mask, inputs, progress)
                refitted = Recovered.of_projections(made, report, clock() - start)
            if keep:
                self._resources.keep(entry, refitted.weights, _describe_refit(refitted))
        return refitted

    def prepare_quick_refits(self) -> None:
        """Compute what the quick refit of any mask needs, unless it is stored.

        Raises:
            OptionError: If the output projections of this model cannot be changed.
        """
        self.check(AT_ONCE.name)
        self._find_grams(self.inputs, self._resources.progress)

    def _refit_at_once(
        self, mask: HeadMask, inputs: Sequence[Item], progress: Progress
    ) -> tuple[HeadModel, RefitReport]:
        from cahp.stages.recovery import QUICK_RIDGE, solve_at_once

        grams = self._find_grams(inputs, progress)
        solved = solve_at_once(self._resources.model, mask, grams)
        reason = f"not compared on held-out {self.card.words.items}"
        return solved, RefitReport(True, reason, grams.items, ridge=QUICK_RIDGE, recovery=AT_ONCE.name, step=1.0)

    def _find_grams(self, inputs: Sequence[Item], progress: Progress) -> Grams:
        """Return the Gram matrices of the full model on the texts of a refit, computed once."""
        from cahp.stages.recovery import Grams, choose_inputs, collect_grams

        entry = key("grams", 2, self.card.sha256, _digest_inputs(inputs), refit_texts(len(inputs)), self._seed)
        grams = self._resources.load_cached(
            "recovery", entry, lambda found: Grams(found.arrays["products"], found.meta["items"])
        )
        if grams is None:
            grams = collect_grams(self._resources.model, choose_inputs(inputs, seed=self._seed), progress=progress)
            self._resources.keep(entry, {"products": grams.products}, {"items": grams.items})
        return grams

    def read_refit(self, mask: HeadMask, name: str = QUICK.name) -> Recovered | None:
        """Return the result of ``refit`` from the store, or None; nothing is solved."""
        return self._resources.load_cached("recovery", self._refit_key(mask, name, self.inputs), _read_refit)

    def _refit_key(self, mask: HeadMask, name: str, inputs: Sequence[Item]) -> str:
        texts = refit_texts(len(inputs))
        return key("refit", 7, name, self.card.sha256, _digest_inputs(inputs), mask.sha256, texts, self._seed)

    # Training ------------------------------------------------------------------------------------------------

    def finetune(
        self,
        mask: HeadMask,
        *,
        schedule: Schedule | None = None,
        refitted: bool = False,
        rates: Sequence[float] = (),
        keep: bool = True,
    ) -> Recovered:
        """Fine-tune the pruned model on the calibration texts; see ``cahp.stages.recovery.finetune``.

        It starts from the refit if ``refitted`` (and possible). Each of the learning ``rates`` trains for an epoch; the
        one with the highest accuracy on held-out texts then replaces that of the ``schedule``. An interrupted training
        is resumed. The result is stored if ``keep`` is set.

        Raises:
            CahpError: If there are too few texts to hold one out, or the training diverges.
        """
        from cahp.models.training import Hooks, Schedule
        from cahp.stages import recovery

        _check_texts(self.calibration.inputs, "fine-tuning", self.card.words)
        schedule = schedule or Schedule()
        refitted = refitted and not self.card.no_refit
        parts: list[Any] = [self.card.sha256, self.calibration.sha256, mask.sha256, asdict(schedule), self._seed]
        if refitted:
            parts += [self.inputs_sha256, list(rates)]
        elif rates:
            parts += [None, list(rates)]
        name = key("tuned", 5, *parts)
        stored = self._resources.load_cached("recovery", name, _read_tuned)
        if stored is not None:
            return stored
        resources = self._resources
        model = resources.model
        refit = None
        if refitted:
            refit = self.refit(mask, keep=keep)
        chosen: dict[str, Any] = {}
        if rates:
            chosen = {"learning_rate": self._choose_rate(mask, schedule, rates, refitted=refitted)}
            schedule = replace(schedule, **chosen)
        with resources.timed("recovery"):
            made, history = recovery.finetune(
                model,
                mask,
                self.calibration,
                start=cut_model(model, mask, refit),
                schedule=schedule,
                seed=self._seed,
                hooks=Hooks(
                    progress=resources.progress,
                    watch=resources.watch,
                    checkpoint=StoredTraining(resources.store, key("tuning", 7, *parts, model.device.type)),
                ),
            )
        epochs = tuple({**asdict(epoch), **chosen} for epoch in history)
        tuned = Recovered(_weights_of(made), epochs=epochs)
        if keep:
            resources.keep(name, tuned.weights, {"epochs": tuned.epochs}, trained=True)
        return tuned

    def _choose_rate(self, mask: HeadMask, schedule: Schedule, rates: Sequence[float], *, refitted: bool) -> float:
        """Return the rate with the highest score on held-out texts after one epoch: accuracy, or minus the loss."""
        parts = (self.card.sha256, self.calibration.sha256, self.inputs_sha256, mask.sha256, refitted, self._seed)
        store = self._resources.store
        scores = []
        for rate in rates:
            once = replace(schedule, epochs=1, learning_rate=rate)
            name = key("tried rate", 4, *parts, asdict(once))
            score = store.read(name, lambda entry: float(entry.meta["score"]))
            if score is None:
                try:
                    score = self.finetune(mask, schedule=once, refitted=refitted, keep=False).epochs[-1]["score"]
                except CahpError as error:
                    if type(error) is not CahpError:  # such as a lack of memory
                        raise
                    score = np.nan
                if not np.isfinite(score):
                    # It diverged. JSON has no infinity, and this is below all others.
                    score = -1e300
                store.save(name, meta={"score": score})
            scores.append(score)
        return rates[int(np.argmax(scores))]

    def distill(
        self,
        mask: HeadMask,
        *,
        labels: bool = False,
        seconds: float | None = None,
        schedule: Schedule | None = None,
        keep: bool = True,
    ) -> Recovered:
        """Refit the pruned model where possible, then distil it; see ``cahp.stages.recovery.distill``.

        Labels are read only if ``labels`` adds the cross-entropy of the calibration texts. ``seconds`` limit refit and
        training together, on all inputs of the split unless labels are read: with too little time for an epoch it uses
        fewer texts, with too little for all epochs fewer batches, and keeps the best state when the time is over. An
        interrupted training is resumed after its last epoch. The result is stored if ``keep`` is set.

        Raises:
            DataError: If there are too few texts to hold one out.
        """
        from cahp.models.training import Hooks, TimeIsUp, until
        from cahp.stages.recovery import distill, usual_schedule

        if labels and self._unlabelled is not None:
            raise OptionError("--labels needs the calibration texts; leave out --recover-data or --labels")
        _check_texts(self.inputs, "a distillation", self.card.words)
        schedule = schedule or usual_schedule(self.card)
        parts = self._distill_parts(mask, schedule, labels=labels)
        inputs = self.inputs
        limit = None
        if seconds is not None:
            if not labels:
                # Labels are those of the calibration texts.
                inputs = self._all_inputs
            limit = seconds, _digest_inputs(inputs)
        name = key("distilled", 6, *parts, limit)
        # A result without a time limit also serves where there is one.
        untimed = key("distilled", 6, *parts, None)
        for stored in dict.fromkeys((untimed, name)):
            distilled = self._resources.load_cached("recovery", stored, _read_distilled)
            if distilled is not None:
                return distilled
        resources = self._resources
        model = resources.model
        state = StoredTraining(resources.store, key("distilling", 7, *parts, limit, model.device.type))
        hooks = Hooks(progress=resources.progress, watch=resources.watch, checkpoint=state)
        rows: Ints = np.arange(len(inputs))
        plan = key("distilling texts", 1, *parts, limit)
        if seconds is not None:
            end = resources.clock() + seconds

            def left() -> float:
                return end - resources.clock()

            hooks = replace(hooks, left=left)
            # A training that was interrupted goes on with the same texts.
            count = resources.store.read(plan, lambda entry: int(entry.meta["texts"]))
            if count is None:
                count = texts_in_time(model, inputs, left, RECOVERIES["auto"])
                resources.store.save(plan, meta={"texts": count})
            rows = spread(len(inputs), count)
            inputs = [inputs[row] for row in rows]
        known = None
        if labels:
            known = self.calibration.labels[rows]
        refitted = None
        if not self.card.no_refit:
            with suppress(TimeIsUp):
                progress = until(resources.progress, hooks.left)
                refitted = self.refit(mask, inputs=inputs, progress=progress, keep=keep)
        called = "the cut model"
        if refitted is not None and refitted.accepted:
            called = "the refit"
        began = resources.clock()
        with resources.timed("recovery"):
            made, report = distill(
                model,
                cut_model(model, mask, refitted),
                inputs,
                labels=known,
                schedule=schedule,
                called=called,
                seed=self._seed,
                hooks=hooks,
            )
        took: float | None = resources.clock() - began
        if state.resumed:
            took = None
        resources.store.remove(plan)
        distilled = Recovered(_weights_of(made), report, refitted, took)
        if keep:
            arrays = dict(distilled.weights)
            start = None
            if refitted is not None:
                arrays |= {f"{_START}{name}": array for name, array in refitted.weights.items()}
                start = _describe_refit(refitted)
            meta = {"distill": asdict(report), "start": start, "seconds": took}
            resources.keep(name, arrays, meta, trained=True)
        return distilled

    def read_distilled(self, mask: HeadMask) -> Recovered | None:
        """Return the result of ``distill`` without labels or time limit from the store, or None."""
        from cahp.stages.recovery import usual_schedule

        name = key("distilled", 6, *self._distill_parts(mask, usual_schedule(self.card), labels=False), None)
        return self._resources.load_cached("recovery", name, _read_distilled)

    def _distill_parts(self, mask: HeadMask, schedule: Schedule, *, labels: bool) -> tuple[Any, ...]:
        """Everything that a distillation depends on, except its time limit."""
        labelled = None
        if labels:
            labelled = self.calibration.sha256
        return (
            *(self.card.sha256, self.inputs_sha256, labelled, mask.sha256),
            *(asdict(schedule), self._seed, refit_texts(len(self.inputs))),
        )


def _describe_refit(refitted: Recovered) -> dict[str, Any]:
    return {"report": refitted.report and asdict(refitted.report), "seconds": refitted.seconds}


def _check_texts(inputs: Sequence[Item], recovery: str, words: TaskWords) -> None:
    # What is read twice is no text of the data.
    count = sum(find_source(item) == "text" for item in inputs)
    if count < _MIN_TEXTS:
        raise DataError(
            f"{recovery} holds out a fifth of the {words.items}, and there are only {count}; {words.raise_number}"
        )


def _digest_inputs(inputs: Sequence[Item]) -> str:
    """Digest texts, pairs of texts, or windows by their tokens: the same text may be cut into other tokens."""
    parts: list[str | bytes] = []
    for item in inputs:
        if isinstance(item, Window):
            parts += item.parts
        elif isinstance(item, str):
            parts += (item, "")
        else:
            parts += item
    return digest(*parts)
