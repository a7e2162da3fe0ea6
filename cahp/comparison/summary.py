"""The summary of a comparison: means with intervals, areas, verdicts, overlaps and costs.

``compare.json`` holds it under ``summary``, with these fields in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
class Mean(_WithInterval):
    """Accuracy of a method at a budget (0 to 1): the mean over seeds and masks, with its interval.

    ``lowest`` and ``highest`` are of single masks, ``sd`` is over seeds (None for one seed), ``delta_pp`` the change
    against the full model. Other outcomes are None where they were not measured.
    """

    split: str
    recovery: str
    method: str
    budget: int
    accuracy: float
    ci95: Interval
    lowest: float
    highest: float
    sd: float | None
    macro_f1: float | None
    loss: float | None
    agreement: float | None
    delta_pp: float | None
    n: int
    seeds: int
    masks: int


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

    @classmethod
    def from_json(cls, data: object) -> Summary:
        """Read the summary of a comparison file.

        Raises:
            ValueError: If parts are missing or of another type.
        """
        import msgspec

        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
