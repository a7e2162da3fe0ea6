"""Two pruned models of one full model against each other, on the same texts."""

from __future__ import annotations

from dataclasses import dataclass

from cahp.run.bench import Bench
from cahp.studies.budget_sweep import Recover, recovered_by
from cahp.values import Delta, Evaluation, HeadMask


@dataclass(frozen=True, eq=False)
class Variant:
    """A pruned model: the heads that stay, and how it was recovered."""

    mask: HeadMask
    recover: Recover = "none"

    def __str__(self) -> str:
        return f"{self.mask.sha256}-{self.recover}"


@dataclass(frozen=True, eq=False)
class Versus:
    """What two models answer on the same texts; ``change`` is B's accuracy against A's, compared in pairs."""

    a: Evaluation
    b: Evaluation
    change: Delta

    @property
    def apart(self) -> list[int]:
        """Rows of the texts that the two answer differently."""
        return [row for row in range(len(self.a)) if self.a.predictions[row] != self.b.predictions[row]]

    @property
    def right_alone(self) -> tuple[int, int]:
        """Texts that A alone answers rightly, and texts that B alone does."""
        a, b = self.a.correct, self.b.correct
        return int((a & ~b).sum()), int((b & ~a).sum())


def versus(bench: Bench, a: Variant, b: Variant) -> Versus | None:
    """Compare two pruned models on the evaluation texts; None where one is distilled that nobody distilled before."""
    from cahp.stages.evaluation import delta

    ours, theirs = _answers(bench, b), _answers(bench, a)
    if ours is None or theirs is None:
        return None
    return Versus(theirs, ours, delta(ours, theirs, seed=bench.settings.seed))


def _answers(bench: Bench, one: Variant) -> Evaluation | None:
    whole = one.mask.count == one.mask.keep.size
    if whole or one.recover != "distill":
        recovered = recovered_by(one.recover, bench, one.mask)
        return bench.measurements.evaluate(bench.evaluation, mask=None if whole else one.mask, recovered=recovered)
    distilled = bench.for_distillation().measurements.distilled_before(one.mask)
    if distilled is None:
        return None
    return bench.measurements.evaluate(bench.evaluation, mask=one.mask, recovered=distilled)


def only(a: HeadMask, b: HeadMask) -> tuple[int, int, int]:
    """Heads that both keep, that ``a`` alone keeps, and that ``b`` alone does."""
    return int((a.keep & b.keep).sum()), int((a.keep & ~b.keep).sum()), int((b.keep & ~a.keep).sum())
