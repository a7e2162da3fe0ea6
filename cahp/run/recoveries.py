"""What a recovery wins back for a pruned model; every result is found again in the store, and resumed if stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cahp import processes as parallel
from cahp.cards import ModelCard
from cahp.recoveries import RECOVERIES, REFIT_TEXTS, DistillEpoch, DistillReport, RefitReport, get_recovery, refit_texts
from cahp.run.recovered import Distilled, FineTuned, Recovered, Refitted, weights_of
from cahp.run.resources import Resources
from cahp.run.stored_training import StoredTraining, TimedTraining
from cahp.store import Entry, key
from cahp.values import DataError, HeadMask, Input, OptionError, Progress, Texts, digest

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Schedule, Watch
    from cahp.stages import distillation, recovery

#: With fewer texts a recovery holds none out to be evaluated on.
_FEWEST_TEXTS = 5


class Recoveries:
    """Recoveries of one model under any mask, on the ``calibration`` texts; without any, there are none.

    Those that need no labels work on ``unlabelled`` inputs instead, where there are some.
    """

    def __init__(
        self,
        resources: Resources,
        calibration: Texts | None = None,
        *,
        seed: int = 42,
        unlabelled: Sequence[Input] | None = None,
    ) -> None:
        self._resources, self._calibration, self._seed, self._unlabelled = resources, calibration, seed, unlabelled
        #: The newest refit that was decided without labels, by its key.
        self._refit: dict[str, Refitted] = {}

    @property
    def card(self) -> ModelCard:
        """The model's shape and name."""
        return self._resources.card

    @property
    def model(self) -> HeadModel:
        """The model, read and proven when first asked for."""
        return self._resources.model

    @property
    def calibration(self) -> Texts:
        """The texts that recoveries work on."""
        if self._calibration is None:
            raise ValueError("these measurements were opened without calibration texts")
        return self._calibration

    @property
    def inputs(self) -> list[Input]:
        """The inputs that recoveries without labels work on."""
        return self.calibration.inputs if self._unlabelled is None else list(self._unlabelled)

    @property
    def no_refit(self) -> str | None:
        """Why there is no refit on the calibration texts, if there is none."""
        if self.card.no_refit:
            return self.card.no_refit
        few = len(self.calibration)
        return f"{few} texts are too few to hold one out" if few < _FEWEST_TEXTS else None

    @property
    def inputs_sha256(self) -> str:
        """Digest of ``inputs``."""
        return _digest_of(self.inputs)

    def pruned(self, mask: HeadMask, recovered: Recovered | None = None) -> HeadModel:
        """The model without the heads that ``mask`` drops, recovered so."""
        import torch

        from cahp.models.surgery import cut, with_weights

        if isinstance(recovered, FineTuned | Distilled):
            return with_weights(cut(self.model, mask), recovered.weights)
        projections = None
        if recovered is not None and recovered.accepted:
            where = self.model.device
            projections = {
                place: (torch.tensor(weight, device=where), None if bias is None else torch.tensor(bias, device=where))
                for place, (weight, bias) in recovered.projections.items()
            }
        return cut(self.model, mask, projections=projections)

    def recover(
        self, mask: HeadMask, how: str, *, labels: bool = False, seconds: float | None = None
    ) -> Recovered | None:
        """The recovery that is asked for (None for ``none``); ``auto`` takes at most ``seconds``.

        Raises:
            CahpError: If it is not possible with this model and these texts.
        """
        recovery = get_recovery(how)
        if recovery.imitates:
            return self.distill(mask, labels=labels, seconds=seconds if recovery.timed else None)
        if recovery.solves:
            return self.refit(mask) if self._unlabelled is None else self.refit_unlabelled(mask)
        return self.finetune(mask) if recovery.needs_labels else None

    def refit(self, mask: HeadMask) -> Refitted:
        """Refit the pruned model on the calibration texts; see ``cahp.stages.recovery.refit``.

        Raises:
            DataError: If there are too few texts to hold one out.
            OptionError: If this model cannot be refitted.
        """
        self._check_refit(len(self.calibration))
        from cahp.stages.recovery import refit

        return self._refitted(
            self._refit_key(mask),
            lambda: refit(self.model, mask, self.calibration, progress=self._resources.progress),
        )

    def refitted_before(self, mask: HeadMask) -> Refitted | None:
        """What ``refit`` made of this mask, if it is in the store; nothing is solved."""
        return self._refit_found(self._refit_key(mask))

    def _refit_key(self, mask: HeadMask) -> str:
        texts = more_texts(len(self.calibration))
        return key("refit", 2, self.card.sha256, self.calibration.sha256, mask.sha256, *texts)

    def refit_unlabelled(
        self,
        mask: HeadMask,
        *,
        inputs: Sequence[Input] | None = None,
        progress: Progress | None = None,
        keep: bool = True,
    ) -> Refitted:
        """Refit without reading a label; see ``cahp.stages.recovery.refit_unlabelled``.

        ``inputs`` are worked on in the place of the usual ones; ``keep`` says whether its weights may take room in the
        store.

        Raises:
            DataError: If there are too few texts to hold one out.
            OptionError: If this model cannot be refitted.
        """
        inputs = self.inputs if inputs is None else inputs
        self._check_refit(len(inputs))
        name = key("refit unlabelled", 1, self.card.sha256, _digest_of(inputs), mask.sha256, *more_texts(len(inputs)))
        if name not in self._refit:
            from cahp.stages.recovery import refit_unlabelled

            made = self._refitted(
                name,
                lambda: refit_unlabelled(self.model, mask, inputs, progress=progress or self._resources.progress),
                keep,
            )
            self._refit = {name: made}
        return self._refit[name]

    def _check_refit(self, texts: int) -> None:
        if self.card.no_refit:
            raise OptionError(f"{self.card.no_refit}; use --recover distill, finetune or none")
        _check_held_out(texts, "a refit")

    def _refitted(self, name: str, solve: Callable[[], recovery.Refit], keep: bool = True) -> Refitted:
        found = self._refit_found(name)
        if found is not None:
            return found
        # Read before the clock runs, and by every process.
        _, clock = self.model, self._resources.clock

        def solved() -> Refitted:
            began = clock()
            made = solve()
            report = RefitReport(made.accepted, made.reason, made.examples)
            return replace(Refitted.of(made.model, report), seconds=clock() - began)

        with self._resources.timed("recovery"):
            refitted = parallel.from_first(solved)
        if keep:
            self._resources.keep(name, refitted.arrays, refitted.meta)
        return refitted

    def _refit_found(self, name: str) -> Refitted | None:
        return self._resources.found("recovery", name, lambda of: Refitted.from_arrays(of.arrays, of.meta))

    def finetune(
        self, mask: HeadMask, *, schedule: Schedule | None = None, watch: Watch | None = None, keep: bool = True
    ) -> FineTuned:
        """Fine-tune the pruned model on the calibration texts; see ``cahp.stages.recovery.finetune``.

        A training that was stopped goes on where it stopped, and one that is cached is not done again. ``keep`` says
        whether its weights may take room in the store.

        Raises:
            CahpError: If there are too few texts to hold one out, or training goes astray.
        """
        _check_held_out(len(self.calibration), "fine-tuning")
        from cahp.models.training import Schedule
        from cahp.stages import recovery

        schedule = schedule or Schedule()
        # Several processes take a batch each at a time, which makes it another training.
        parts = (
            *(self.card.sha256, self.calibration.sha256, mask.sha256),
            *(_said(schedule), self._seed, parallel.world()),
        )
        name = key("tuned", 1, *parts)
        found = self._resources.found("recovery", name, lambda of: FineTuned(of.arrays, tuple(of.meta["epochs"])))
        if found is not None:
            return found
        model = self.model
        with self._resources.timed("recovery"):
            made, history = recovery.finetune(
                model,
                mask,
                self.calibration,
                schedule=schedule,
                seed=self._seed,
                progress=self._resources.progress,
                watch=watch or self._resources.watch,
                checkpoint=StoredTraining(self._resources.store, key("tuning", 1, *parts, model.device.type)),
            )
        tuned = FineTuned(weights_of(made), tuple(asdict(epoch) for epoch in history))
        if keep:
            self._resources.keep(name, tuned.weights, {"epochs": tuned.epochs}, trained=True)
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
        """Refit the pruned model where that is possible, then distil it; see ``cahp.stages.distillation.distill``.

        No label is read, unless ``labels`` adds the cross-entropy with those of the calibration texts. ``seconds``
        bound refit and training, whatever came in between: with too few for one epoch on all texts it takes fewer
        texts, with too few for all epochs fewer batches, and what is best when they are over stays. Found again and
        resumed as ``finetune``.

        Raises:
            DataError: If there are too few texts to hold one out.
        """
        if labels and self._unlabelled is not None:
            raise OptionError("texts that are read without labels have none; leave --labels out")
        _check_held_out(len(self.inputs), "a distillation")
        from cahp.models.pacing import until
        from cahp.stages.distillation import SCHEDULE, Goal, distill

        goal, schedule = Goal(labels=1.0 if labels else 0.0), schedule or SCHEDULE
        parts = self._distilling(mask, goal, schedule)
        # What was done without haste serves those in haste, too.
        timed = () if seconds is None else (seconds, "planned")
        for name in dict.fromkeys((key("distilled", 1, *parts), key("distilled", 1, *parts, *timed))):
            found = self._resources.found("recovery", name, _distilled)
            if found is not None:
                return found
        model, clock, progress = self.model, self._resources.clock, self._resources.progress
        store, checkpoint = self._resources.store, key("distilling", 1, *parts, *timed, model.device.type)
        training = StoredTraining(store, checkpoint)
        inputs, left, rows = self.inputs, None, None
        if seconds is not None:
            training = TimedTraining(store, checkpoint, RECOVERIES["auto"], seconds, clock)
            left = training.allowance.left
            rows = training.rows(model, inputs)
            inputs = [inputs[row] for row in rows]
        refitted = self._first(mask, inputs, progress if training.exists else until(progress, left), keep)
        start = self.pruned(mask, refitted)
        called = "the refit" if refitted is not None and refitted.accepted else "the cut model"
        known = self.calibration.labels if labels else None
        began = clock()
        with self._resources.timed("recovery"):
            made = distill(
                model,
                start,
                inputs,
                labels=known if known is None or rows is None else known[rows],
                goal=goal,
                schedule=schedule,
                called=called,
                seed=self._seed,
                progress=progress,
                watch=watch or self._resources.watch,
                checkpoint=training,
                left=left,
            )
        distilled = Distilled(
            weights_of(made.model),
            _report(made, labels),
            None if refitted is None else refitted.report,
            refitted,
            None if training.resumed else clock() - began,
        )
        if keep:
            # Time decides on the rate, too: what had enough of it may still be another training.
            self._resources.keep(key("distilled", 1, *parts, *timed), *_as_entry(distilled), trained=True)
        return distilled

    def distilled_before(self, mask: HeadMask) -> Distilled | None:
        """What ``distill`` made of this mask, without labels or haste, if it is in the store; nothing is trained."""
        from cahp.stages.distillation import SCHEDULE, Goal

        name = key("distilled", 1, *self._distilling(mask, Goal(), SCHEDULE))
        return self._resources.found("recovery", name, _distilled)

    def _distilling(self, mask: HeadMask, goal: distillation.Goal, schedule: Schedule) -> tuple[Any, ...]:
        """What tells a distillation from others, but for its haste."""
        return (
            *(self.card.sha256, self.inputs_sha256, self.calibration.sha256 if goal.labels else None, mask.sha256),
            *(asdict(goal), _said(schedule), self._seed, parallel.world()),
            *more_texts(len(self.inputs)),
        )

    def _first(self, mask: HeadMask, inputs: Sequence[Input], progress: Progress, keep: bool) -> Refitted | None:
        """The refit that a distillation starts from, if the model has one and time is enough."""
        from cahp.models.pacing import TimeIsUp

        if self.card.no_refit:
            return None
        try:
            return self.refit_unlabelled(mask, inputs=inputs, progress=progress, keep=keep)
        except TimeIsUp:
            return None


