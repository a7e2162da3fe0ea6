"""Recoveries of one model under any mask; results are read from the store, and interrupted ones are resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cahp import processes as parallel
from cahp.cards import ModelCard
from cahp.recoveries import QUICK, RECOVERIES, DistillEpoch, DistillReport, get_recovery, refit_texts
from cahp.run.recovered import Distilled, FineTuned, Recovered, Refitted, cut_model, weights_of
from cahp.run.resources import Resources
from cahp.run.stored_training import StoredTraining, TimedTraining
from cahp.store import Entry, key
from cahp.values import DataError, HeadMask, Input, OptionError, Progress, Texts, digest

if TYPE_CHECKING:
    from cahp.models.training import Schedule, Watch
    from cahp.stages import distillation

#: With fewer texts none can be held out.
_MIN_TEXTS = 5


class Recoveries:
    """Recovers one model under any mask, on the ``calibration`` texts.

    Recoveries without labels use the ``unlabelled`` inputs instead, where there are any.
    """

    def __init__(
        self,
        resources: Resources,
        calibration: Texts,
        *,
        seed: int = 42,
        unlabelled: Sequence[Input] | None = None,
    ) -> None:
        self._resources, self.calibration, self._seed, self._unlabelled = resources, calibration, seed, unlabelled
        #: The latest refit or mean ablation, by its key.
        self._latest: dict[str, Refitted] = {}

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self._resources.card

    @property
    def inputs(self) -> list[Input]:
        """The inputs of recoveries without labels."""
        return self.calibration.inputs if self._unlabelled is None else list(self._unlabelled)

    @property
    def inputs_sha256(self) -> str:
        """Digest of ``inputs``."""
        return _digest_inputs(self.inputs)

    @property
    def no_refit(self) -> str | None:
        """The reason why a refit on the calibration texts is impossible (None: it is possible)."""
        if self.card.no_refit:
            return self.card.no_refit
        few = len(self.calibration)
        return f"{few} texts are too few to hold one out" if few < _MIN_TEXTS else None

    def recover(
        self,
        mask: HeadMask,
        name: str,
        *,
        labels: bool = False,
        seconds: float | None = None,
        schedule: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> Recovered | None:
        """Recover the pruned model (None for ``none``); a timed recovery takes at most ``seconds``.

        A training changes fields of its usual ``Schedule`` by ``schedule`` and reports its loss to ``watch``.

        Raises:
            CahpError: If this model cannot be recovered so, or there are too few texts.
        """
        row = get_recovery(name)
        if row.imitates:
            from cahp.stages.distillation import SCHEDULE

            limit, changed = seconds if row.timed else None, replace(SCHEDULE, **schedule or {})
            return self.distill(mask, labels=labels, seconds=limit, schedule=changed, watch=watch)
        if row.solves:
            return self.refit(mask, name)
        if not row.needs_labels:
            return None
        from cahp.models.training import Schedule

        return self.finetune(mask, schedule=Schedule(**schedule or {}), watch=watch)

    # Refit and mean ablation -----------------------------------------------------------------------------------

    def refit(
        self,
        mask: HeadMask,
        name: str = QUICK.name,
        *,
        inputs: Sequence[Input] | None = None,
        progress: Progress | None = None,
        keep: bool = True,
    ) -> Refitted:
        """Refit or mean-ablate the pruned model without reading labels; see ``cahp.stages.recovery.refit``.

        ``inputs`` replace the usual ones. The result is stored if ``keep`` is set.

        Raises:
            DataError: If there are too few texts to hold one out.
            OptionError: If the output projections of this model cannot be changed.
        """
        from cahp.stages.recovery import refit

        row, used = RECOVERIES[name], self.inputs if inputs is None else inputs
        if self.card.no_refit:
            raise OptionError(f"{self.card.no_refit}; use --recover distill, finetune or none")
        _check_texts(len(used), f"a {row.noun}")
        entry = self._refit_key(mask, name, used)
        if entry in self._latest:
            return self._latest[entry]
        refitted = self._read_refit(entry)
        if refitted is None:
            # Load the model before the clock starts, in every process.
            model, clock, progress = self._resources.model, self._resources.clock, progress or self._resources.progress

            def make() -> Refitted:
                start = clock()
                made, report = refit(model, mask, used, recovery=row, seed=self._seed, progress=progress)
                return Refitted.of(made, report, clock() - start)

            with self._resources.timed("recovery"):
                refitted = parallel.from_first(make)
            if keep:
                self._resources.keep(entry, refitted.arrays, refitted.meta)
        self._latest = {entry: refitted}
        return refitted

    def read_refit(self, mask: HeadMask, name: str = QUICK.name) -> Refitted | None:
        """Return the result of ``refit`` from the store, or None; nothing is solved."""
        return self._read_refit(self._refit_key(mask, name, self.inputs))

    def _refit_key(self, mask: HeadMask, name: str, inputs: Sequence[Input]) -> str:
        texts = refit_texts(len(inputs))
        return key("refit", 4, name, self.card.sha256, _digest_inputs(inputs), mask.sha256, texts, self._seed)

    def _read_refit(self, entry: str) -> Refitted | None:
        return self._resources.found("recovery", entry, lambda found: Refitted.from_arrays(found.arrays, found.meta))

    # Training ------------------------------------------------------------------------------------------------

    def finetune(
        self, mask: HeadMask, *, schedule: Schedule | None = None, watch: Watch | None = None, keep: bool = True
    ) -> FineTuned:
        """Fine-tune the pruned model on the calibration texts; see ``cahp.stages.recovery.finetune``.

        An interrupted training is resumed. The result is stored if ``keep`` is set.

        Raises:
            CahpError: If there are too few texts to hold one out, or the training diverges.
        """
        from cahp.models.training import Schedule
        from cahp.stages import recovery

        _check_texts(len(self.calibration), "fine-tuning")
        schedule = schedule or Schedule()
        # Several processes take one batch each per step, which is another training.
        parts = (self.card.sha256, self.calibration.sha256, mask.sha256, asdict(schedule), self._seed, parallel.world())
        name = key("tuned", 3, *parts)
        stored = self._resources.found(
            "recovery", name, lambda entry: FineTuned(entry.arrays, tuple(entry.meta["epochs"]))
        )
        if stored is not None:
            return stored
        resources, model = self._resources, self._resources.model
        with resources.timed("recovery"):
            made, history = recovery.finetune(
                model,
                mask,
                self.calibration,
                schedule=schedule,
                seed=self._seed,
                progress=resources.progress,
                watch=watch or resources.watch,
                checkpoint=StoredTraining(resources.store, key("tuning", 3, *parts, model.device.type)),
            )
        tuned = FineTuned(weights_of(made), tuple(asdict(epoch) for epoch in history))
        if keep:
            resources.keep(name, tuned.weights, {"epochs": tuned.epochs}, trained=True)
        return tuned

    def distill(
        self,
        mask: HeadMask,
        *,
        labels: bool = False,
        seconds: float | None = None,
        schedule: Schedule | None = None,
        watch: Watch | None = None,
        keep: bool = True,
    ) -> Distilled:
        """Refit the pruned model where possible, then distil it; see ``cahp.stages.distillation.distill``.

        Labels are read only if ``labels`` adds the cross-entropy of the calibration texts. ``seconds`` limit refit and
        training together: with too little time for an epoch it uses fewer texts, with too little for all epochs fewer
        batches, and keeps the best state when the time is over. An interrupted training is resumed. The result is
        stored if ``keep`` is set.

        Raises:
            DataError: If there are too few texts to hold one out.
        """
        from cahp.models.training_state import until
        from cahp.stages.distillation import SCHEDULE, distill

        if labels and self._unlabelled is not None:
            raise OptionError("--labels needs the calibration texts; leave out --recover-data or --labels")
        _check_texts(len(self.inputs), "a distillation")
        schedule = schedule or SCHEDULE
        parts = self._distill_parts(mask, schedule, labels=labels)
        untimed, name = key("distilled", 3, *parts, None), key("distilled", 3, *parts, seconds)
        # A result without a time limit also serves where there is one.
        for stored in dict.fromkeys((untimed, name)):
            distilled = self._resources.found("recovery", stored, _from_entry)
            if distilled is not None:
                return distilled
        model, clock, progress = self._resources.model, self._resources.clock, self._resources.progress
        store, state = self._resources.store, key("distilling", 3, *parts, seconds, model.device.type)
        training, inputs, left, rows = StoredTraining(store, state), self.inputs, None, None
        if seconds is not None:
            training = TimedTraining(store, state, RECOVERIES["auto"], seconds, clock)
            left = training.left
            rows = training.rows(model, inputs)
            inputs = [inputs[row] for row in rows]
        refitted = self._start(mask, inputs, progress if training.exists else until(progress, left), keep)
        start = cut_model(model, mask, refitted)
        known = self.calibration.labels if labels else None
        began = clock()
        with self._resources.timed("recovery"):
            made = distill(
                model,
                start,
                inputs,
                labels=known if known is None or rows is None else known[rows],
                schedule=schedule,
                called="the refit" if refitted is not None and refitted.report.accepted else "the cut model",
                seed=self._seed,
                progress=progress,
                watch=watch or self._resources.watch,
                checkpoint=training,
                left=left,
            )
        report = _report(made, labels)
        distilled = Distilled(weights_of(made.model), report, refitted, None if training.resumed else clock() - began)
        if keep:
            self._resources.keep(name, *_to_entry(distilled), trained=True)
        return distilled

    def read_distilled(self, mask: HeadMask) -> Distilled | None:
        """Return the result of ``distill`` without labels or time limit from the store, or None."""
        from cahp.stages.distillation import SCHEDULE

        name = key("distilled", 3, *self._distill_parts(mask, SCHEDULE, labels=False), None)
        return self._resources.found("recovery", name, _from_entry)

    def _distill_parts(self, mask: HeadMask, schedule: Schedule, *, labels: bool) -> tuple[Any, ...]:
        """Everything that a distillation depends on, except its time limit."""
        return (
            *(self.card.sha256, self.inputs_sha256, self.calibration.sha256 if labels else None, mask.sha256),
            *(asdict(schedule), self._seed, parallel.world(), refit_texts(len(self.inputs))),
        )

    def _start(self, mask: HeadMask, inputs: Sequence[Input], progress: Progress, keep: bool) -> Refitted | None:
        """Return the refit that a distillation starts from (None: impossible, or not enough time)."""
        from cahp.models.training_state import TimeIsUp

        if self.card.no_refit:
            return None
        try:
            return self.refit(mask, inputs=inputs, progress=progress, keep=keep)
        except TimeIsUp:
            return None


def _check_texts(texts: int, recovery: str) -> None:
    if texts < _MIN_TEXTS:
        raise DataError(f"{recovery} holds out a fifth of the texts, and there are only {texts}; raise --limit")


def _digest_inputs(inputs: Sequence[Input]) -> str:
    return digest(*(part for one in inputs for part in ((one, "") if isinstance(one, str) else one)))


def _report(made: distillation.Distillation, labels: bool) -> DistillReport:
    before, after = made.before, made.after
    return DistillReport(
        made.accepted,
        made.reason,
        made.examples,
        labels,
        made.held_out,
        before and before[1],
        after and after[1],
        tuple(DistillEpoch(epoch.epoch, epoch.loss, epoch.accuracy or 0.0) for epoch in made.epochs),
        before and before[0],
        after and after[0],
    )


#: In an entry of the store the refit lies beside the distilled weights, under names with this prefix.
_START = "refit:"


def _to_entry(made: Distilled) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    start = made.start
    arrays = {} if start is None else {f"{_START}{name}": array for name, array in start.arrays.items()}
    meta = {"distill": asdict(made.report), "start": None if start is None else start.meta, "seconds": made.seconds}
    return {**made.weights, **arrays}, meta


def _from_entry(entry: Entry) -> Distilled:
    import msgspec

    start = entry.meta["start"]
    arrays = {name.removeprefix(_START): array for name, array in entry.arrays.items() if name.startswith(_START)}
    return Distilled(
        {name: array for name, array in entry.arrays.items() if not name.startswith(_START)},
        msgspec.convert(entry.meta["distill"], DistillReport),
        None if start is None else Refitted.from_arrays(arrays, start),
        entry.meta["seconds"],
    )
