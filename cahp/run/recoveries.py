"""Recoveries of one model under any mask; results are read from the store, and interrupted ones are resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cahp import processes as parallel
from cahp.cards import ModelCard
from cahp.recoveries import RECOVERIES, DistillEpoch, DistillReport, RefitReport, get_recovery, refit_texts
from cahp.run.recovered import Distilled, FineTuned, Recovered, Refitted, cut_model, weights_of
from cahp.run.resources import Resources
from cahp.run.stored_training import StoredTraining, TimedTraining
from cahp.store import Entry, key
from cahp.values import DataError, HeadMask, Input, OptionError, Progress, Texts, digest

if TYPE_CHECKING:
    from cahp.models.training import Schedule, Watch
    from cahp.stages import distillation, recovery

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
        #: The latest refit without labels, by its key.
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
            return self.refit(mask) if self._unlabelled is None else self.refit_unlabelled(mask)
        if not row.needs_labels:
            return None
        from cahp.models.training import Schedule

        return self.finetune(mask, schedule=Schedule(**schedule or {}), watch=watch)

    # Refit ---------------------------------------------------------------------------------------------------

    def refit(self, mask: HeadMask) -> Refitted:
        """Refit the pruned model on the calibration texts; see ``cahp.stages.recovery.refit``.

        Raises:
            DataError: If there are too few texts to hold one out.
            OptionError: If this model cannot be refitted.
        """
        from cahp.stages.recovery import refit

        self._check_refit(len(self.calibration))
        progress = self._resources.progress
        return self._refit(
            self._refit_key(mask), lambda: refit(self._resources.model, mask, self.calibration, progress=progress)
        )

    def read_refit(self, mask: HeadMask) -> Refitted | None:
        """Return the result of ``refit`` from the store, or None; nothing is solved."""
        return self._read_refit(self._refit_key(mask))

    def refit_unlabelled(
        self,
        mask: HeadMask,
        *,
        inputs: Sequence[Input] | None = None,
        progress: Progress | None = None,
        keep: bool = True,
    ) -> Refitted:
        """Refit without reading labels; see ``cahp.stages.recovery.refit_unlabelled``.

        ``inputs`` replace the usual ones. The result is stored if ``keep`` is set.

        Raises:
            DataError: If there are too few texts to hold one out.
            OptionError: If this model cannot be refitted.
        """
        from cahp.stages.recovery import refit_unlabelled

        inputs = self.inputs if inputs is None else inputs
        progress = progress or self._resources.progress
        self._check_refit(len(inputs))
        texts = refit_texts(len(inputs))
        name = key("refit unlabelled", 2, self.card.sha256, _digest_inputs(inputs), mask.sha256, texts)
        if name not in self._latest:
            made = self._refit(
                name, lambda: refit_unlabelled(self._resources.model, mask, inputs, progress=progress), keep
            )
            self._latest = {name: made}
        return self._latest[name]

    def _refit_key(self, mask: HeadMask) -> str:
        texts = refit_texts(len(self.calibration))
        return key("refit", 3, self.card.sha256, self.calibration.sha256, mask.sha256, texts)

    def _check_refit(self, texts: int) -> None:
        if self.card.no_refit:
            raise OptionError(f"{self.card.no_refit}; use --recover distill, finetune or none")
        _check_texts(texts, "a refit")

    def _refit(self, name: str, solve: Callable[[], recovery.Refit], keep: bool = True) -> Refitted:
        stored = self._read_refit(name)
        if stored is not None:
            return stored
        # Load the model before the clock starts, in every process.
        _, clock = self._resources.model, self._resources.clock

        def refit() -> Refitted:
            start = clock()
            made = solve()
            report = RefitReport(made.accepted, made.reason, made.examples)
            return Refitted.of(made.model, report, clock() - start)

        with self._resources.timed("recovery"):
            refitted = parallel.from_first(refit)
        if keep:
            self._resources.keep(name, refitted.arrays, refitted.meta)
        return refitted

    def _read_refit(self, name: str) -> Refitted | None:
        return self._resources.found("recovery", name, lambda entry: Refitted.from_arrays(entry.arrays, entry.meta))

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
        name = key("tuned", 2, *parts)
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
                checkpoint=StoredTraining(resources.store, key("tuning", 2, *parts, model.device.type)),
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
                called="the refit" if refitted is not None and refitted.accepted else "the cut model",
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
            return self.refit_unlabelled(mask, inputs=inputs, progress=progress, keep=keep)
        except TimeIsUp:
            return None


def _check_texts(texts: int, recovery: str) -> None:
    if texts < _MIN_TEXTS:
        raise DataError(f"{recovery} holds out every fifth text, and there are only {texts}; raise --limit")


def _digest_inputs(inputs: Sequence[Input]) -> str:
    return digest(*(part for one in inputs for part in ((one, "") if isinstance(one, str) else one)))


def _report(made: distillation.Distillation, labels: bool) -> DistillReport:
    before, after = (None if same is None else same / made.held_out for same in (made.before, made.after))
    return DistillReport(
        made.accepted,
        made.reason,
        made.examples,
        labels,
        made.held_out,
        before,
        after,
        tuple(DistillEpoch(epoch.epoch, epoch.loss, epoch.accuracy or 0.0) for epoch in made.epochs),
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
