"""Recoveries of one model under any mask; results are read from the store, and interrupted ones are resumed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp.outcomes import Outcomes, accuracy_change, measure
from cahp.recoveries import (
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
from cahp.tasks.texts import Item, Texts, find_source
from cahp.values import (
    Arrays,
    CahpError,
    DataError,
    Estimate,
    HeadMask,
    JsonObject,
    OptionError,
    Progress,
    digest,
    spread,
)

if TYPE_CHECKING:
    from cahp.models.cards import Site
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Epoch, Left, Schedule
    from cahp.run.measurements import Measurements
    from cahp.stages.recovery import Grams


@dataclass(frozen=True, eq=False)
class Recovered:
    """A model that was recovered after pruning: the weights that changed, by name.

    They are all weights of a model that was trained, or else output projections, such as ``output-3-weight`` of layer
    3, and bypasses, such as ``bypass-3-down``. ``refit`` is the report of its refit or mean ablation, alone or at the
    ``start`` of a distillation, and ``distill`` that of its distillation. A fine-tuned model has the ``epochs`` of its
    training instead, as JSON, with the ``learning_rate`` if held-out texts chose it. ``seconds`` are those of the last
    step (None: not measured).
    """

    weights: Arrays
    refit: RefitReport | None = None
    distill: DistillReport | None = None
    start: Recovered | None = None
    seconds: float | None = None
    epochs: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Digest of the weights."""
        return digest(*(part for name, array in self.weights.items() for part in (name, array.tobytes())))

    @property
    def bypasses(self) -> Arrays:
        """The weights of bypasses beside kept heads, which take memory and time."""
        return {name: array for name, array in self.weights.items() if name.startswith("bypass-")}

    @property
    def report(self) -> RefitReport | DistillReport | None:
        """The report of its last step (None: fine-tuned)."""
        return self.distill or self.refit

    @property
    def accepted(self) -> bool | None:
        """Whether held-out texts accepted the last step (None: it is not rejected)."""
        if self.report is None:
            return None
        return self.report.accepted


def cut_model(model: HeadModel, mask: HeadMask, recovered: Recovered | None = None) -> HeadModel:
    """Return the model without the heads that ``mask`` drops, with the recovered weights."""
    import torch

    from cahp.models.surgery import add_bypass, cut, with_weights

    pruned = cut(model, mask)
    if recovered is None:
        return pruned
    if recovered.refit is None or recovered.distill is not None:
        return with_weights(pruned, recovered.weights)
    if not recovered.accepted:
        return pruned
    tensors = {name: torch.tensor(array, device=model.device) for name, array in recovered.weights.items()}
    for layer in range(model.layers):
        for site in model.family.refits:
            weight = tensors.get(f"{site}-{layer}-weight")
            if weight is not None:
                pruned.projection(layer, site).replace(weight, tensors.get(f"{site}-{layer}-bias"))
        if f"bypass-{layer}-down" in tensors:
            add_bypass(pruned, layer, tensors[f"bypass-{layer}-down"], tensors[f"bypass-{layer}-up"])
    return pruned


def _weights_of(model: HeadModel) -> dict[str, NDArray[Any]]:
    return {name: weight.detach().cpu().numpy() for name, weight in model.network.named_parameters()}


def projections_of(model: HeadModel, recovery: Recovery) -> dict[str, NDArray[Any]]:
    """Return the projections of a refitted model that its recovery changes, and its bypasses."""
    from cahp.models.surgery import find_bypass

    sites: Collection[Site] = model.family.refits
    if not recovery.checked:
        # A quick refit solves for attention outputs alone.
        sites = {"output"}
    tensors = {
        f"{site}-{layer}-{part}": getattr(model.projection(layer, site), part)
        for layer in range(model.layers)
        for site in sites
        for part in ("weight", "bias")
    }
    for layer in range(model.layers):
        bypass = find_bypass(model, layer)
        if bypass is not None:
            tensors |= {f"bypass-{layer}-down": bypass.down, f"bypass-{layer}-up": bypass.up}
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items() if tensor is not None}


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
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int
) -> tuple[RecoveryStep, ...]:
    """Evaluate each step of a distillation on ``texts``; other recoveries have no steps."""
    if recovered is None or recovered.distill is None:
        return ()
    full = measurements.evaluate(texts)
    current = measurements.evaluate(texts, mask=mask)
    # The store may have removed the refit since: what the distillation alone gained is not known then.
    begun = recovered.start is not None or recovered.refit is None
    steps = [RecoveryStep("pruned", None, None, None, measure(current, full=full, seed=seed), None)]
    for name, made in (("refit", recovered.start), ("distill", recovered)):
        if made is None or made.report is None:
            continue
        before = current
        if made.accepted:
            current = measurements.evaluate(texts, mask=mask, recovered=made)
        gained = None
        if texts.labelled and begun:
            gained = accuracy_change(current, before, seed)
        outcomes = measure(current, full=full, seed=seed)
        steps.append(RecoveryStep(name, made.accepted, made.report.examples, made.seconds, outcomes, gained))
    return tuple(steps)


