"""Two pruned models against each other, on the same texts: of one full model, or of two with as many heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cahp.cards import ModelCard
from cahp.data.tables import join_quoted
from cahp.outcomes import accuracy_change
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench
from cahp.studies.filling import recovered_by
from cahp.values import DataError, Estimate, Evaluation, HeadMask, Texts


@dataclass(frozen=True, eq=False)
class Variant:
    """A pruned model: the heads that stay, and how it was recovered."""

    mask: HeadMask
    recover: str = "none"

    def __str__(self) -> str:
        return f"{self.mask.sha256}-{self.recover}"


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison: a pruned model and the bench that its full model stands on."""

    bench: Bench
    variant: Variant


@dataclass(frozen=True, eq=False)
class Versus:
    """What two models answer on the same texts; ``change`` is B's accuracy against A's, compared in pairs."""

    a: Evaluation
    b: Evaluation
    change: Estimate

    @property
    def apart(self) -> list[int]:
        """Rows of the texts that the two answer differently."""
        return [row for row in range(len(self.a)) if self.a.predictions[row] != self.b.predictions[row]]

    @property
    def right_alone(self) -> tuple[int, int]:
        """Texts that A alone answers rightly, and texts that B alone does."""
        a, b = self.a.correct, self.b.correct
        return int((a & ~b).sum()), int((b & ~a).sum())


def mismatch(a: ModelCard, b: ModelCard) -> str:
    """Why pruned models of ``a`` and ``b`` cannot be held against each other, as a clause; empty if they can."""
    if (a.layers, a.heads) != (b.layers, b.heads):
        return f"A's model has {a.layers} layers of {a.heads} heads, and B's {b.layers} of {b.heads}"
    if len(a.labels) != len(b.labels):
        return f"A's model knows {len(a.labels)} classes, and B's {len(b.labels)}"
    if {_folded(name) for name in a.labels} != {_folded(name) for name in b.labels}:
        return f"A's model answers {join_quoted(a.labels)}, and B's {join_quoted(b.labels)}"
    return ""


def versus(a: Side, b: Side) -> Versus | None:
    """Compare two pruned models on B's evaluation texts; None where one is distilled that nobody distilled before.

    Two benches are two models on the same data: each reads the texts with its own tokenizer and is recovered on the
    calibration texts of its own bench; what A answers is said in B's classes.

    Raises:
        DataError: If the models do not divide the labels of the data into the same classes.
    """
    texts = b.bench.evaluation
    ours, theirs = _answers(b, texts), _answers(a, texts) if a.bench is b.bench else _translated(a, b.bench)
    if ours is None or theirs is None:
        return None
    return Versus(theirs, ours, accuracy_change(ours, theirs, b.bench.settings.seed))


def _answers(side: Side, texts: Texts) -> Evaluation | None:
    bench, one = side.bench, side.variant
    if one.mask.is_full or not RECOVERIES[one.recover].imitates:
        recovered = recovered_by(one.recover, bench, one.mask)
        return bench.measurements.evaluate(texts, mask=one.mask, recovered=recovered)
    distilled = bench.for_distillation().recoveries.read_distilled(one.mask)
    if distilled is None:
        return None
    return bench.measurements.evaluate(texts, mask=one.mask, recovered=distilled)


def _translated(a: Side, b: Bench) -> Evaluation | None:
    """What A answers on the evaluation texts of ``b``, in the classes of ``b``."""
    texts, goals = b.evaluation, _goals(a.bench, b)
    classes = a.bench.card.labels
    if classes == texts.classes and (goals == np.arange(len(goals))).all():
        # The very texts: what was measured of them under A's model before is found again.
        return _answers(a, texts)
    found = _answers(a, Texts(texts.first, texts.second, goals[texts.labels], classes))
    if found is None:
        return None
    back = np.argsort(goals)
    return Evaluation(back[found.predictions], texts.labels, found.losses, texts.classes)


def _goals(a: Bench, b: Bench) -> NDArray[np.int64]:
    """A's class for each of B's, shape ``(C,)``."""
    alike = {_folded(name): name for name in a.card.labels}
    found = {name: alike.get(_folded(name)) for name in b.card.labels}
    # How each reads the data goes before names: "LABEL_0" of two models need not be the same class.
    said = {(ours, a.reading.get(label)) for label, ours in b.reading.items()}
    found.update(said)
    goals = [a.card.labels.index(name) for name in found.values() if name is not None]
    if len(dict(said)) < len(said) or len(set(goals)) < len(b.card.labels):
        raise DataError(
            "the two models do not divide the labels of the data into the same classes, so their answers cannot be "
            "compared; open both with label maps that agree"
        )
    return np.array(goals, dtype=np.int64)


def _folded(name: str) -> str:
    return name.strip().casefold()


def only(a: HeadMask, b: HeadMask) -> tuple[int, int, int]:
    """Heads that both keep, that ``a`` alone keeps, and that ``b`` alone does."""
    return int((a.keep & b.keep).sum()), int((a.keep & ~b.keep).sum()), int((b.keep & ~a.keep).sum())
