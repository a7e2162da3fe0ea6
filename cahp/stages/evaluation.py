"""Predictions of a model with and without heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cahp import processes as parallel
from cahp.values import Evaluation, HeadMask, PartListener, Precision, Progress, Texts, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

#: Smallest gain in accuracy by permuted labels that is worth a warning.
_SUSPICIOUS = 0.15


def evaluate(
    model: HeadModel,
    texts: Texts,
    *,
    mask: HeadMask | None = None,
    precision: Precision = "float32",
    progress: Progress = silent,
    on_part: PartListener | None = None,
) -> Evaluation:
    """Predictions of ``model`` on ``texts``, without the heads that ``mask`` drops.

    Progress counts examples; the callback may stop the work between batches. ``on_part`` receives the predictions so
    far. Several processes share the batches, and each gets all predictions.
    """
    gates = None if mask is None else model.gates(mask.keep)
    batches = parallel.share(model.batches(model.tokenize(texts.inputs)))
    if on_part is not None:
        # Batches are ordered by length, but every part should have texts of all lengths.
        batches = [batches[number] for number in np.random.default_rng(0).permutation(len(batches))]
    part = evaluate_batches(
        batches,
        lambda number: model.logits(batches[number], gates=gates, precision=precision),
        texts,
        progress=progress,
        on_part=on_part,
    )
    # A text has scores from one process, and 0 from the others.
    return Evaluation(parallel.total(part.scores), texts.labels, texts.classes)


def evaluate_batches(
    batches: Sequence[Batch],
    logits_of: Callable[[int], Tensor],
    texts: Texts,
    *,
    progress: Progress = silent,
    on_part: PartListener | None = None,
) -> Evaluation:
    """Predictions on ``texts`` from the class scores ``(b, C)`` that ``logits_of`` returns for a batch's number.

    ``on_part`` is called after the first batch and whenever the texts so far have grown by half.
    """
    scores = np.zeros((len(texts), len(texts.classes)), dtype=np.float32)
    total, done, reported = sum(map(len, batches)), 0, 0
    logits_of_batches: list[Tensor] = []
    for number, batch in enumerate(batches):
        progress("evaluation", done, total)
        logits_of_batches.append(logits_of(number).float())
        done += len(batch)
        if on_part is not None and 1.5 * reported <= done < total:
            reported = done
            rows = np.concatenate([one.rows for one in batches[: number + 1]])
            part = np.concatenate([logits.cpu().numpy() for logits in logits_of_batches])
            on_part(rows, Evaluation(part, texts.labels[rows], texts.classes))
    # Copied at the end, so that a device does not wait for the processor between batches.
    for batch, logits in zip(batches, logits_of_batches, strict=True):
        scores[batch.rows] = logits.cpu().numpy()
    progress("evaluation", done, total)
    return Evaluation(scores, texts.labels, texts.classes)


def better_labelling(evaluation: Evaluation) -> tuple[float, dict[str, str]] | None:
    """A permutation of the labels under which the model would be far more accurate, if there is one.

    Many checkpoints permute the classes of their data set. Returns that accuracy and, for each class of the data that
    changes, the model's class, as ``--label-map`` takes it.
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