def recovery_record(
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int
) -> JsonObject:
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
    tokens = sum(len(entry["input_ids"]) for entry in probed)
    can_refit = not model.card.no_refit
    solving = can_refit * _SOLVING_PASSES * model.card.hidden * len(probed) / tokens
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
#: The score of a learning rate that diverges, below all others: JSON has no infinity.
_DIVERGED = -1e300


class Recoveries:
    """Recovers one model under any mask, on the ``calibration`` texts.

    Recoveries without labels use the ``unlabelled`` inputs instead, where there are any, or ``more`` windows than those
    of the calibration, which are cut when they are first read, but for a quick refit. Those with a time limit read
    ``everything`` that may be learned from (None: the same inputs), which ``digest_everything`` digests before any
    windows are cut. ``rank`` is that of a bypass.
    """

    def __init__(
        self,
        resources: Resources,
        calibration: Texts,
        *,
        seed: int = 42,
        rank: int | None = None,
        unlabelled: Sequence[Item] | None = None,
        more: Callable[[], Sequence[Item]] | None = None,
        everything: Callable[[], Sequence[Item]] | None = None,
        digest_everything: Callable[[], str] = str,
    ) -> None:
        self._resources = resources
        self.card = resources.card
        self.calibration = calibration
        self._seed = seed
        self._rank = self.card.choose_rank(rank)
        self._unlabelled = unlabelled
        self._more = more
        self._everything = everything
        self.digest_everything = digest_everything

    @cached_property
    def inputs(self) -> list[Item]:
        """The inputs of recoveries without labels."""
        if self._unlabelled is None and self._more is not None:
            return list(self._more())
        return self.quick_inputs

    @property
    def quick_inputs(self) -> list[Item]:
        """The inputs of a quick refit, which is there at once."""
        if self._unlabelled is None:
            return self.calibration.inputs
        return list(self._unlabelled)

    def _inputs_of(self, name: str) -> list[Item]:
        if RECOVERIES[name].checked:
            return self.inputs
        return self.quick_inputs

    @cached_property
    def inputs_sha256(self) -> str:
        """Digest of ``inputs``, or of what they are cut from."""
        if self._unlabelled is not None:
            return _digest_inputs(self._unlabelled)
        if self._more is None:
            return self.calibration.sha256
        return digest(self.calibration.sha256, self.digest_everything())

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
        if not (row.noun and row.checked):
            return
        inputs = self.calibration.inputs
        if not row.needs_labels:
            inputs = self.inputs
        # What is read twice is no text of the data.
        count = sum(find_source(item) == "text" for item in inputs)
        if count < _MIN_TEXTS:
            words = self.card.words
            raise DataError(
                f"--recover {name} holds out a fifth of the {words.items}, and there are only {count}; "
                f"{words.raise_number}"
            )

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
        if row is NONE:
            return None
        if not row.trains:
            return self.refit(mask, name, keep=keep)
        if row.needs_labels:
            return self.finetune(mask, name, schedule=schedule, keep=keep)
        if not row.timed:
            seconds = None
        return self.distill(mask, labels=labels, seconds=seconds, schedule=schedule, keep=keep)

    def read(self, mask: HeadMask, name: str) -> Recovered | None:
        """Return the result of ``refit``, or of ``distill`` with its defaults, from the store, or None."""
        if RECOVERIES[name].imitates:
            return self._read(self._distilled_key(mask, self.inputs, self._distill_schedule({})))
        return self._read(self._refit_key(mask, name, self._inputs_of(name)))

    def holds(self, mask: HeadMask, name: str) -> bool:
        """Return whether the result of ``refit`` is in the store."""
        return self._resources.store.holds(self._refit_key(mask, name, self._inputs_of(name)))

    def _read(self, name: str) -> Recovered | None:
        def convert(entry: Entry) -> Recovered:
            start = None
            if entry.meta["start"] is not None:
                # None where the store removed it since.
                start = self._read(entry.meta["start"])
            return Recovered(
                entry.arrays,
                msgspec.convert(entry.meta["refit"], RefitReport | None),
                msgspec.convert(entry.meta["distill"], DistillReport | None),
                start,
                entry.meta["seconds"],
                tuple(entry.meta["epochs"]),
            )

        return self._resources.load_cached("recovery", name, convert)

    def _keep(self, name: str, recovered: Recovered, *, start: str | None = None, trained: bool = True) -> None:
        """Store a result, whose ``start`` is stored under another key."""
        meta = {
            "refit": recovered.refit and asdict(recovered.refit),
            "distill": recovered.distill and asdict(recovered.distill),
            "seconds": recovered.seconds,
            "epochs": recovered.epochs,
            "start": start,
        }
        self._resources.keep(name, recovered.weights, meta, trained=trained)

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
        from cahp.stages.recovery import QUICK_RIDGE, refit, solve_at_once

        row = RECOVERIES[name]
        if inputs is None:
            inputs = self._inputs_of(name)
        self.check(name)
        entry = self._refit_key(mask, name, inputs)
        refitted = self._read(entry)
        if refitted is None:
            # Load the model before the clock starts.
            model = self._resources.model
            clock = self._resources.clock
            progress = progress or self._resources.progress
            with self._resources.timed("recovery"):
                start = clock()
                if row.checked:
                    options = {}
                    if row.adds_bypass:
                        options = {"rank": self._rank}
                    made, report = refit(
                        model, mask, inputs, recovery=row, seed=self._seed, progress=progress, **options
                    )
                else:
                    grams = self._find_grams(inputs, progress, words=row.adds_bypass)
                    made = solve_at_once(model, mask, grams, rank=self._rank)
                    reason = f"not compared on held-out {self.card.words.items}"
                    if row.adds_bypass:
                        reason += f"; it {self.card.describe_bypass(mask, self._rank)}"
                    report = RefitReport(True, reason, grams.items, ridge=QUICK_RIDGE, recovery=name, step=1.0)
                refitted = Recovered(projections_of(made, row), report, seconds=clock() - start)
            if keep:
                self._keep(entry, refitted, trained=False)
        return refitted

    def prepare(self, name: str) -> None:
        """Compute what a quick recovery of any mask needs, unless it is stored.

        Raises:
            OptionError: If this model cannot be recovered so.
            DataError: If there are too few tokens.
        """
        self.check(name)
        self._find_grams(self.quick_inputs, self._resources.progress, words=RECOVERIES[name].adds_bypass)

    def _find_grams(self, inputs: Sequence[Item], progress: Progress, *, words: bool = False) -> Grams:
        """Return the Gram matrices of the full model on the texts of a refit, computed once; of ``words``, too."""
        from cahp.stages.recovery import Grams, choose_inputs, collect_grams, collect_word_grams

        parts = [self.card.sha256, _digest_inputs(inputs), refit_texts(len(inputs)), self._seed]
        if words:
            parts += ["words", self._rank]

        def collect() -> Grams:
            chosen = choose_inputs(inputs, seed=self._seed)
            if words:
                return collect_word_grams(self._resources.model, chosen, rank=self._rank, progress=progress)
            return collect_grams(self._resources.model, chosen, progress=progress)

        return self._resources.find_values("recovery", key("grams", 3, *parts), Grams, collect)

    def _refit_key(self, mask: HeadMask, name: str, inputs: Sequence[Item]) -> str:
        parts: list[Any] = [self.card.sha256, _digest_inputs(inputs), mask.sha256, refit_texts(len(inputs)), self._seed]
        if RECOVERIES[name].adds_bypass:
            parts.append(self._rank)
        return key("refit", 10, name, *parts)

    # Training ------------------------------------------------------------------------------------------------

    def finetune(
        self, mask: HeadMask, name: str = "finetune", *, schedule: Mapping[str, Any] | None = None, keep: bool = True
    ) -> Recovered:
        """Fine-tune the pruned model on the calibration texts; see ``cahp.stages.recovery.finetune``.

        It starts from the refit where its row says so and that is possible. Each of the learning rates of the row
        trains for an epoch, unless ``schedule`` names one; the one with the highest score on held-out texts is then
        used. An interrupted training is resumed. The result is stored if ``keep`` is set.

        Raises:
            CahpError: If there are too few texts to hold one out, or the training diverges.
        """
        from cahp.models.training import Hooks, Schedule
        from cahp.stages.recovery import finetune

        self.check(name)
        row = RECOVERIES[name]
        usual = Schedule(**(schedule or {}))
        rates = row.rates
        if schedule is not None and "learning_rate" in schedule:
            rates = ()
        parts: list[Any] = [self.card.sha256, self.calibration.sha256, mask.sha256, asdict(usual), self._seed, rates]
        refits = row.solves and not self.card.no_refit
        if refits:
            parts.append(self.inputs_sha256)
        name = key("tuned", 7, *parts)
        stored = self._read(name)
        if stored is not None:
            return stored
        resources = self._resources
        model = resources.model
        refitted = None
        if refits:
            refitted = self.refit(mask, keep=keep)
        start = cut_model(model, mask, refitted)

        def train(schedule: Schedule) -> tuple[HeadModel, list[Epoch]]:
            state = StoredTraining(resources.store, key("tuning", 11, *parts, asdict(schedule), model.device.type))
            hooks = Hooks(progress=resources.progress, watch=resources.watch, checkpoint=state)
            with resources.timed("recovery"):
                return finetune(start, self.calibration, schedule=schedule, seed=self._seed, hooks=hooks)

        def try_rate(rate: float) -> float:
            try:
                _, tried = train(replace(usual, epochs=1, learning_rate=rate))
            except CahpError as error:
                if type(error) is not CahpError:  # such as a lack of memory
                    raise
                return _DIVERGED
            return float(np.nan_to_num(np.array(tried[-1].score, dtype=np.float64), nan=_DIVERGED))

        scores = [
            resources.find_record(key("tried rate", 6, *parts, rate), float, partial(try_rate, rate)) for rate in rates
        ]
        chosen: JsonObject = {}
        if rates:
            chosen = {"learning_rate": rates[int(np.array(scores).argmax())]}
        made, history = train(replace(usual, **chosen))
        tuned = Recovered(_weights_of(made), epochs=tuple({**asdict(epoch), **chosen} for epoch in history))
        if keep:
            self._keep(name, tuned)
        return tuned

    def distill(
        self,
        mask: HeadMask,
        *,
        labels: bool = False,
        seconds: float | None = None,
        schedule: Mapping[str, Any] | None = None,
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
        from cahp.stages.recovery import distill

        self.check("distill")
        changed = self._distill_schedule(schedule or {})
        inputs = self.inputs
        known = None
        if labels:
            inputs = self.calibration.inputs
            known = self.calibration.labels
        name = self._distilled_key(mask, inputs, changed, labels=labels)
        stored = self._read(name)
        # A result without a time limit also serves where there is one.
        if stored is None and seconds is not None:
            if not labels and self._everything is not None:
                inputs = list(self._everything())
            name = self._distilled_key(mask, inputs, changed, labels=labels, seconds=seconds)
            stored = self._read(name)
        if stored is not None:
            return stored
        resources = self._resources
        model = resources.model
        state = StoredTraining(resources.store, key("distilling", 11, name, model.device.type))
        hooks = Hooks(progress=resources.progress, watch=resources.watch, checkpoint=state)
        plan = key("distilling texts", 2, name)
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
            if known is not None:
                known = known[rows]
        refitted = None
        report_of_refit = None
        began_with = None
        called = "the cut model"
        if not self.card.no_refit:
            with suppress(TimeIsUp):
                refitted = self.refit(mask, inputs=inputs, progress=until(resources.progress, hooks.left), keep=keep)
                report_of_refit = refitted.refit
                began_with = self._refit_key(mask, QUICK.name, inputs)
                if refitted.accepted:
                    called = "the refit"
        start = cut_model(model, mask, refitted)
        began = resources.clock()
        with resources.timed("recovery"):
            made, report = distill(
                model, start, inputs, labels=known, schedule=changed, called=called, seed=self._seed, hooks=hooks
            )
        took: float | None = resources.clock() - began
        if state.resumed:
            took = None
        resources.store.remove(plan)
        distilled = Recovered(_weights_of(made), report_of_refit, report, refitted, took)
        if keep:
            self._keep(name, distilled, start=began_with)
        return distilled

    def _distill_schedule(self, changes: Mapping[str, Any]) -> Schedule:
        from cahp.models.training import Schedule

        task = self.card.task
        usual = Schedule(learning_rate=task.distill_rate, batch=task.distill_batch, floor=0.02)
        return replace(usual, **changes)

    def _distilled_key(
        self,
        mask: HeadMask,
        inputs: Sequence[Item],
        schedule: Schedule,
        *,
        labels: bool = False,
        seconds: float | None = None,
    ) -> str:
        """The key of a distillation, whose first step is a refit of ``refit_texts``."""
        parts = [self.card.sha256, _digest_inputs(inputs), mask.sha256, asdict(schedule), self._seed, seconds]
        if labels:
            parts.append(self.calibration.sha256)
        return key("distilled", 8, *parts, refit_texts(len(inputs)))


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
