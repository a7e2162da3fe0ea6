"""A comparison file, ``compare.json`` of the schema ``cahp.compare/1``, as one typed value, its summary aside.

The fields are those of the file, in its order; what was not measured is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cahp.outcomes import Outcomes, to_metrics
from cahp.run.document import ModelRecord, SplitRecord
from cahp.values import Bools, Estimate, Price

SCHEMA = "cahp.compare/1"


@dataclass(frozen=True)
class SeedSample:
    """The calibration texts that a seed draws."""

    seed: int
    split: str
    examples: int
    class_counts: Mapping[str, int]
    sha256: str


@dataclass(frozen=True)
class DataRecords:
    """The texts: calibration texts of each seed (``select``), evaluation texts (``eval``), tuning texts (``steer``).

    And those of the split that is reported on. The last two are None where there are none.
    """

    id: str
    classes: tuple[str, ...]
    select: tuple[SeedSample, ...]
    eval: SplitRecord
    steer: SplitRecord | None
    report: SplitRecord | None

    def of(self, part: str) -> SplitRecord:
        """The texts of ``eval`` or ``report``."""
        found: SplitRecord | None = getattr(self, part)
        if found is None:
            raise ValueError(f"nothing was measured on {part}")
        return found


@dataclass(frozen=True)
class Participant:
    """A method that took part: what it says of itself, how many masks it draws, and whether it trains gates."""

    about: str = ""
    draws: int = 1
    learned: bool = False

    @property
    def chance(self) -> bool:
        """Whether it is pure chance."""
        return self.draws > 1


@dataclass(frozen=True)
class Delta:
    """A change in accuracy in points, with its 95 % interval."""

    pp: float
    ci95: tuple[float, float]

    @classmethod
    def of(cls, change: Estimate) -> Delta:
        """Build it from an estimate."""
        return cls(change.value, (change.low, change.high))


@dataclass(frozen=True)
class CellQuality:
    """The outcomes of a mask on the texts of a split, as ``cahp.outcomes.to_metrics`` writes them.

    ``delta`` is the change against the unpruned model, ``delta_alike`` that against the unpruned model after the same
    recovery, where that changes it.
    """

    accuracy: float
    macro_f1: float | None
    loss: float | None
    n: int
    ci95: tuple[float, float]
    agreement: float | None
    delta: Delta | None
    delta_alike: Delta | None = None

    @classmethod
    def of(cls, outcomes: Outcomes, alike: Estimate | None) -> CellQuality:
        """Build it from measured outcomes; ``alike`` is the change against the full model after the same recovery."""
        change = outcomes.get("accuracy_change")
        return cls(
            **to_metrics(outcomes),
            delta=None if change is None else Delta.of(change),
            delta_alike=None if alike is None else Delta.of(alike),
        )


@dataclass(frozen=True)
class Recovered:
    """What a mask answers after a recovery; ``row`` is where the file of answers says who was right."""

    row: int
    eval: CellQuality | None
    report: CellQuality | None

    @property
    def measured(self) -> Iterator[tuple[str, CellQuality]]:
        """The parts that were evaluated."""
        return ((part, one) for part, one in (("eval", self.eval), ("report", self.report)) if one is not None)

    def on(self, part: str) -> CellQuality | None:
        """The quality on ``eval`` or ``report``."""
        return dict(self.measured).get(part)


@dataclass(frozen=True)
class CellBudget:
    """How many heads were asked for, and how many are kept (None of a cell that failed)."""

    requested: int
    attained: int | None


@dataclass(frozen=True)
class CellSeconds:
    """Seconds to choose (None of a cell that failed), and by recovery to recover and to evaluate."""

    score: float | None
    recovery: Mapping[str, float]
    evaluation: Mapping[str, float]


@dataclass(frozen=True)
class CellRecord:
    """A mask that was chosen and measured, or the error that ended it; ``kept`` lists heads by layer."""

    method: str
    setting: Mapping[str, Any]
    seed: int
    draw: int
    noise: int
    budget: CellBudget
    kept: Mapping[str, tuple[int, ...]] | None
    recoveries: Mapping[str, Recovered]
    seconds: CellSeconds
    price: Price | None
    error: str | None


@dataclass(frozen=True)
class ComparisonDocument:
    """What was asked and measured: ``full`` are cells of the unpruned model, one a seed, ``cells`` those of methods."""

    schema: str
    model: ModelRecord
    data: DataRecords
    settings: Mapping[str, Any]
    methods: Mapping[str, Participant]
    full: tuple[CellRecord, ...]
    estimate: Mapping[str, Any]
    timings: Mapping[str, float | None]
    test_opened: int
    notices: tuple[str, ...]
    versions: Mapping[str, str]
    command: str | None
    cells: tuple[CellRecord, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order they were asked for."""
        return tuple(self.settings["seeds"])

    @property
    def recoveries(self) -> tuple[str, ...]:
        """The recoveries, in the order they were asked for."""
        return tuple(self.settings["recoveries"])

    @property
    def parts(self) -> tuple[str, ...]:
        """What was measured on: ``eval``, and ``report`` if it reports on a split."""
        return ("eval", "report") if self.data.report else ("eval",)

    @property
    def finished(self) -> tuple[CellRecord, ...]:
        """The cells without an error."""
        return tuple(cell for cell in self.cells if cell.error is None)

    def mask(self, cell: CellRecord) -> Bools:
        """The heads that a cell keeps, ``(L, H)``."""
        keep = np.zeros((self.model.layers, self.model.heads), dtype=np.bool_)
        for layer, heads in (cell.kept or {}).items():
            keep[int(layer), list(heads)] = True
        return keep

    @classmethod
    def from_json(cls, said: object) -> ComparisonDocument:
        """What a comparison file says.

        Raises:
            ValueError: If it is none: parts are missing, or do not fit each other.
        """
        import msgspec

        try:
            document = msgspec.convert(said, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        if not all(isinstance(document.settings.get(name), (list, tuple)) for name in ("seeds", "recoveries")):
            raise ValueError("settings without seeds or recoveries")
        heads, layers = range(document.model.heads), range(document.model.layers)
        for cell in (*document.full, *document.cells):
            if not all(int(layer) in layers and set(kept) <= set(heads) for layer, kept in (cell.kept or {}).items()):
                raise ValueError("heads that the model does not have")
        return document
