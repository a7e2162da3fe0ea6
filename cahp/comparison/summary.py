"""The summary of a comparison: means with intervals, areas, verdicts, overlaps and costs.

``compare.json`` holds it under ``summary``, with these fields in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cahp.files import plain_json
from cahp.outcomes import OUTCOMES, Outcomes, from_metrics, to_metrics
from cahp.values import Estimate

#: The ends of a 95 % interval.
Interval = tuple[float, float]
#: Heads as (layer, head).
Heads = tuple[tuple[int, int], ...]


class _WithInterval:
    ci95: Interval

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return self.ci95[0]

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return self.ci95[1]


@dataclass(frozen=True)
class Mean:
    """Outcomes of a method at a budget: means over seeds and masks; the accuracy has an interval.

    ``lowest`` and ``highest`` are accuracies of single masks, ``sd`` is that over seeds (None for one seed).
    """

    split: str
    recovery: str
    method: str
    budget: int
    outcomes: Outcomes
    lowest: float
    highest: float
    sd: float | None
    seeds: int
    masks: int

    @property
    def accuracy(self) -> Estimate:
        """The accuracy, with its 95 % interval."""
        return self.outcomes["accuracy"]

    def as_row(self) -> dict[str, Any]:
        """The mean as the row of a table: accuracy with its interval, then other outcomes (None: not measured)."""
        accuracy, others = self.accuracy, [name for name in OUTCOMES if name != "accuracy"]
        return {
            **{"recovery": self.recovery, "method": self.method, "budget": self.budget},
            **{"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high},
            **{name: self.outcomes[name].value if name in self.outcomes else None for name in others},
            **{"n": accuracy.n, "seeds": self.seeds, "masks": self.masks},
        }

    def to_json(self) -> dict[str, Any]:
        """The mean as a comparison file holds it."""
        metrics = to_metrics(self.outcomes)
        first = {name: metrics.pop(name) for name in ("accuracy", "ci95")}
        n, change = metrics.pop("n"), self.outcomes.get("accuracy_change")
        return {
            **{name: getattr(self, name) for name in ("split", "recovery", "method", "budget")},
            **first,
            **{name: getattr(self, name) for name in ("lowest", "highest", "sd")},
            **metrics,
            **{"delta_pp": change and change.value, "n": n, "seeds": self.seeds, "masks": self.masks},
        }


def _read_mean(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``Mean.to_json`` wrote with the fields of ``Mean``."""
    outcomes = from_metrics(row)
    if row["delta_pp"] is not None:
        outcomes["accuracy_change"] = Estimate(row["delta_pp"], None, row["n"], "points")
    return {**row, "outcomes": {name: vars(estimate) for name, estimate in outcomes.items()}}


@dataclass(frozen=True)
class Area(_WithInterval):
    """Mean accuracy of a method over ``budgets``: the area under its line, divided by the line's width."""

    split: str
    recovery: str
    method: str
    area: float
    ci95: Interval
    budgets: tuple[int, ...]


@dataclass(frozen=True)
class Verdict(_WithInterval):
    """One test: by how many points of accuracy ``against`` is better than ``method``, and whether it is significant.

    It is at one ``budget``, or of the areas over all (None). ``p_holm`` is ``p`` corrected for the other tests. A
    ``tie`` is no significant difference at this n; otherwise ``better`` names the better method. ``words`` is the
    result as a sentence.
    """

    split: str
    recovery: str
    budget: int | None
    method: str
    against: str
    pp: float
    ci95: Interval
    p: float
    p_holm: float
    tie: bool
    better: str | None
    n: int
    seeds: int
    words: str = ""


@dataclass(frozen=True)
class AreaVerdict(Verdict):
    """A test of areas over ``budgets``."""

    budgets: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayerMeans:
    """Heads that a method keeps in each layer at a budget: ``mean (L,)`` over its masks."""

    method: str
    budget: int
    mean: tuple[float, ...]


@dataclass(frozen=True)
class MethodOverlap:
    """Mean Jaccard index of two methods' masks with the same seed; ``chance`` is that of random masks."""

    methods: tuple[str, str]
    budget: int
    chance: float
    jaccard: float


@dataclass(frozen=True)
class SeedOverlap:
    """Mean Jaccard index of ``pairs`` of one method's masks; ``chance`` is that of random masks."""

    method: str
    budget: int
    chance: float
    jaccard: float
    pairs: int


@dataclass(frozen=True)
class Overlap:
    """Overlap of every two ``methods``, and of each method's own masks over ``seeds``."""

    methods: tuple[MethodOverlap, ...]
    seeds: tuple[SeedOverlap, ...]


@dataclass(frozen=True)
class Consensus:
    """Heads that all ``methods`` keep at a budget (``everybody``), and that none keeps (``nobody``).

    Random selection does not count. ``share (L, H)`` is the share of a method's masks that keep the head, mean over
    methods.
    """

    budget: int
    methods: int
    everybody: Heads
    nobody: Heads
    share: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MethodCost:
    """Cost of a method: forward passes, labels and seconds to select heads, and the seconds of each recovery.

    Passes and labels are None if the method does not state them, seconds of a recovery if it was not measured.
    """

    method: str
    forwards: float | None
    labels: int | None
    score_s: float
    recovery_s: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The summary of a comparison. Its verdicts compare each method with the method ``against``; ``rule`` says how."""

    against: str
    rule: str
    means: tuple[Mean, ...]
    areas: tuple[Area, ...]
    verdicts: tuple[Verdict, ...]
    #: Older files have no tests of areas.
    area_verdicts: tuple[AreaVerdict, ...] = ()
    layers: tuple[LayerMeans, ...]
    overlap: Overlap
    consensus: tuple[Consensus, ...]
    cost: tuple[MethodCost, ...]

    def to_json(self) -> dict[str, Any]:
        """The ``summary`` of a comparison file."""
        return dict(plain_json(self)) | {"means": [plain_json(mean.to_json()) for mean in self.means]}

    @classmethod
    def from_json(cls, data: object) -> Summary:
        """Read the summary of a comparison file.

        Raises:
            ValueError: If parts are missing or of another type.
        """
        import msgspec

        try:
            content: dict[str, Any] = dict(data)  # type: ignore[call-overload]
            return msgspec.convert({**content, "means": [_read_mean(row) for row in content["means"]]}, cls)
        except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
