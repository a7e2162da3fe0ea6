"""A comparison file, ``compare.json`` of the schema ``cahp.compare/1``: typed values, its table, rows of its summary.

The fields are those of the file, in its order. A value that was not measured is None, never 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from cahp.files import csv_text, plain_json
from cahp.models.cards import SelectionCost
from cahp.outcomes import OUTCOMES, Outcomes, from_metrics, list_further, main_outcome, to_delta, to_metrics
from cahp.run.document import ModelRecord
from cahp.run.resources import SplitRecord
from cahp.tasks.answers import WindowProtocol
from cahp.values import Bools, Estimate, Unit
from cahp.words import nats_digits, points, signed

SCHEMA = "cahp.compare/1"
#: The change in accuracy against the full model after the same recovery, if the recovery changes the full model.
CHANGE_ALIKE = "accuracy_change_alike"
#: The outcomes by which methods are tested against each other, the most telling one first; see ``list_tested``.
TESTED = ("kl", "agreement", "accuracy", "nll", "copying")
#: Outcomes with columns of an interval in every table.
_TEXT_INTERVALS = ("kl", "agreement", "accuracy")
#: With fewer seeds a test has no verdict.
_FEWEST_SEEDS = 2
T = TypeVar("T")


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

    ``accepted`` tells whether the recovery was kept (None: it is never rejected).
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
                record["recoveries"][name] |= {
                    part: _to_quality(outcomes) for part, outcomes in result.measured.items()
                }
        return content

    @classmethod
    def from_json(cls, data: object) -> ComparisonDocument:
        """Read a comparison file.

        Raises:
            ValueError: If parts are missing, or contradict each other.
        """
        document = convert(data, cls, {"full": _read_cell, "cells": _read_cell})
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
            recoveries[name][part] = result[part] and _from_quality(result[part])
    return {**cell, "recoveries": recoveries}


def _to_quality(outcomes: Outcomes) -> dict[str, Any]:
    """Return outcomes as a cell's ``eval`` and ``report`` hold them."""
    alike = {}
    if CHANGE_ALIKE in outcomes:
        alike["accuracy_change"] = outcomes[CHANGE_ALIKE]
    quality = {**to_metrics(outcomes), "delta": to_delta(outcomes), "delta_alike": to_delta(alike)}
    for name in list_further():
        if name in outcomes:
            quality[name] = outcomes[name].value
        elif OUTCOMES[name].needs != "tokens":
            # A classifier has no fields of language models.
            quality[name] = None
    return dict(plain_json(quality))


