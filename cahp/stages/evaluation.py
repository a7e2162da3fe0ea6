"""Predictions of a model with and without heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cahp import processes as parallel
from cahp.values import Evaluation, Floats, HeadMask, Precision, Progress, Texts, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

#: By how much another reading of the labels must win before it is worth a warning, in accuracy.
_SUSPICIOUS = 0.15


def evaluate(
    model: HeadModel,
    texts: Texts,
    *,
    mask: HeadMask | None = None,
    precision: Precision = "float32",
    stage: str = "evaluation",
    progress: Progress = silent,
) -> Evaluation:
    """Answers of ``model`` on ``texts``, with the heads outside ``mask`` gated off.

    Progress counts examples; the callback may stop the work between batches. Processes that work together share the
    batches, and each gets all answers.
    """
    gates = None if mask is None else model.gates(mask.keep)
    batches = parallel.share(model.batches(model.tokenize(texts.inputs)))
    found = answers(
        batches,
        lambda number: model.logits(batches[number], gates=gates, precision=precision),
        texts,
        stage=stage,
        progress=progress,
    )
    # Each text was answered by one process, and is 0 in the others.
    return Evaluation(parallel.total(found.predictions), texts.labels, parallel.total(found.losses), texts.classes)


def answers(
    batches: Sequence[Batch],
    logits_of: Callable[[int], Tensor],
    texts: Texts,
    *,
    stage: str = "evaluation",
    progress: Progress = silent,
) -> Evaluation:
    """Answers on ``texts`` whose ``batches`` get the scores ``(b, C)`` that ``logits_of`` a batch's number gives."""
    import torch
    from torch import nn

    predictions = np.zeros(len(texts), dtype=np.int64)
    losses = np.zeros(len(texts))
    total, done = sum(map(len, batches)), 0
    found: list[Tensor] = []
    for number, batch in enumerate(batches):
        progress(stage, done, total)
        found.append(logits_of(number).float())
        done += len(batch)
    # Fetched at last: a device need not wait for the processor between two batches.
    for batch, scores in zip(batches, found, strict=True):
        logits, labels = scores.cpu(), torch.as_tensor(texts.labels[batch.rows])
        predictions[batch.rows] = logits.argmax(-1).numpy()
        losses[batch.rows] = nn.functional.cross_entropy(logits, labels, reduction="none").numpy()
    progress(stage, done, total)
    return Evaluation(predictions, texts.labels, losses, texts.classes)


def scored(scores: Floats, beside: Evaluation) -> Evaluation:
    """What class scores ``(n, C)`` come to, on the texts that another model's answers ``beside`` are on."""
    from scipy.special import log_softmax

    losses = -log_softmax(scores, axis=1)[np.arange(len(scores)), beside.labels]
    return Evaluation(scores.argmax(axis=1).astype(np.int64), beside.labels, losses, beside.classes)


def better_labelling(evaluation: Evaluation) -> tuple[float, dict[str, str]] | None:
    """Another reading of the labels under which the model would be far more accurate, if there is one.

    Many checkpoints permute the classes of their data set. Returns the accuracy it would reach and, for each class
    of the data that it reads differently, the model's class: what ``--label-map`` takes.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import confusion_matrix

    classes = evaluation.classes
    confusion = confusion_matrix(evaluation.labels, evaluation.predictions, labels=range(len(classes)))
    rows, columns = linear_sum_assignment(confusion, maximize=True)
    accuracy = float(confusion[rows, columns].sum() / max(1, len(evaluation)))
    if accuracy - float(evaluation.correct.mean()) < _SUSPICIOUS:
        return None
    return accuracy, {classes[row]: classes[column] for row, column in zip(rows, columns, strict=True) if row != column}