def _check_held_out(texts: int, what: str) -> None:
    if texts < _FEWEST_TEXTS:
        raise DataError(f"every fifth text evaluates {what}, and there are only {texts}; raise --limit or add texts")


def more_texts(there: int) -> tuple[int, ...]:
    """What a key says of the texts that a refit works on: nothing of the 512 that it worked on once."""
    count = refit_texts(there)
    return (count,) if count > REFIT_TEXTS else ()


def _said(schedule: Schedule) -> dict[str, Any]:
    """A schedule as keys know it: its floor came later, and counts only where there is one."""
    return {name: value for name, value in asdict(schedule).items() if name != "floor" or value}


def _digest_of(inputs: Sequence[Input]) -> str:
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


#: The refit before a distillation lies beside its weights, under names with this before them.
_START = "refit:"


def _as_entry(made: Distilled) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    start = made.start
    refit = None if made.refit is None else asdict(made.refit)
    arrays = {} if start is None else {f"{_START}{name}": array for name, array in start.arrays.items()}
    meta = {"distill": asdict(made.report), "refit": refit, "seconds": made.seconds}
    return {**made.weights, **arrays}, meta if start is None else {**meta, "start": start.meta}


def _distilled(found: Entry) -> Distilled:
    import msgspec

    refit, start = found.meta["refit"], found.meta.get("start")
    arrays = {name.removeprefix(_START): array for name, array in found.arrays.items() if name.startswith(_START)}
    return Distilled(
        {name: array for name, array in found.arrays.items() if not name.startswith(_START)},
        msgspec.convert(found.meta["distill"], DistillReport),
        None if refit is None else RefitReport(**refit),
        None if start is None else Refitted.from_arrays(arrays, start),
        found.meta.get("seconds"),
    )
