"""Distillation: a pruned model is trained to say what the full one says, on texts that need no labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cahp.models.attention import ForwardCall, calling
from cahp.models.course import Epoch
from cahp.models.head_model import HeadModel, Tokens
from cahp.models.surgery import separate
from cahp.models.teacher import ROOM, Agreement, Teacher, logits_of
from cahp.models.training import (
    Loss,
    Pace,
    Schedule,
    Score,
    Training,
    TrainingCheckpoint,
    Watch,
    held_out_rows,
    optimise,
)
from cahp.values import Input, Progress, silent

STAGE = "distill"
#: The pass of the full model that comes before.
TEACHER = "teacher"
#: A higher rate than that of fine-tuning: the teacher's scores say more of each text than its label does.
SCHEDULE = Schedule(learning_rate=1e-4, batch=64, floor=0.02)


@dataclass(frozen=True)
class Goal:
    """What a distillation lessens: ``T^2 KL(teacher, student) + hidden * sum_l mean (h_l - h*_l)^2 + labels * CE``.

    Scores are softened by the temperature ``T`` (Hinton, Vinyals and Dean 2015). ``h_l`` are the hidden states after
    layer ``l`` on real tokens, with a star the full model's.
    """

    temperature: float = 2.0
    hidden: float = 0.0
    labels: float = 0.0


@dataclass(frozen=True)
class Distillation:
    """A pruned model that learned from the full one, or as it was before where that did not help (not ``accepted``).

    ``held_out`` texts evaluated it; of these ``before`` and ``after`` were answered as by the full model. ``examples``
    were learned from, and a training that is ``hurried`` ended before its last batch because time was up.
    """

    model: HeadModel
    accepted: bool
    reason: str
    examples: int
    held_out: int
    before: int
    after: int
    epochs: tuple[Epoch, ...]
    hurried: bool


def distill(
    model: HeadModel,
    start: HeadModel,
    inputs: Sequence[Input],
    *,
    labels: NDArray[np.int64] | None = None,
    goal: Goal = Goal(),
    schedule: Schedule = SCHEDULE,
    called: str = "the refit",
    room: int = ROOM,
    seed: int = 42,
    progress: Progress = silent,
    watch: Watch | None = None,
    checkpoint: TrainingCheckpoint | None = None,
    pace: Pace | None = None,
) -> Distillation:
    """Train all weights of ``start`` (a pruned model, ``called`` so) but the word embeddings to agree with ``model``.

    Every fifth text is held out. The epoch that agrees best with the full model there is kept (share of equal answers;
    on a tie the lower divergence), and the whole only if it agrees better than ``start``. ``labels`` are read only if
    the goal weighs them. With a ``checkpoint`` a training that was stopped is resumed; with a ``pace`` it ends when
    time is up. See ``cahp.models.training.optimise``.
    """
    learned, held_out = held_out_rows(len(inputs))
    tokens = model.tokenize(inputs)
    wanted = logits_of(model, tokens, stage=TEACHER, progress=progress)
    kept_back = [tokens[row] for row in held_out]

    before = _agreement(start, kept_back, wanted[held_out])
    network = separate(start).network.requires_grad_(True)
    # The texts are few, and most words are not among them.
    network.get_input_embeddings().requires_grad_(False)
    reached: list[Training] = []

    def note(training: Training) -> None:
        reached[:] = [training]
        if watch is not None:
            watch(training)

    history = optimise(
        network,
        start,
        [inputs[row] for row in learned],
        loss=_loss(
            model,
            goal,
            wanted[learned],
            None if labels is None else torch.as_tensor(labels[learned], device=model.device),
            Teacher(model, [tokens[row] for row in learned], room=room) if goal.hidden else None,
        ),
        score=_score(start, network, kept_back, wanted[held_out]),
        schedule=schedule,
        seed=seed,
        stage=STAGE,
        progress=progress,
        watch=note,
        checkpoint=checkpoint,
        pace=pace,
    )
    sound = all(bool(weight.isfinite().all()) for weight in network.parameters())
    student = start.around(network)
    after = _agreement(student, kept_back, wanted[held_out]) if sound and history else before
    accepted = after > before
    hurried = not reached or reached[0].step < reached[0].total
    if not history:
        reason = "no time was left for it"
    elif not sound:
        reason = "its weights are no longer finite numbers (a lower --learning-rate may help)"
    else:
        reason = (
            f"{after.same} of {len(held_out)} held-out texts answered as by the full model after it, {before.same} "
            f"before{f' (its time was up in epoch {len(history)} of {schedule.epochs})' if hurried else ''}"
        )
    return Distillation(
        student if accepted else start,
        accepted,
        reason if accepted else f"{reason}: {called} stays",
        len(learned),
        len(held_out),
        before.same,
        after.same,
        tuple(history),
        hurried,
    )


def _loss(model: HeadModel, goal: Goal, wanted: Tensor, labels: Tensor | None, teacher: Teacher | None) -> Loss:
    softened = (wanted / goal.temperature).log_softmax(-1)

    def loss(network: nn.Module, inputs: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        states: list[Tensor] = []
        with calling(ForwardCall(leaving=states.append if teacher is not None else None)):
            logits = model.scores(inputs, network)
        mine = (logits / goal.temperature).log_softmax(-1)
        total = goal.temperature**2 * nn.functional.kl_div(mine, softened[rows], reduction="batchmean", log_target=True)
        if teacher is not None:
            real = inputs["attention_mask"].bool()
            for state, full in zip(states, teacher.states(inputs, rows.tolist()), strict=True):
                total = total + goal.hidden * nn.functional.mse_loss(state[real], full)
        if labels is not None and goal.labels:
            total = total + goal.labels * nn.functional.cross_entropy(logits, labels[rows])
        return total

    return loss


def _score(student: HeadModel, network: nn.Module, tokens: Tokens, wanted: Tensor) -> Score:
    def score(pause: Callable[[], None] | None) -> tuple[float, ...]:
        between: Progress = silent if pause is None else lambda *_: pause()
        found = Agreement.of(logits_of(student, tokens, network=network, progress=between), wanted)
        return found.same / len(tokens), found.nearness

    return score


def _agreement(model: HeadModel, tokens: Tokens, wanted: Tensor) -> Agreement:
    return Agreement.of(logits_of(model, tokens), wanted)
