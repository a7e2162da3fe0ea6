"""What each step of a recovery brought: how the model answers as pruned, after the refit, after the distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cahp.run.recovered import Distilled, Recovered
from cahp.values import Delta, HeadMask, Metrics, Texts

if TYPE_CHECKING:
    from cahp.run.measurements import Measurements


@dataclass(frozen=True)
class RecoveryStep:
    """The model after a ``step``: ``pruned``, ``refit`` or ``distill``.

    ``accepted`` says whether held-out texts agreed to the step (None: there was nothing to agree to); where they did
    not, the model stayed as it was. ``examples`` were worked on, in so many ``seconds`` (None: not measured in one go).
    ``metrics`` are those on the evaluation texts, ``delta`` the accuracy against the full model, ``gained`` that
    against the step before.
    """

    step: str
    accepted: bool | None
    examples: int | None
    seconds: float | None
    metrics: Metrics
    delta: Delta
    gained: Delta | None


def steps(
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int = 42
) -> tuple[RecoveryStep, ...]:
    """The steps of a recovery that has several, evaluated on ``texts``; none of any other."""
    if not isinstance(recovered, Distilled):
        return ()
    from cahp.stages.evaluation import delta, metrics

    full, now = measurements.evaluate(texts), measurements.evaluate(texts, mask=mask)
    found = [RecoveryStep("pruned", None, None, None, metrics(now, full=full), delta(now, full, seed=seed), None)]
    for name, made in (("refit", recovered.start), ("distill", recovered)):
        if made is None:
            continue
        before, report = now, made.report
        if report.accepted:
            now = measurements.evaluate(texts, mask=mask, recovered=made)
        found.append(
            RecoveryStep(
                name,
                report.accepted,
                report.examples,
                made.seconds,
                metrics(now, full=full),
                delta(now, full, seed=seed),
                delta(now, before, seed=seed),
            )
        )
    return tuple(found)
