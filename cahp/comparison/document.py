"""A comparison file, ``compare.json`` of the schema ``cahp.compare/1``, as one typed value without its summary.

The fields are those of the file, in its order. A value that was not measured is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cahp.costs import SelectionCost
from cahp.outcomes import Outcomes, to_metrics
from cahp.run.document import ModelRecord, SplitRecord
from cahp.values import Bools, Estimate

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

    ``report`` are the texts of the test split, if the comparison reports on it. The last two may be None.
    """

    id: str
    classes: tuple[str, ...]
    select: tuple[SeedSample, ...]
    eval: SplitRecord
    steer: SplitRecord | None
    report: SplitRecord | None

    def of(self, part: str) -> SplitRecord:
        """The texts of ``eval`` or ``report``."""
        record: SplitRecord | None = getattr(self, part)
        if record is None:
            raise ValueError(f"nothing was measured on {part}")
        return record


@dataclass(frozen=True)
class Participant:
    """A method that took part: its description, how many masks it draws, and whether it trains gates."""

    about: str = ""
    draws: int = 1
    learned: bool = False

    @property
    def random(self) -> bool:
        """Whether it selects heads at random."""
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
    """Outcomes of a mask on the texts of a split, as ``cahp.outcomes.to_metrics`` writes them.

    ``delta`` is the change against the full model, ``delta_alike`` that against the full model after the same recovery,
    if the recovery changes it.
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
class RecoveryResult:
    """Outcomes of a mask after a recovery; ``row`` is its row in the array of correct predictions."""

    row: int
    eval: CellQuality | None
    report: CellQuality | None

    @property
    def measured(self) -> Iterator[tuple[str, CellQuality]]:
        """The parts that were evaluated, each with its quality."""
        parts = (("eval", self.eval), ("report", self.report))
        return ((part, quality) for part, quality in parts if quality is not None)

    def on(self, part: str) -> CellQuality | None:
        """The quality on ``eval`` or ``report``."""
        return dict(self.measured).get(part)


@dataclass(frozen=True)
class CellBudget:
    """Heads requested, and heads kept (None if the cell failed)."""

    requested: int
    attained: int | None


@dataclass(frozen=True)
class CellSeconds:
    """Seconds to select heads (None if the cell failed), and by recovery the seconds to recover and to evaluate."""

    score: float | None
    recovery: Mapping[str, float]
    evaluation: Mapping[str, float]


@dataclass(frozen=True)
class CellRecord:
    """A mask and its results, or the error that ended the cell; ``kept`` lists heads by layer.

    ``noise`` is the seed of the method's own randomness.
    """

    method: str
    setting: Mapping[str, Any]
    seed: int
    draw: int
    noise: int
    budget: CellBudget
    kept: Mapping[str, tuple[int, ...]] | None
    recoveries: Mapping[str, RecoveryResult]
    seconds: CellSeconds
    price: SelectionCost | None
    error: str | None


@dataclass(frozen=True)
class ComparisonDocument:
    """Plan and results of a comparison: ``full`` are cells of the full model by seed, ``cells`` those of methods."""

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
        """The seeds, in the order of the plan."""
        return tuple(self.settings["seeds"])

    @property
    def recoveries(self) -> tuple[str, ...]:
        """The recoveries, in the order of the plan."""
        return tuple(self.settings["recoveries"])

    @property
    def parts(self) -> tuple[str, ...]:
        """The evaluated parts: ``eval``, and ``report`` if the comparison reports on the test split."""
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
    def from_json(cls, data: object) -> ComparisonDocument:
        """Read a comparison file.

        Raises:
            ValueError: If parts are missing, or contradict each other.
        """
        import msgspec

        try:
            document = msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        if not all(isinstance(document.settings.get(name), (list, tuple)) for name in ("seeds", "recoveries")):
            raise ValueError("settings without seeds or recoveries")
        heads, layers = range(document.model.heads), range(document.model.layers)
        for cell in (*document.full, *document.cells):
            if not all(int(layer) in layers and set(kept) <= set(heads) for layer, kept in (cell.kept or {}).items()):
                raise ValueError("heads that the model does not have")
        return document
