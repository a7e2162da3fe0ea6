"""What a mask is worth in words: a headline, and clauses of what it costs and what it saves.

Nothing is claimed that was not measured or counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from cahp.board.budget_sweep import Speed
from cahp.outcomes import Outcomes
from cahp.run.document import RunDocument
from cahp.values import Estimate, HeadMask
from cahp.words import number, percent, span, too_close

#: What kept heads do, by the least agreement with the full model's predictions.
_HEADLINES = (
    (0.995, "do all the work"),
    (0.95, "do almost all the work"),
    (0.9, "do most of the work"),
    (0.0, "are too few"),
)
#: A wider interval in points says little, so it is shown beside "too close to call".
_WIDE_PP = 10.0
#: A smaller share rounds to 0 %.
_LEAST = 0.005


@dataclass(frozen=True)
class WeightCount:
    """The number of weights of a ``full`` model, and how many of them leave with each ``head`` that is removed."""

    full: int
    head: float

    @classmethod
    def of(cls, run: RunDocument) -> WeightCount | None:
        """Derive it from the counts of a run (None: they were not counted)."""
        full = run.cost.full.parameters
        pruned = run.cost.pruned.parameters
        mask = run.mask
        if full is None or pruned is None or mask.is_full:
            return None
        return cls(full, (full - pruned) / (mask.keep.size - mask.count))

    def ratio(self, mask: HeadMask) -> float:
        """Return the number of weights of the model cut to ``mask`` relative to the full model's."""
        return 1 - self.head * (mask.keep.size - mask.count) / self.full


@dataclass(frozen=True)
class Savings:
    """What pruning saves relative to the full model: ``cache`` and ``size`` are counted ratios, ``speed`` is timed.

    ``cache`` are the bytes of keys and values per token, ``size`` the number of weights (None: not known).
    """

    cache: float | None = None
    size: float | None = None
    speed: Speed | None = None


def describe_headline(mask: HeadMask, unit: str, outcomes: Outcomes | None) -> str:
    """Describe how much of the work the kept heads do, by their agreement with the full model (None: not measured)."""
    if mask.is_full:
        return f"All {mask.count} {unit}s"
    headline = f"{mask.count} of {mask.keep.size} {unit}s"
    agreement = (outcomes or {}).get("agreement")
    if agreement is None:
        return headline
    words = next(words for least, words in _HEADLINES if agreement.value >= least)
    return f"{headline} {words}"


def list_clauses(mask: HeadMask, outcomes: Outcomes | None, savings: Savings, *, answers: str) -> list[str]:
    """List what a mask changes: the accuracy, then what it saves. Without an accuracy, unchanged ``answers`` come last.

    The full model changes nothing.
    """
    if mask.is_full:
        return []
    measured = outcomes or {}
    clauses = []
    if "accuracy_change" in measured:
        clauses.append(describe_accuracy_change(measured["accuracy_change"]))
    clauses += _list_savings(savings)
    if "accuracy_change" not in measured and "agreement" in measured:
        clauses.append(f"{percent(measured['agreement'].value, 0)} of {answers} unchanged")
    return clauses


def describe_accuracy_change(points: Estimate) -> str:
    """Describe a change in accuracy, in points; where its interval contains 0, it is too close to call."""
    if points.excludes(0):
        direction = "less"
        if points.value > 0:
            direction = "more"
        return f"{number(abs(points.value))} points {direction} accurate"
    words = f"accuracy {too_close(points.n)}"
    if points.high - points.low > _WIDE_PP:
        words += f" (within {span(points.low, points.high, 0)} points)"
    return words


def _list_savings(savings: Savings) -> list[str]:
    clauses = []
    if savings.cache is not None and 1 - savings.cache >= _LEAST:
        clauses.append(f"{percent(1 - savings.cache, 0)} less memory per token")
    speed = savings.speed
    if speed is not None and not speed.busy and speed.ratio.excludes(1):
        direction = "faster"
        if speed.ratio.value > 1:
            direction = "slower"
        clauses.append(f"{percent(abs(1 - speed.ratio.value), 0)} {direction}")
    if savings.size is not None and 1 - savings.size >= _LEAST:
        clauses.append(f"{percent(1 - savings.size, 0)} smaller")
    return clauses
