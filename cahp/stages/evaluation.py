"""What a model answers with and without heads, and how sure one can be of the difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cahp import processes as parallel
from cahp.values import Delta, Evaluation, Floats, HeadMask, Ints, Metrics, Precision, Progress, Texts, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

_DRAWS = 10_000
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


def wilson(right: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion."""
    from scipy.stats import binomtest

    interval = binomtest(right, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def metrics(evaluation: Evaluation, *, full: Evaluation | None = None) -> Metrics:
    """Summarise an evaluation; ``full`` is the unpruned model's on the same examples.

    Raises:
        ValueError: If there are no examples, or ``full`` saw others.
    """
    from sklearn.metrics import f1_score

    total = len(evaluation)
    if not total:
        raise ValueError("no examples to summarise")
    right = int(evaluation.correct.sum())
    present = np.unique(evaluation.labels)
    return Metrics(
        accuracy=right / total,
        # Over the classes that occur: an absent class has no F1.
        macro_f1=float(
            f1_score(evaluation.labels, evaluation.predictions, labels=present, average="macro", zero_division=0.0)
        ),
        loss=float(evaluation.losses.mean()),
        n=total,
        ci95=wilson(right, total),
        agreement=None if full is None else float((_same(evaluation, full)).mean()),
    )


def delta(evaluation: Evaluation, full: Evaluation, *, seed: int = 42) -> Delta:
    """How much accuracy was lost (negative) or won against ``full``, in points."""
    _same(evaluation, full)
    change = evaluation.correct.astype(np.int64) - full.correct.astype(np.int64)
    total = len(change)
    # A resample of values that are -1, 0 or 1 is a multinomial draw of their counts.
    shares = np.array([(change == value).mean() for value in (-1, 0, 1)])
    draws = np.random.default_rng(seed).multinomial(total, shares, size=_DRAWS) @ np.array([-1, 0, 1]) / total
    low, high = np.percentile(draws * 100, [2.5, 97.5])
    return Delta(float(change.mean() * 100), (float(low), float(high)))


def flipped(evaluation: Evaluation, full: Evaluation) -> Ints:
    """Rows whose answer differs from the full model's."""
    return np.flatnonzero(~_same(evaluation, full))


def _same(evaluation: Evaluation, full: Evaluation) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if not np.array_equal(evaluation.labels, full.labels):
        raise ValueError("the two evaluations are of different examples")
    return np.asarray(evaluation.predictions == full.predictions)


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
