"""A comparison file, ``compare.json`` of the schema ``cahp.compare/1``, as typed values, and rows of its summary.

The fields are those of the file, in its order. A value that was not measured is None, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cahp.costs import SelectionCost
from cahp.files import plain_json
from cahp.outcomes import OUTCOMES, Outcomes, from_metrics, to_delta, to_metrics
from cahp.run.document import ModelRecord, SplitRecord
from cahp.values import Bools, Estimate

SCHEMA = "cahp.compare/1"
#: The change in accuracy against the full model after the same recovery, if the recovery changes the full model.
CHANGE_ALIKE = "accuracy_change_alike"
T = TypeVar("T")


@dataclass(frozen=True)
class SeedSample(SplitRecord):
    """The calibration texts that a seed draws."""

    seed: int


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
    def measured(self) -> dict[str, Outcomes]:
        """The outcomes by part (``eval`` or ``report``), of the parts that were evaluated."""
        parts = {"eval": self.eval, "report": self.report}
        return {part: outcomes for part, outcomes in parts.items() if outcomes is not None}


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
        content: dict[str, Any] = plain_json(self)
        written = (*content["full"], *content["cells"])
        for cell, record in zip((*self.full, *self.cells), written, strict=True):
            for name, result in cell.recoveries.items():
                record["recoveries"][name] |= {part: to_quality(outcomes) for part, outcomes in result.measured.items()}
        return content

    @classmethod
    def from_json(cls, data: object) -> ComparisonDocument:
        """Read a comparison file.

        Raises:
            ValueError: If parts are missing, or contradict each other.
        """

        def read_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
            recoveries = {
                name: {**result, **{part: result[part] and from_quality(result[part]) for part in ("eval", "report")}}
                for name, result in cell["recoveries"].items()
            }
            return {**cell, "recoveries": recoveries}

        document = convert(data, cls, {"full": read_cell, "cells": read_cell})
        if not all(isinstance(document.settings.get(name), (list, tuple)) for name in ("seeds", "recoveries")):
            raise ValueError("settings without seeds or recoveries")
        heads, layers = range(document.model.heads), range(document.model.layers)
        for cell in (*document.full, *document.cells):
            if not all(int(layer) in layers and set(kept) <= set(heads) for layer, kept in (cell.kept or {}).items()):
                raise ValueError("heads that the model does not have")
        return document


def to_quality(outcomes: Outcomes) -> dict[str, Any]:
    """Return outcomes as a cell's ``eval`` and ``report`` hold them."""
    metrics = to_metrics(outcomes)
    agreement = metrics.pop("agreement")
    alike = {"accuracy_change": outcomes[CHANGE_ALIKE]} if CHANGE_ALIKE in outcomes else {}
    quality = {**metrics, "agreement": agreement, "delta": to_delta(outcomes), "delta_alike": to_delta(alike)}
    return dict(plain_json(quality))


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


def convert(data: object, cls: type[T], read_rows: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]) -> T:
    """Convert JSON to ``cls``, after ``read_rows`` has read the rows of some fields."""
    import msgspec

    try:
        content: dict[str, Any] = dict(data)  # type: ignore[call-overload]
        content |= {name: [read_row(row) for row in content[name]] for name, read_row in read_rows.items()}
        return msgspec.convert(content, cls)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


# Rows of the summary -----------------------------------------------------------------------------------------


class _WithInterval:
    ci95: tuple[float, float]

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

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the mean that ``to_json`` wrote."""
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
    ci95: tuple[float, float]
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
    ci95: tuple[float, float]
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
