"""Compare two pruned models on the same texts: of one full model, or of two models of the same shape."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cahp.models.cards import ModelCard
from cahp.outcomes import accuracy_change, same_predictions
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench
from cahp.tasks.answers import Evaluation, TokenEvaluation
from cahp.tasks.texts import Texts
from cahp.values import Bools, DataError, Estimate, HeadMask

#: Windows of a language model that a table lists.
_WINDOWS = 20


@dataclass(frozen=True, eq=False)
class Variant:
    """A pruned model: its mask and its recovery."""

    mask: HeadMask
    recover: str = "none"

    def __str__(self) -> str:
        return f"{self.mask.sha256}-{self.recover}"


#: One side of a comparison: the bench of a full model, and its pruned variant.
Side = tuple[Bench, Variant]


@dataclass(frozen=True, eq=False)
class Versus:
    """The evaluations of two models on the same texts, and the paired ``change`` in accuracy from A to B.

    Those of language models predict tokens of windows. Without labels there is no ``change``, and ``right_alone``
    raises ``ValueError``.
    """

    a: Evaluation
    b: Evaluation
    change: Estimate | None

    @property
    def differ(self) -> Bools:
        """Whether each prediction differs: of a text, or of a token of a language model."""
        return ~same_predictions(self.a, self.b)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of predictions that differ, and of all."""
        return int(self.differ.sum()), len(self.differ)

    @property
    def right_alone(self) -> tuple[int, int]:
        """Number of texts that only A predicts correctly, and that only B does."""
        a = self.a.correct
        b = self.b.correct
        return int((a & ~b).sum()), int((b & ~a).sum())

    def table(self, texts: Texts, a: str, b: str, *, classes: Sequence[str] = ()) -> dict[str, list[str]]:
        """Return the ``texts`` for which predictions differ, their labels if there are any, and both predictions.

        ``a`` and ``b`` name the predictions, ``classes`` labels and predictions (empty: as the model names them). Of
        windows it has the number of tokens that differ, those with most first.
        """
        if isinstance(self.a, TokenEvaluation):
            # Windows that are read twice, whose tokens do not count, come last.
            differ = np.bincount(self.a.places[self.differ], minlength=len(texts))
            rows = [int(row) for row in np.argsort(-differ, kind="stable")[:_WINDOWS] if differ[row]]
            counts = [f"{differ[row]} of {self.a.windows[row].scored}" for row in rows]
            return {"tokens that differ": counts, "text": [texts.get_line(row) for row in rows]}
        apart = np.flatnonzero(self.differ).tolist()
        names = classes or texts.classes
        columns = {"text": [texts.get_line(row) for row in apart]}
        if texts.labelled:
            columns["label"] = [names[texts.labels[row]] for row in apart]
        for name, evaluation in ((a, self.a), (b, self.b)):
            columns[name] = [names[evaluation.predictions[row]] for row in apart]
        return columns


def mismatch(a: ModelCard, b: ModelCard) -> str:
    """Return why pruned models of ``a`` and ``b`` cannot be compared, as a clause; empty if they can."""
    if (a.layers, a.heads) != (b.layers, b.heads):
        return f"A's model has {a.layers} layers of {a.heads} heads, and B's {b.layers} of {b.heads}"
    if a.task is not b.task or len(a.labels) != len(b.labels):
        return "the two models do not predict the same classes or tokens"
    return ""


def compare_variants(a: Side, b: Side) -> Versus | None:
    """Compare two pruned models on B's evaluation texts (None: one of them is trained and not in the store).

    Two benches are two models on the same data: each has its own tokenizer and is recovered on the calibration texts of
    its own bench. A's predictions are translated to B's classes.

    Raises:
        DataError: If the models do not divide the labels of the data into the same classes.
    """
    bench = b[0]
    texts = bench.evaluation
    of_b = _evaluate(b, texts)
    of_a: Evaluation | None
    if a[0] is bench or a[0].evaluation.sha256 == texts.sha256:
        of_a = _evaluate(a, texts)
    elif not texts.task.items_are_texts:
        raise DataError("the two models cut the texts into different tokens, so they cannot be compared")
    else:
        ours, theirs = ([name.strip().casefold() for name in one.class_names] for one in (a[0], bench))
        if sorted(ours) != sorted(theirs):
            raise DataError(
                "the two models divide the labels of the data into different classes, so they cannot be compared; open "
                "both with label maps that agree"
            )
        # A's class for each of B's.
        counterparts = np.array([ours.index(name) for name in theirs])
        labels = texts.labels
        if texts.labelled:
            labels = counterparts[labels]
        of_a = _evaluate(a, replace(texts, labels=labels, classes=a[0].card.labels))
        if of_a is not None:
            of_a = Evaluation(of_a.scores[:, counterparts], texts.labels, texts.classes)
    if of_a is None or of_b is None:
        return None
    change = accuracy_change(of_b, of_a, bench.settings.seed) if of_b.labelled else None
    return Versus(of_a, of_b, change)


def _evaluate(side: Side, texts: Texts) -> Evaluation | None:
    bench, variant = side
    recovered = None
    if not variant.mask.is_full and RECOVERIES[variant.recover].imitates:
        recovered = bench.recoveries.read(variant.mask, variant.recover)
        if recovered is None:
            return None
    elif not variant.mask.is_full:
        recovered = bench.recoveries.recover(variant.mask, variant.recover)
    return bench.measurements.evaluate(texts, mask=variant.mask, recovered=recovered)