def _from_quality(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``_to_quality`` wrote as fields of estimates.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: If a field is missing or malformed.
    """
    outcomes = from_metrics(quality, quality["delta"])
    if quality["delta_alike"] is not None:
        outcomes[CHANGE_ALIKE] = from_metrics(quality, quality["delta_alike"])["accuracy_change"]
    for name in list_further():
        if quality.get(name) is not None:
            outcomes[name] = Estimate(quality[name], None, quality["n"], OUTCOMES[name].unit)
    return {name: vars(estimate) for name, estimate in outcomes.items()}


def convert(data: object, cls: type[T], read_rows: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]) -> T:
    """Convert JSON to ``cls``, after ``read_rows`` has read the rows of some fields.

    Raises:
        ValueError: If parts are missing or of another type.
    """
    import msgspec

    try:
        content: dict[str, Any] = dict(data)  # type: ignore[call-overload]
        for name, read_row in read_rows.items():
            content[name] = [read_row(row) for row in content[name]]
        return msgspec.convert(content, cls)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


# The table ---------------------------------------------------------------------------------------------------

#: The columns of ``comparison.csv`` in their order; outcomes that are not among them follow.
_COLUMNS = (
    *("method", "setting", "seed", "draw", "requested", "attained", "recovery", "split"),
    *("accuracy", "ci_low", "ci_high", "macro_f1", "loss", "n", "agreement", "delta_pp", "delta_low", "delta_high"),
    *("score_s", "recovery_s", "evaluation_s", "forwards", "labels", "kept", "error", "kl", "ece", "accepted"),
    *("perplexity", "bits_per_byte", "copying"),
)
#: The names of outcomes in the CSV, where they differ.
_RENAMED = {"nll": "loss", "accuracy_change": "delta_pp"}


def tabulate_cells(document: ComparisonDocument) -> pd.DataFrame:
    """One table of everything that was measured: a row for each mask, recovery and split, the full model first.

    Its columns are those of the CSV, with outcomes by their own names, and ``part`` and ``row`` (see
    ``RecoveryResult``). A failed cell has one row without outcomes. What was not measured is None.
    """
    rows = []
    for cell in (*document.full, *document.cells):
        shared: dict[str, Any] = {"method": cell.method, "seed": cell.seed, "draw": cell.draw, "error": cell.error}
        shared |= {"requested": cell.budget.requested, "attained": cell.budget.attained, "score_s": cell.seconds.score}
        shared["setting"] = json.dumps(cell.setting, sort_keys=True) if cell.setting else ""
        shared["kept"] = " ".join(f"{layer}.{head}" for layer, heads in (cell.kept or {}).items() for head in heads)
        if cell.price is not None:
            shared |= {"forwards": cell.price.forwards, "labels": cell.price.labels}
        if not cell.recoveries:
            rows.append(shared)
        for recovery, result in cell.recoveries.items():
            seconds = {"recovery_s": cell.seconds.recovery.get(recovery)}
            seconds["evaluation_s"] = cell.seconds.evaluation.get(recovery)
            place = {"recovery": recovery, "row": result.row, "accepted": result.accepted, **seconds}
            for part, outcomes in result.measured.items():
                row = shared | place | {"part": part, "split": document.data.of(part).split}
                row |= {name: outcome.value for name, outcome in outcomes.items()}
                row["n"] = main_outcome(outcomes)[1].n
                for name, prefix in (("accuracy", "ci"), ("accuracy_change", "delta")):
                    if name in outcomes:
                        row |= {f"{prefix}_low": outcomes[name].low, f"{prefix}_high": outcomes[name].high}
                rows.append(row)
    columns = dict.fromkeys((*_COLUMNS, *OUTCOMES, "part", "row"))
    frame = pd.DataFrame(rows, columns=list(columns), dtype=object)
    return frame.where(frame.notna(), None)


def write_table(document: ComparisonDocument) -> str:
    """Write ``comparison.csv``."""
    frame = tabulate_cells(document).drop(columns=list(_RENAMED.values())).rename(columns=_RENAMED)
    columns = [*_COLUMNS, *(name for name in list_further() if name not in _COLUMNS)]
    return csv_text(columns, frame[columns].itertuples(index=False, name=None))


# Rows of the summary -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """Outcomes of a method at a budget: means over seeds and masks.

    Those that are means over texts have an interval. ``lowest`` and ``highest`` are accuracies of single masks, ``sd``
    is that over seeds (None for one seed); without labels all three are None. ``rejected`` of the ``masks`` kept their
    pruned weights, because the recovery did not help (None: not applicable).
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
            # Those that other fields do not hold, or without their interval.
            "outcomes": {
                name: one
                for name, one in self.outcomes.items()
                if name in list_further() or (one.ci95 is not None and name != "accuracy")
            },
        }

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the mean that ``to_json`` wrote."""
        outcomes = from_metrics(row)
        if row["delta_pp"] is not None:
            outcomes["accuracy_change"] = Estimate(row["delta_pp"], None, row["n"], "points")
        return {**row, "outcomes": {name: vars(estimate) for name, estimate in outcomes.items()} | row["outcomes"]}


def means_as_table(means: Iterable[Mean]) -> dict[str, list[Any]]:
    """Return means as columns by name; see ``Mean.as_row``."""
    frame = pd.DataFrame([mean.as_row() for mean in means], dtype=object)
    return {str(name): column.tolist() for name, column in frame.items()}


@dataclass(frozen=True)
class Area:
    """Mean of an outcome over ``budgets``: the area under a method's line, divided by the line's width."""

    split: str
    recovery: str
    method: str
    area: float
    ci95: tuple[float, float]
    budgets: tuple[int, ...]
    outcome: str

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
    degrees of freedom of the t test. Differences below ``margin`` do not matter (None: nats without a KL divergence to
    compare with). ``words`` is the result as a sentence.
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
    words: str
    outcome: str
    unit: Unit
    df: float
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


def rescale(mean: float, ci95: tuple[float, float], df: float, level: float) -> tuple[float, float]:
    """Return the interval of another ``level`` than 0.95 around a mean with ``df`` degrees of freedom."""
    from scipy.special import stdtrit

    wanted, given = stdtrit(df, [(1 + level) / 2, 0.975])
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
