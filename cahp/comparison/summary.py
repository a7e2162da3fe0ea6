"""What a comparison says, as values: means with intervals, areas, verdicts, overlaps and cost.

``compare.json`` holds them under ``summary``: the fields are those of the file, in its order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: The ends of a 95 % interval.
Ends = tuple[float, float]
#: Heads as (layer, head).
Places = tuple[tuple[int, int], ...]


class _WithInterval:
    """What has a 95 % interval."""

    ci95: Ends

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
    """Right answers of a method at a budget, a share: the mean over seeds and masks, with its interval.

    ``lowest`` and ``highest`` are of single masks, ``sd`` is over seeds (None of one seed), ``delta_pp`` the change
    against the unpruned model. Other qualities are None where they were not measured.
    """

    split: str
    recovery: str
    method: str
    budget: int
    accuracy: float
    ci95: Ends
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
    """Mean accuracy of a method over all ``budgets``: the area under its line over the line's width."""

    split: str
    recovery: str
    method: str
    area: float
    ci95: Ends
    budgets: tuple[int, ...]


@dataclass(frozen=True)
class Verdict(_WithInterval):
    """One test: by how many points ``against`` is better than ``method``, and whether that is more than chance.

    At one ``budget``, or of the areas over all (None). ``p_holm`` is ``p``, corrected for the other tests; a ``tie`` is
    no difference at this n, otherwise ``better`` names the better method. ``words`` say all that in a sentence.
    """

    split: str
    recovery: str
    budget: int | None
    method: str
    against: str
    pp: float
    ci95: Ends
    p: float
    p_holm: float
    tie: bool
    better: str | None
    n: int
    seeds: int
    words: str = ""


@dataclass(frozen=True)
class AreaVerdict(Verdict):
    """A test of areas over all ``budgets``."""

    budgets: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayerMeans:
    """Heads that a method keeps in each layer at a budget: ``mean (L,)`` over its masks."""

    method: str
    budget: int
    mean: tuple[float, ...]


@dataclass(frozen=True)
class Between:
    """Jaccard index of two methods' masks of the same seed, the mean; ``chance`` is that of random masks."""

    methods: tuple[str, str]
    budget: int
    chance: float
    jaccard: float


@dataclass(frozen=True)
class Within:
    """Jaccard index of one method's masks, the mean over ``pairs`` of them; ``chance`` is that of random masks."""

    method: str
    budget: int
    chance: float
    jaccard: float
    pairs: int


@dataclass(frozen=True)
class Overlap:
    """What ``methods`` have in common, two by two, and what each has in common with itself over ``seeds``."""

    methods: tuple[Between, ...]
    seeds: tuple[Within, ...]


@dataclass(frozen=True)
class Consensus:
    """Which heads all of so many ``methods`` keep at a budget, and which none keeps; methods of chance have no say.

    ``share (L, H)`` is the mean over methods of the share of a method's masks that keep the head.
    """

    budget: int
    methods: int
    everybody: Places
    nobody: Places
    share: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MethodCost:
    """What a method costs: forward passes and labels to choose, and seconds to choose and for each recovery.

    Passes and labels are None of a method that does not say, the seconds of a recovery where it was not measured.
    """

    method: str
    forwards: float | None
    labels: int | None
    score_s: float
    recovery_s: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that a comparison says. The verdicts are of tests of each method against one, ``against``, by ``rule``."""

    against: str
    rule: str
    means: tuple[Mean, ...]
    areas: tuple[Area, ...]
    verdicts: tuple[Verdict, ...]
    #: Comparisons that were written before areas were tested have no tests of them.
    area_verdicts: tuple[AreaVerdict, ...] = ()
    layers: tuple[LayerMeans, ...]
    overlap: Overlap
    consensus: tuple[Consensus, ...]
    cost: tuple[MethodCost, ...]

    @classmethod
    def from_json(cls, said: object) -> Summary:
        """What a comparison file says.

        Raises:
            ValueError: If parts are missing or of another type.
        """
        import msgspec

        try:
            return msgspec.convert(said, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
