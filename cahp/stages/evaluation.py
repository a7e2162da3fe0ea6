"""Predictions of a model with and without heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cahp.tasks.answers import Evaluation, PartListener
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, Precision, Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel
    from cahp.models.reading import Reader

#: Smallest gain in accuracy by permuted labels that is worth a warning.
_SUSPICIOUS = 0.15
#: Tokens of a batch of windows whose first part is waited for.
_FIRST = 256


def evaluate(
    model: HeadModel,
    texts: Texts,
    *,
    mask: HeadMask | None = None,
    precision: Precision = "float32",
    progress: Progress = silent,
    on_part: PartListener | None = None,
    reader: Reader | None = None,
) -> Evaluation:
    """Predictions of ``model`` on ``texts``, without the heads that ``mask`` drops.

    A language model is compared with the full model of the ``reader`` (None: it is the full model).

    Progress counts examples; the callback may stop the work between batches. ``on_part`` receives the predictions so
    far.
    """
    from cahp.models.reading import Reader

    gates = None
    if mask is not None:
        gates = model.gates(mask.keep)
    read = (reader or Reader(texts)).read
    size = None
    if on_part is not None and texts.task.predicts_often and model.device.type == "cpu":
        size = _FIRST
    batches = model.batches(model.tokenize(texts.inputs), size=size)
    if on_part is not None:
        # Batches are ordered by length, but every part should have texts of all lengths.
        batches = [batches[number] for number in np.random.default_rng(0).permutation(len(batches))]
        # A part needs items of the data, which repeated tokens are not.
        own = set(texts.text_rows)
        batches.sort(key=lambda batch: own.isdisjoint(batch.rows.tolist()))
    return evaluate_batches(
        batches,
        lambda number: read(model, batches[number], gates=gates, precision=precision),
        texts,
        progress=progress,
        on_part=on_part,
    )


def evaluate_batches(
    batches: Sequence[Batch],
    read: Callable[[int], Tensor],
    texts: Texts,
    *,
    progress: Progress = silent,
    on_part: PartListener | None = None,
) -> Evaluation:
    """Predictions on ``texts`` from what a ``Reader`` returns for a batch, which ``read`` takes by its number.

    ``on_part`` is called after the first batch and whenever the texts so far have grown by half.
    """
    scores = np.zeros((len(texts), *texts.task.get_answer_shape(texts)), dtype=np.float32)
    total = sum(map(len, batches))
    done = 0
    reported = 0
    answers: list[Tensor] = []
    for number, batch in enumerate(batches):
        progress("evaluation", done, total)
        answers.append(read(number))
        done += len(batch)
        if on_part is not None and 1.5 * reported <= done < total:
            reported = done
            rows = np.concatenate([one.rows for one in batches[: number + 1]])
            part = np.concatenate([answer.cpu().numpy() for answer in answers])
            on_part(rows, texts.take(rows).evaluation_of(part))
    # Copied at the end, so that a device does not wait for the processor between batches.
    for batch, answer in zip(batches, answers, strict=True):
        scores[batch.rows] = answer.cpu().numpy()
    progress("evaluation", done, total)
    return texts.evaluation_of(scores)


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
