"""Repairing a pruned model: in closed form without training (refit), or by fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cahp.models.head_model import HeadModel, LayerState
from cahp.models.surgery import cut
from cahp.models.training import Epoch, Schedule, train
from cahp.values import HeadMask, Input, Progress, Texts, silent

STAGE = "refit"
#: Strength of the pull towards the old weights, relative to the mean square of the context channels.
RIDGE = 0.1
#: Calibration texts; more of them repair little more.
CALIBRATION = 512


class _Seen(Exception):
    """The context vectors are there; the rest of the layer need not run."""


@dataclass(frozen=True)
class Refitted:
    """A pruned model with its output projections solved anew, or as it was where that did not help."""

    model: HeadModel
    accepted: bool
    reason: str
    examples: int


def split_held_out(texts: Texts) -> tuple[Texts, Texts]:
    """Four fifths to calibrate on and every fifth example to judge by."""
    rows = np.arange(len(texts))
    return texts.take(rows[rows % 5 != 4]), texts.take(rows[rows % 5 == 4])


def solve(
    model: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Input],
    *,
    ridge: float = RIDGE,
    progress: Progress = silent,
) -> HeadModel:
    """The model cut to ``mask``, its output projections refitted on unlabelled ``inputs``, first layer to last.

    With ``X`` the kept heads' context vectors in the pruned model and a column of ones, ``W0`` the old weights and
    ``Y = full residual + full attention output - pruned residual`` over real tokens:
    ``W = W0 + (X'X + ridge m I)^-1 X' (Y - X W0)``, ``m`` the mean square of the context channels, the intercept
    unpenalised. The full and the pruned model walk in step, so nothing is rerun and two hidden states per batch are
    all that is kept.
    """
    pruned = cut(model, mask)
    batches = model.batches(model.tokenize(inputs))
    full_states = [model.enter(batch) for batch in batches]
    pruned_states = list(full_states)
    total, done = model.layers * len(batches) * 2, 0
    for layer in range(model.layers):
        projection = pruned.projection(layer)
        width = projection.in_features
        gram = torch.zeros(width + 1, width + 1, dtype=torch.float64, device=model.device)
        cross = torch.zeros(width + 1, projection.out_features, dtype=torch.float64, device=model.device)
        for index, (ahead, behind) in enumerate(zip(full_states, pruned_states, strict=True)):
            progress(STAGE, done, total)
            real = ahead.real
            full_context, after = _context_and_next(model, ahead)
            target = ahead.hidden + model.projection(layer)(full_context) - behind.hidden
            context = _context(pruned, behind)
            missing = (target - projection(context))[real].double()
            ones = torch.ones(len(missing), 1, dtype=torch.float64, device=model.device)
            design = torch.cat([context[real].double(), ones], dim=1)
            gram += design.T @ design
            cross += design.T @ missing
            full_states[index] = after
            done += 1
        penalty = torch.full((width + 1,), ridge * float(gram.diagonal()[:-1].mean()), dtype=torch.float64)
        penalty[-1] = 0.0
        change = torch.linalg.solve(gram + penalty.diag().to(gram), cross)
        _add(projection, change)
        for index, behind in enumerate(pruned_states):
            progress(STAGE, done, total)
            pruned_states[index] = pruned.step(behind)
            done += 1
    progress(STAGE, total, total)
    return pruned


def _context_and_next(model: HeadModel, state: LayerState) -> tuple[Tensor, LayerState]:
    seen: list[Tensor] = []
    after = model.step(state, tap=lambda _, context: seen.append(context))
    return seen[0], after


def _context(model: HeadModel, state: LayerState) -> Tensor:
    seen: list[Tensor] = []

    def stop(_: int, context: Tensor) -> None:
        seen.append(context)
        raise _Seen

    with suppress(_Seen):
        model.step(state, tap=stop)
    return seen[0]


def _add(projection: nn.Linear, change: Tensor) -> None:
    weight = (projection.weight.double() + change[:-1].T).float()
    old = torch.zeros(projection.out_features) if projection.bias is None else projection.bias
    # New tensors: the old ones may be shared with the model this one was cut from.
    projection.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    projection.bias = nn.Parameter((old.double().to(change) + change[-1]).float(), requires_grad=False)


def refit(
    model: HeadModel,
    mask: HeadMask,
    texts: Texts,
    *,
    ridge: float = RIDGE,
    calibration: int = CALIBRATION,
    progress: Progress = silent,
) -> Refitted:
    """Refit on the inputs of ``texts`` (their labels unseen), and keep it only if held-out examples agree.

    Every fifth example of ``texts`` is held out: the refit stands if it answers at least as many of them rightly as
    the pruned model (on a tie: with no higher loss).
    """
    train, held_out = split_held_out(texts)
    spread = np.linspace(0, len(train) - 1, min(calibration, len(train))).astype(np.int64)
    inputs = train.take(np.unique(spread)).inputs
    solved = solve(model, mask, inputs, ridge=ridge, progress=progress)
    plain = cut(model, mask)
    before, after = (_answers(candidate, held_out) for candidate in (plain, solved))
    accepted = (after[0], -after[1]) >= (before[0], -before[1])
    reason = (
        f"{after[0]} of {len(held_out)} held-out texts right after refit, {before[0]} before"
        f"{'' if accepted else ': the old weights stay'}"
    )
    return Refitted(solved if accepted else plain, accepted, reason, len(inputs))


def _answers(model: HeadModel, texts: Texts) -> tuple[int, float]:
    labels = torch.as_tensor(texts.labels, device=model.device)
    right, loss = 0, 0.0
    for batch in model.batches(model.tokenize(texts.inputs)):
        logits = model.logits(batch)
        right += int((logits.argmax(-1) == labels[batch.rows]).sum())
        loss += float(nn.functional.cross_entropy(logits, labels[batch.rows], reduction="sum"))
    return right, loss / max(1, len(texts))


def finetune(
    model: HeadModel,
    mask: HeadMask,
    texts: Texts,
    *,
    schedule: Schedule = Schedule(),  # noqa: B008 - frozen
    seed: int = 42,
    progress: Progress = silent,
) -> tuple[HeadModel, list[Epoch]]:
    """The pruned model with all its weights trained on ``texts`` (the paper's recovery), and its epochs.

    Every fifth example is held out, and the epoch that answers most of them rightly is kept.
    """
    calibration, held_out = split_held_out(texts)
    pruned = cut(model, mask)
    # Its own weights: what `cut` shares must not be trained.
    network = copy.deepcopy(pruned.network).requires_grad_(True)
    history = train(
        network,
        pruned,
        calibration,
        schedule=schedule,
        validation=held_out,
        seed=seed,
        stage="finetune",
        progress=progress,
    )
    return HeadModel(network, model.tokenizer, model.card, attached=True), history
