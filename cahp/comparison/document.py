"""A comparison file, ``compare.json`` of the schema ``cahp.compare/1``, as typed values, and rows of its summary.

The fields are those of the file, in its order. A value that was not measured is None, never 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cahp.comparison.fields import convert, from_quality, to_quality
from cahp.files import plain_json
from cahp.models.costs import SelectionCost
from cahp.outcomes import OUTCOMES, Outcomes, from_metrics, list_further, main_outcome, to_metrics
from cahp.run.document import ModelRecord
from cahp.run.mix import NO_MIX
from cahp.run.splits import SplitRecord
from cahp.tasks.window import WindowProtocol
from cahp.values import Bools, Estimate, Unit
from cahp.words import nats_digits, points, signed

SCHEMA = "cahp.compare/1"
#: The outcomes by which methods are tested against each other, the most telling one first; see ``list_tested``.
TESTED = ("kl", "agreement", "accuracy", "nll", "copying")
#: Outcomes with columns of an interval in every table.
_TEXT_INTERVALS = ("kl", "agreement", "accuracy")
#: With fewer seeds a test has no verdict.
_FEWEST_SEEDS = 2


def list_tested(outcomes: Collection[str]) -> tuple[str, ...]:
    """Return those of the ``outcomes`` by which methods are tested: losses take the place of the accuracy."""
    untested = ("nll", "copying") if "accuracy" in outcomes else ("accuracy",)
    return tuple(name for name in TESTED if name in outcomes and name not in untested)


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
    """Outcomes of a mask after a recovery; ``row`` is its row in the arrays of ``compare.npz``.

    ``accepted`` tells whether the recovery was kept (None: it is never rejected, or an older file does not say).
    """

    row: int
    eval: Outcomes | None
    report: Outcomes | None
    accepted: bool | None = None

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
    """Plan and results of a comparison: ``full`` are cells of the full model by seed, ``cells`` those of methods.

    ``criticality (L, H)`` is the KL divergence without each head alone (None: not measured), on the evaluation texts or
    ``criticality_texts`` of them. ``protocols`` tell by part how a language model was measured (None: a classifier).
    """

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
    criticality: tuple[tuple[float, ...], ...] | None = None
    criticality_texts: int | None = None
    protocols: Mapping[str, WindowProtocol] | None = None

    def protocol(self, part: str) -> WindowProtocol | None:
        """How a language model was measured on ``eval`` or ``report`` (None: a classifier)."""
        return (self.protocols or {}).get(part)

    def noun(self, part: str, outcome: str = "") -> str:
        """The independent units of an outcome: texts, or of a language model documents, windows or sequences."""
        protocol = self.protocol(part)
        if protocol is None:
            return "texts"
        if outcome == "copying":
            return "sequences"
        return protocol.units

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

    @property
    def masks(self) -> Mapping[tuple[str, int], Sequence[CellRecord]]:
        """The finished cells by method and number of heads kept, in the order of the document."""
        masks: dict[tuple[str, int], list[CellRecord]] = {}
        for cell in self.finished:
            if cell.budget.attained is not None:
                masks.setdefault((cell.method, cell.budget.attained), []).append(cell)
        return masks

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

        document = convert(data, cls, {"full": _read_cell, "cells": _read_cell})
        if document.protocols:
            # Earlier files do not name the windows that begin with the beginning token: it was the first alone. Nor do
            # they name a calibration mix: there was none.
            document = replace(document, settings={"bos": "first", "mix": NO_MIX, **document.settings})
        if not all(isinstance(document.settings.get(name), (list, tuple)) for name in ("seeds", "recoveries")):
            raise ValueError("settings without seeds or recoveries")
        layers = range(document.model.layers)
        heads = set(range(document.model.heads))
        for cell in (*document.full, *document.cells):
            for layer, kept in (cell.kept or {}).items():
                if int(layer) not in layers or not heads.issuperset(kept):
                    raise ValueError("heads that the model does not have")
        return document


def _read_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a cell of a comparison file, with the outcomes of each recovery as estimates."""
    recoveries = {}
    for name, result in cell["recoveries"].items():
        recoveries[name] = dict(result)
        for part in ("eval", "report"):
            recoveries[name][part] = result[part] and from_quality(result[part])
    return {**cell, "recoveries": recoveries}


# Rows of the summary -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """Outcomes of a method at a budget: means over seeds and masks.

    Those that are means over texts have an interval; older files have that of the accuracy alone. ``lowest`` and
    ``highest`` are accuracies of single masks, ``sd`` is that over seeds (None for one seed); without labels all three
    are None. ``rejected`` of the ``masks`` kept their pruned weights, because the recovery did not help (None: not
    applicable, or an older file).
    """

    split: str
    recovery: str
    method: str
    budget: int
    outcomes: Outcomes
    lowest: float | None
    highest: float | None
    sd: float | None
    seeds: int
    masks: int
    rejected: int | None = None

    @property
    def accuracy(self) -> Estimate:
        """The accuracy, with its 95 % interval."""
        return self.outcomes["accuracy"]

    def as_row(self) -> dict[str, Any]:
        """The mean as the row of a table (None: not measured); ``low`` and ``high`` are the ends for the accuracy."""
        row: dict[str, Any] = {"recovery": self.recovery, "method": self.method, "budget": self.budget}
        for name in OUTCOMES:
            estimate = self.outcomes.get(name)
            row[name] = estimate and estimate.value
            ends = estimate.ci95 if estimate else None
            if name in _TEXT_INTERVALS or ("bits_per_byte" in self.outcomes and ends):
                prefix = "" if name == "accuracy" else f"{name}_"
                row[f"{prefix}low"], row[f"{prefix}high"] = ends or (None, None)
        counts = {name: getattr(self, name) for name in ("seeds", "masks", "rejected")}
        return {**row, "n": main_outcome(self.outcomes)[1].n, **counts}

    def to_json(self) -> dict[str, Any]:
        """The mean as a comparison file holds it."""
        change = self.outcomes.get("accuracy_change")
        return {
            **vars(self),
            **to_metrics(self.outcomes),
            "delta_pp": change and change.value,
            "outcomes": {name: one for name, one in self.outcomes.items() if self._needs_entry(name, one)},
        }

    @staticmethod
    def _needs_entry(name: str, estimate: Estimate) -> bool:
        """Whether other fields do not hold the outcome, or not its interval."""
        return name in list_further() or (estimate.ci95 is not None and name != "accuracy")

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the mean that ``to_json`` wrote."""
        outcomes = from_metrics(row)
        if row["delta_pp"] is not None:
            outcomes["accuracy_change"] = Estimate(row["delta_pp"], None, row["n"], "points")
        with_interval = row.get("outcomes", {})
        return {**row, "outcomes": {name: vars(estimate) for name, estimate in outcomes.items()} | with_interval}


