"""A comparison file, ``compare.json`` of the schema ``cahp.compare/1``, as one typed value without its summary.

The fields are those of the file, in its order. A value that was not measured is None, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from cahp.costs import SelectionCost
from cahp.files import plain_json
from cahp.outcomes import Outcomes, from_metrics, to_delta, to_metrics
from cahp.run.document import ModelRecord, SplitRecord
from cahp.values import Bools

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
class RecoveryResult:
    """Outcomes of a mask after a recovery; ``row`` is its row in the array of correct predictions."""

    row: int
    eval: Outcomes | None
    report: Outcomes | None

    @property
    def measured(self) -> Iterator[tuple[str, Outcomes]]:
        """The parts that were evaluated, each with its outcomes."""
        parts = (("eval", self.eval), ("report", self.report))
        return ((part, outcomes) for part, outcomes in parts if outcomes is not None)

    def on(self, part: str) -> Outcomes | None:
        """The outcomes on ``eval`` or ``report``."""
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

    def to_json(self) -> dict[str, Any]:
        """The content of ``compare.json`` without its summary."""
        cells = {name: [_convert_cell(get_fields(cell), to_quality) for cell in getattr(self, name)] for name in _CELLS}
        return dict(plain_json({**get_fields(self), **cells}))

    @classmethod
    def from_json(cls, data: object) -> ComparisonDocument:
        """Read a comparison file.

        Raises:
            ValueError: If parts are missing, or contradict each other.
        """
        import msgspec

        try:
            content: dict[str, Any] = dict(data)  # type: ignore[call-overload]
            content |= {name: [_convert_cell(cell, from_quality) for cell in content[name]] for name in _CELLS}
            document = msgspec.convert(content, cls)
        except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        if not all(isinstance(document.settings.get(name), (list, tuple)) for name in ("seeds", "recoveries")):
            raise ValueError("settings without seeds or recoveries")
        heads, layers = range(document.model.heads), range(document.model.layers)
        for cell in (*document.full, *document.cells):
            if not all(int(layer) in layers and set(kept) <= set(heads) for layer, kept in (cell.kept or {}).items()):
                raise ValueError("heads that the model does not have")
        return document


# Outcomes as the file holds them -----------------------------------------------------------------------------

#: The fields that hold cells.
_CELLS = ("full", "cells")
#: The change in accuracy against the full model after the same recovery, if the recovery changes the full model.
CHANGE_ALIKE = "accuracy_change_alike"


def to_quality(outcomes: Outcomes) -> dict[str, Any]:
    """Return outcomes as a cell's ``eval`` and ``report`` hold them."""
    metrics = to_metrics(outcomes)
    agreement = metrics.pop("agreement")
    alike = {"accuracy_change": outcomes[CHANGE_ALIKE]} if CHANGE_ALIKE in outcomes else {}
    return {**metrics, "agreement": agreement, "delta": to_delta(outcomes), "delta_alike": to_delta(alike)}


def from_quality(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``to_quality`` wrote as fields of estimates.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: If a field is missing or malformed.
    """
    outcomes = from_metrics(quality, quality["delta"])
    alike = quality.get("delta_alike")
    if alike is not None:
        outcomes[CHANGE_ALIKE] = from_metrics(quality, alike)["accuracy_change"]
    return {name: vars(estimate) for name, estimate in outcomes.items()}


def get_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass in their order (``vars`` has the order of the file that it was read from)."""
    return {one.name: getattr(value, one.name) for one in fields(value)}


def _convert_cell(cell: Mapping[str, Any], convert: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of a cell with converted outcomes."""
    recoveries = {}
    for name, result in cell["recoveries"].items():
        content = dict(result) if isinstance(result, Mapping) else get_fields(result)
        parts = {part: content[part] and convert(content[part]) for part in ("eval", "report")}
        recoveries[name] = {**content, **parts}
    return {**cell, "recoveries": recoveries}
