"""Compare two pruned models on the same texts: of one full model, or of two models of the same shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cahp.board.budget_sweep import recovered_by
from cahp.data.tables import join_quoted
from cahp.models.cards import ModelCard
from cahp.outcomes import accuracy_change, same_predictions
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench
from cahp.run.recoveries import Recovered
from cahp.tasks.answers import Evaluation, TokenEvaluation
from cahp.tasks.texts import Texts
from cahp.values import DataError, Estimate, HeadMask

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
    def apart(self) -> list[int]:
        """Rows of the texts for which the predictions differ, or of the windows in which some do."""
        rows = np.flatnonzero(~same_predictions(self.a, self.b))
        if isinstance(self.a, TokenEvaluation):
            rows = np.unique(self._places[rows])
        return [int(row) for row in rows]

    @property
    def counts(self) -> tuple[int, int]:
        """Number of predictions that differ, and of all: of texts, or of the tokens of a language model."""
        same = same_predictions(self.a, self.b)
        return int((~same).sum()), len(same)

    @property
    def noun(self) -> str:
        """What is predicted, in the plural."""
        return "tokens" if isinstance(self.a, TokenEvaluation) else "texts"

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """The row of the window of each token."""
        assert isinstance(self.a, TokenEvaluation)
        return self.a.rows_of_tokens

    @property
    def right_alone(self) -> tuple[int, int]:
        """Number of texts that only A predicts correctly, and that only B does."""
        a = self.a.correct
        b = self.b.correct
        return int((a & ~b).sum()), int((b & ~a).sum())

    def table(self, texts: Texts, a: str, b: str, *, classes: Sequence[str] = ()) -> dict[str, list[str]]:
        """Return the ``texts`` that are ``apart``, their labels if there are any, and the predictions, as columns.

        ``classes`` are the names of labels and predictions (empty: those of the model).
        ``a`` and ``b`` name those of the predictions. Of windows their KL divergences from the full model and the
        number of tokens that differ are returned instead, those first in which B differs most from the full model.
        """
        if isinstance(self.a, TokenEvaluation) and isinstance(self.b, TokenEvaluation):
            return self._window_table(texts, {a: self.a.window_divergences, b: self.b.window_divergences})
        rows = self.apart
        answers = {a: self.a.predictions, b: self.b.predictions}
        if texts.labelled:
            answers = {"label": texts.labels, **answers}
        classes = classes or texts.classes
        columns = {"text": [texts.get_line(row) for row in rows]}
        for name, column in answers.items():
            columns[name] = [classes[column[row]] for row in rows]
        return columns

    def _window_table(self, texts: Texts, divergences: Mapping[str, NDArray[np.float64]]) -> dict[str, list[str]]:
        """Return the windows that are ``apart``; ``divergences`` are those of A and of B from the full model."""
        assert isinstance(self.a, TokenEvaluation)
        of_b = list(divergences.values())[-1]
        rows = sorted(self.apart, key=lambda row: -of_b[row])[:_WINDOWS]
        columns = {}
        for name, divergence in divergences.items():
            # The full model does not differ from itself.
            if divergence.any():
                columns[f"KL, {name}"] = [f"{divergence[row]:.3f}" for row in rows]
        differ = np.bincount(self._places[~same_predictions(self.a, self.b)], minlength=len(texts))
        columns["tokens that differ"] = [f"{differ[row]} of {self.a.count_scored(row)}" for row in rows]
        columns["text"] = [texts.get_line(row) for row in rows]
        return columns


def mismatch(a: ModelCard, b: ModelCard) -> str:
    """Return why pruned models of ``a`` and ``b`` cannot be compared, as a clause; empty if they can."""
    if (a.layers, a.heads) != (b.layers, b.heads):
        return f"A's model has {a.layers} layers of {a.heads} heads, and B's {b.layers} of {b.heads}"
    if a.task is not b.task:
        return "one of them predicts classes, and the other the next tokens"
    if a.task.predicts_often and a.sha256 != b.sha256:
        return "language models are compared with pruned versions of themselves only, as their tokens differ"
    if len(a.labels) != len(b.labels):
        return f"A's model has {len(a.labels)} classes, and B's {len(b.labels)}"
    if {_folded(name) for name in a.labels} != {_folded(name) for name in b.labels}:
        return f"A's model answers {join_quoted(a.labels)}, and B's {join_quoted(b.labels)}"
    return ""


def versus(a: Side, b: Side) -> Versus | None:
    """Compare two pruned models on B's evaluation texts (None: one of them is trained and not in the store).

    Two benches are two models on the same data: each has its own tokenizer and is recovered on the calibration texts of
    its own bench. A's predictions are translated to B's classes.

    Raises:
        DataError: If the models do not divide the labels of the data into the same classes.
    """
    bench = b[0]
    of_b = _evaluate(b, bench.evaluation)
    of_a = _evaluate(a, bench.evaluation) if a[0] is bench else _translate(a, bench)
    if of_a is None or of_b is None:
        return None
    change = accuracy_change(of_b, of_a, bench.settings.seed) if of_b.labelled else None
    return Versus(of_a, of_b, change)


def _evaluate(side: Side, texts: Texts) -> Evaluation | None:
    bench, variant = side
    recovered: Recovered | None
    if variant.mask.is_full or not RECOVERIES[variant.recover].imitates:
        recovered = recovered_by(variant.recover, bench, variant.mask)
    else:
        recovered = bench.recoveries.read_distilled(variant.mask)
        if recovered is None:
            return None
    return bench.measurements.evaluate(texts, mask=variant.mask, recovered=recovered)


def _translate(a: Side, b: Bench) -> Evaluation | None:
    """Evaluate A on the evaluation texts of ``b``, in the classes of ``b``."""
    if not (a[0].evaluation.task.items_are_texts and b.evaluation.task.items_are_texts):
        if a[0].evaluation.sha256 != b.evaluation.sha256:
            raise DataError("the two models cut the texts into different tokens, so they cannot be compared")
        return _evaluate(a, b.evaluation)
    texts = b.evaluation
    classes = a[0].card.labels
    counterparts = _counterparts(a[0], b)
    if classes == texts.classes and (counterparts == np.arange(len(counterparts))).all():
        # The same texts and labels: an earlier evaluation of A's model is found in the store.
        return _evaluate(a, texts)
    labels = texts.labels
    if texts.labelled:
        labels = counterparts[labels]
    evaluation = _evaluate(a, Texts(texts.first, texts.second, labels, classes))
    if evaluation is None:
        return None
    return Evaluation(evaluation.scores[:, counterparts], texts.labels, texts.classes)


def _counterparts(a: Bench, b: Bench) -> NDArray[np.int64]:
    """Return A's class for each of B's, shape ``(C,)``."""
    alike = {_folded(name): name for name in a.card.labels}
    names = {name: alike.get(_folded(name)) for name in b.card.labels}
    # The labels of the data count more than class names: "LABEL_0" of two models need not be the same class.
    by_label = {(name, a.reading.get(label)) for label, name in b.reading.items()}
    names.update(by_label)
    classes = [a.card.labels.index(name) for name in names.values() if name is not None]
    if len(dict(by_label)) < len(by_label) or len(set(classes)) < len(b.card.labels):
        raise DataError(
            "the two models divide the labels of the data into different classes, so they cannot be compared; open "
            "both with label maps that agree"
        )
    return np.array(classes, dtype=np.int64)


def _folded(name: str) -> str:
    return name.strip().casefold()


def only(a: HeadMask, b: HeadMask) -> tuple[int, int, int]:
    """Return the number of heads that both keep, that only ``a`` keeps, and that only ``b`` keeps."""
    return int((a.keep & b.keep).sum()), int((a.keep & ~b.keep).sum()), int((b.keep & ~a.keep).sum())