@dataclass(frozen=True)
class Area:
    """Mean of an outcome over ``budgets``: the area under a method's line, divided by the line's width."""

    split: str
    recovery: str
    method: str
    area: float
    ci95: tuple[float, float]
    budgets: tuple[int, ...]
    outcome: str = "accuracy"

    @property
    def estimate(self) -> Estimate:
        """The area as an estimate; its ``n`` is the number of budgets."""
        return Estimate(self.area, self.ci95, len(self.budgets), OUTCOMES[self.outcome].unit)


@dataclass(frozen=True)
class Verdict:
    """One test: by how much ``against`` is better than ``method`` in an ``outcome``, and whether that is significant.

    ``pp`` is the lead of ``against`` in ``unit``: points of a share, or nats (less KL is better). It is at one
    ``budget``, or of the areas over several (None). ``ci95`` is its own interval, ``simultaneous`` the one that is
    corrected for the other tests, as ``p_holm`` is ``p`` corrected for them. These three are None with one seed, which
    allows no verdict. A ``tie`` is not significant; otherwise ``better`` names the better method. ``df`` are the
    degrees of freedom of the t test. Differences below ``margin`` do not matter. ``words`` is the result as a sentence.

    An older file has neither ``simultaneous`` nor ``margin``, and no ``df`` where it has a bootstrap.
    """

    split: str
    recovery: str
    budget: int | None
    method: str
    against: str
    pp: float
    ci95: tuple[float, float]
    p: float | None
    p_holm: float | None
    tie: bool
    better: str | None
    n: int
    seeds: int
    words: str = ""
    outcome: str = "accuracy"
    unit: Unit = "points"
    df: float | None = None
    simultaneous: tuple[float, float] | None = None
    margin: float | None = None

    @property
    def tested(self) -> bool:
        """Whether there were enough seeds for a verdict."""
        return self.seeds >= _FEWEST_SEEDS

    @property
    def lead(self) -> str:
        """The lead of ``against`` with its unit: ``+1.2 points`` or ``+0.120 nats``."""
        if self.unit == "points":
            return points(self.pp)
        return f"{signed(self.pp, self._digits)} nats"

    @property
    def _digits(self) -> int:
        if self.unit == "points":
            return 1
        # A tie of masks that give the same results has a lead of 0.
        return nats_digits(self.pp or max(self.interval, key=abs))

    @property
    def interval(self) -> tuple[float, float]:
        """The interval that stands beside the corrected p: the simultaneous one, if there is one."""
        return self.simultaneous or self.ci95

    @property
    def interval_name(self) -> str:
        """What ``interval`` is."""
        if self.simultaneous is None:
            return "95 % interval"
        return "simultaneous 95 % interval"

    @property
    def span(self) -> str:
        """The interval as sentences show it: ``+0.1 to +2.3``."""
        return " to ".join(signed(end, self._digits) for end in self.interval)

    def rescale(self, level: float) -> tuple[float, float]:
        """Return the interval of another ``level`` than that of ``ci95``, which is 0.95."""
        return rescale(self.pp, self.ci95, self.df, level)

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a test; an older file may have a verdict from one seed, which is no verdict."""
        if row["seeds"] < _FEWEST_SEEDS:
            return {**row, "tie": True, "better": None}
        return dict(row)


def rescale(mean: float, ci95: tuple[float, float], df: float | None, level: float) -> tuple[float, float]:
    """Return the interval of another ``level`` than 0.95 around a mean with ``df`` degrees of freedom.

    A bootstrap has None, and the intervals of a normal distribution.
    """
    from scipy.special import stdtrit

    wanted, given = stdtrit(df or 1e9, [(1 + level) / 2, 0.975])
    low, high = (mean + (end - mean) * float(wanted / given) for end in ci95)
    return low, high


@dataclass(frozen=True)
class AreaVerdict(Verdict):
    """A test of areas over ``budgets``."""

    budgets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Primary:
    """The primary test of a comparison, which a fixed rule names before anything is measured.

    It has one ``outcome``, ``split`` and ``recovery``, and ``budgets`` with their area; one budget stands for itself.
    ``tests`` compare each method with the reference, and are corrected for each other alone. ``words`` names it.
    """

    split: str
    outcome: str
    recovery: str
    budgets: tuple[int, ...]
    words: str
    tests: tuple[AreaVerdict, ...]
