"""Distillation: train a pruned model to predict as the full model does, on texts without labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cahp import processes as parallel
from cahp.models.attention import ForwardCall, calling
from cahp.models.head_model import Batch, HeadModel, Tokens
from cahp.models.surgery import separate
from cahp.models.training import (
    Agreement,
    Loss,
    Schedule,
    Score,
    TrainingCheckpoint,
    Watch,
    held_out_rows,
    logits_of,
    optimise,
)
from cahp.models.training_state import Epoch, Left, TimeIsUp, until
from cahp.values import Input, Ints, Progress, silent

#: Bytes of hidden states that a teacher keeps; what does not fit is computed again for every batch.
ROOM = 512 << 20
STAGE = "distill"
#: The pass of the full model before the training.
TEACHER = "teacher"
#: A higher rate than that of fine-tuning, since the teacher's scores carry more information than labels.
SCHEDULE = Schedule(learning_rate=1e-4, batch=64, floor=0.02)


@dataclass(frozen=True)
class Goal:
    """The loss of a distillation: ``T^2 KL(teacher, student) + hidden * sum_l mean (h_l - h*_l)^2 + labels * CE``.

    Scores are softened by the temperature ``T`` (Hinton, Vinyals and Dean 2015). ``h_l`` are the hidden states after
    layer ``l`` on real tokens, and ``h*_l`` those of the full model.
    """

    temperature: float = 2.0
    hidden: float = 0.0
    labels: float = 0.0


@dataclass(frozen=True)
class Distillation:
    """A pruned model after distillation, or before it if it did not help (not ``accepted``).

    Of ``held_out`` texts, ``before`` and ``after`` had the prediction of the full model (None: time was up before that
    was measured). It was trained on ``examples``, with ``batches`` of ``planned`` ones: fewer if time ran out.
    """

    model: HeadModel
    accepted: bool
    reason: str
    examples: int
    held_out: int
    before: int | None
    after: int | None
    epochs: tuple[Epoch, ...]
    batches: int = 0
    planned: int = 0


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
    left: Left | None = None,
) -> Distillation:
    """Train all weights of ``start``, a pruned model, but the embeddings to agree with ``model``.

    ``called`` names ``start`` in messages. Every fifth text is held out. The epoch with the best agreement there is
    kept (on a tie the lower divergence), and the training is accepted only if it agrees better than ``start``.
    ``labels`` are read only if the goal weighs them. With a ``checkpoint`` an interrupted training is resumed. With
    seconds ``left`` it has as many batches as fit; the preparation of a resumed training does not count. See
    ``cahp.models.training.optimise``.
    """
    learned, held_out = held_out_rows(len(inputs))
    tokens = model.tokenize(inputs)
    kept_back = [tokens[row] for row in held_out]
    network = separate(start).network.requires_grad_(True)
    # Most words do not occur in the few texts.
    network.get_input_embeddings().requires_grad_(False)
    before, ready = None, 0.0 if left is None else left()
    bounded = progress if checkpoint is not None and checkpoint.exists else until(progress, left)
    try:
        wanted = logits_of(model, tokens, stage=TEACHER, progress=bounded)
        score = _score(start, network, kept_back, wanted[held_out], bounded)
        ready = 0.0 if left is None else left()
        before = score(None)
    except TimeIsUp:
        return _untrained(start, called, len(learned), len(held_out), None)
    scoring = 0.0 if left is None else ready - left()
    made = optimise(
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
        score=score,
        schedule=schedule,
        seed=seed,
        stage=STAGE,
        progress=progress,
        watch=watch,
        checkpoint=checkpoint,
        left=left,
        scoring=scoring,
        # A pass back takes twice as long as one forward.
        each=3 * scoring * schedule.batch / len(held_out),
    )
    if not made.epochs:
        return _untrained(start, called, len(learned), len(held_out), before)
    sound = all(bool(weight.isfinite().all()) for weight in network.parameters())
    after = made.best if sound and made.best is not None else before
    accepted, (was, now) = after > before, (round(one[0] * len(held_out)) for one in (before, after))
    # Each process takes a batch at a time.
    whole = schedule.epochs * math.ceil(math.ceil(len(learned) / schedule.batch) / parallel.world())
    if not sound:
        reason = "its weights are no longer finite numbers (a lower --learning-rate may help)"
    else:
        reason = f"{now} of {len(held_out)} held-out texts answered as by the full model after it, {was} before"
        if made.step < whole:
            done = schedule.epochs * made.step / whole
            reason += f" (time allowed {done:.1f} of {schedule.epochs} epochs)"
    return Distillation(
        start.around(network) if accepted else start,
        accepted,
        reason if accepted else f"{reason}: {called} stays",
        len(learned),
        len(held_out),
        was,
        now,
        made.epochs,
        made.step,
        whole,
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


def _untrained(
    start: HeadModel, called: str, examples: int, held_out: int, before: Sequence[float] | None
) -> Distillation:
    same = None if before is None else round(before[0] * held_out)
    return Distillation(start, False, f"no time was left for it: {called} stays", examples, held_out, same, same, ())


def _score(student: HeadModel, network: nn.Module, tokens: Tokens, wanted: Tensor, progress: Progress) -> Score:
    def score(pause: Callable[[], None] | None) -> tuple[float, ...]:
        between: Progress = progress if pause is None else lambda *_: pause()
        found = Agreement.of(logits_of(student, tokens, network=network, progress=between), wanted)
        return found.same / len(tokens), found.nearness

    return score


class Teacher:
    """Hidden states of the full model after each layer, on the real tokens of the training texts.

    Computed once where those of all texts fit in ``room`` bytes (``kept``), else for each batch. A layer that is used
    in many passes has hidden states after each.
    """

    def __init__(self, model: HeadModel, tokens: Tokens, *, room: int = ROOM) -> None:
        self._model = model
        self._states: dict[int, Tensor] = {}
        passes = len(_hidden_states(model, model.batches(tokens[:1])[0])[0]) if tokens else 0
        self.nbytes = 4 * passes * model.card.hidden * sum(len(entry["input_ids"]) for entry in tokens)
        # Several processes draw other texts in every epoch, and would each keep all.
        self.kept = self.nbytes <= room and parallel.world() == 1
        if self.kept:
            for batch in model.batches(tokens):
                states, real = _hidden_states(model, batch)
                for row, hidden, mine in zip(batch.rows, torch.stack(states, 1), real, strict=True):
                    self._states[int(row)] = hidden[:, mine]

    def states(self, inputs: Mapping[str, Tensor], rows: Sequence[int] | Ints) -> list[Tensor]:
        """Hidden states ``(real tokens of the batch, hidden)`` after each pass."""
        if self.kept:
            return list(torch.cat([self._states[int(row)] for row in rows], dim=1))
        real = inputs["attention_mask"].bool()
        states, _ = _hidden_states(self._model, Batch(np.asarray(rows), real.sum(1), dict(inputs)))
        return [state[real] for state in states]


@torch.no_grad()
def _hidden_states(model: HeadModel, batch: Batch) -> tuple[list[Tensor], Tensor]:
    states: list[Tensor] = []
    model.logits(batch, leaving=states.append)
    return states, batch.tensors["attention_mask"].bool()
