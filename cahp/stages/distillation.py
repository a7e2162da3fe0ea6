"""Distillation: train a pruned model to predict as the full model does, on texts without labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cahp.models.cards import ModelCard
from cahp.models.head_model import HeadModel
from cahp.models.reading import Divergences, HeldOut, Teacher, count_compared, hold_out
from cahp.models.surgery import separate
from cahp.models.training import Hooks, Limit, Objective, Schedule, TimeIsUp, Training, optimise, until
from cahp.recoveries import DistillEpoch, DistillReport
from cahp.tasks.texts import Item
from cahp.values import Ints, Progress

STAGE = "distill"
#: The pass of the full model before the training.
TEACHER = "teacher"
#: A higher rate than that of fine-tuning, since the teacher's scores carry more information than labels.
SCHEDULE = Schedule(learning_rate=1e-4, batch=64, floor=0.02)
#: Of a model that predicts tokens: a window has a prediction per token, so that few windows are enough for a batch.
WINDOW_SCHEDULE = Schedule(learning_rate=2e-4, batch=8, floor=0.02)
#: What softens the scores of both models (Hinton, Vinyals and Dean 2015).
TEMPERATURE = 2.0
_NO_TIME = "no time was left for it"


def usual_schedule(card: ModelCard) -> Schedule:
    """Return the schedule of a distillation of a model."""
    if card.task.predicts_often:
        return WINDOW_SCHEDULE
    return SCHEDULE


def distill(
    model: HeadModel,
    start: HeadModel,
    inputs: Sequence[Item],
    *,
    labels: Ints | None = None,
    schedule: Schedule | None = None,
    called: str = "the refit",
    seed: int = 42,
    hooks: Hooks = Hooks(),  # noqa: B008 - frozen
) -> tuple[HeadModel, DistillReport]:
    """Train all weights of ``start``, a pruned model, but the embeddings to agree with ``model``.

    Returns the distilled model, or ``start`` if that did not help, and the report. The loss is
    ``T^2 KL(model, student)`` of scores softened by ``T = 2``, plus the cross-entropy of any ``labels``. ``called``
    names ``start`` in messages. A fifth of the texts is held out. The epoch with the lowest KL divergence from
    ``model`` there is kept, and the training is accepted only if it is lower than that of ``start``, and no higher on
    what is read twice. With seconds left by the ``hooks`` it has as many batches as fit; the preparation of a
    resumed training does not count.
    """
    schedule = schedule or usual_schedule(model.card)
    learned, held_out = hold_out(inputs, seed)
    tokens = model.tokenize(inputs)
    network = separate(start).network.requires_grad_(True)
    # Most words do not occur in the few texts.
    network.get_input_embeddings().requires_grad_(False)
    left = hooks.left
    bounded = hooks.progress
    if hooks.checkpoint is None or not hooks.checkpoint.exists:
        bounded = until(bounded, left)
    texts = len(learned), labels is not None, len(held_out)
    unmeasured = DistillReport(False, f"{_NO_TIME}: {called} stays", *texts, None, None, ())
    scoring = 0.0
    try:
        compared = count_compared(inputs)
        teacher = Teacher(model, tokens, compared=compared, stage=TEACHER, progress=bounded)
        trial = HeldOut(teacher, [inputs[row] for row in held_out], held_out)

        def score(pause: Callable[[], None] | None) -> tuple[float, ...]:
            between = bounded
            if pause is not None:
                between = _call_between_batches(pause)
            return trial.compare(start, network=network, progress=between).score

        if left is None:
            before = score(None)
        else:
            ready = left()
            before = score(None)
            scoring = ready - left()
    except TimeIsUp:
        return start, unmeasured
    known = None
    if labels is not None:
        known = torch.as_tensor(labels[learned], device=model.device)

    def loss(network: nn.Module, inputs: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        given = None
        if known is not None:
            given = known[rows]
        numbers = learned[rows.cpu().numpy()]
        return teacher.loss(network, inputs, numbers, temperature=TEMPERATURE, labels=given)

    # A pass back takes twice as long as one forward.
    each = 3 * scoring * schedule.batch / len(held_out)
    training = optimise(
        network,
        start,
        Objective([inputs[row] for row in learned], loss, score),
        schedule=schedule,
        seed=seed,
        limit=Limit(scoring=scoring, each=each),
        hooks=replace(hooks, stage=STAGE),
    )
    sound = all(bool(weight.isfinite().all()) for weight in network.parameters())
    after = before
    if sound and training.best is not None:
        after = training.best
    first = Divergences.from_score(before)
    last = Divergences.from_score(after)
    accepted = last.is_better_than(first)
    change = last.describe_change(first, "it", f"{trial.count} held-out {model.card.words.items}")
    reason = _explain(training, sound, change, schedule, len(learned))
    if not accepted:
        reason += f": {called} stays"
    report = replace(
        unmeasured,
        accepted=accepted,
        reason=reason,
        agreement_before=first.agreement,
        held_out_agreement=last.agreement,
        epochs=tuple(DistillEpoch(epoch.epoch, epoch.loss, epoch.accuracy or 0.0) for epoch in training.epochs),
        kl_before=first.text,
        kl_after=last.text,
        repeats_before=first.repeats,
        repeats_after=last.repeats,
    )
    if not accepted:
        return start, report
    return start.with_network(network), report


def _explain(training: Training, sound: bool, change: str, schedule: Schedule, texts: int) -> str:
    """Say what a training on so many texts did: the ``change`` on held-out texts, if its weights are ``sound``."""
    if not training.epochs:
        return _NO_TIME
    if not sound:
        return "its weights are no longer finite numbers (a lower --learning-rate may help)"
    whole = schedule.epochs * math.ceil(texts / schedule.batch)
    if training.step < whole:
        done = schedule.epochs * training.step / whole
        change += f" (time allowed {done:.1f} of {schedule.epochs} epochs)"
    return change


def _call_between_batches(pause: Callable[[], None]) -> Progress:
    def between(stage: str, done: int, total: int) -> None:
        pause()

    return between
