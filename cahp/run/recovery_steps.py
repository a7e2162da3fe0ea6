"""The outcomes after each step of a recovery: as pruned, after the refit, after the distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cahp.outcomes import Outcomes, accuracy_change, measure
from cahp.recoveries import NONE, name_of_result
from cahp.run.recovered import Distilled, FineTuned, Recovered, distill_report, refit_report
from cahp.values import Estimate, HeadMask, Texts

if TYPE_CHECKING:
    from cahp.run.measurements import Measurements


@dataclass(frozen=True)
class RecoveryStep:
    """The model after a ``step``: ``pruned`` or the name of a recovery.

    ``accepted`` tells whether held-out texts accepted the step (None: nothing to accept); a rejected step changed
    nothing. It worked on ``examples`` texts for ``seconds`` (None: not measured in one go). ``outcomes`` are those on
    the evaluation texts, ``gained`` the change in accuracy against the step before.
    """

    step: str
    accepted: bool | None
    examples: int | None
    seconds: float | None
    outcomes: Outcomes
    gained: Estimate | None

    @property
    def result(self) -> str:
        """The model after it in words, such as "refitted"."""
        return name_of_result(NONE.name if self.step == "pruned" else self.step)


def measure_steps(
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int = 42
) -> tuple[RecoveryStep, ...]:
    """Evaluate each step of a recovery that has several on ``texts``; other recoveries have no steps."""
    if not isinstance(recovered, Distilled):
        return ()
    full, current = measurements.evaluate(texts), measurements.evaluate(texts, mask=mask)
    steps = [RecoveryStep("pruned", None, None, None, measure(current, full=full, seed=seed), None)]
    for name, made in (("refit", recovered.start), ("distill", recovered)):
        if made is None:
            continue
        before, report = current, made.report
        if report.accepted:
            current = measurements.evaluate(texts, mask=mask, recovered=made)
        steps.append(
            RecoveryStep(
                name,
                report.accepted,
                report.examples,
                made.seconds,
                measure(current, full=full, seed=seed),
                accuracy_change(current, before, seed),
            )
        )
    return tuple(steps)


def recovery_record(
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int = 42
) -> dict[str, Any]:
    """Return what a recovery reports: ``refit``, ``distill`` with its ``steps``, ``epochs``; only what applies."""
    reports = {
        "refit": refit_report(recovered),
        "distill": distill_report(recovered),
        "steps": measure_steps(measurements, texts, mask, recovered, seed=seed) or None,
        "epochs": list(recovered.epochs) if isinstance(recovered, FineTuned) else None,
    }
    return {name: report for name, report in reports.items() if report is not None}
