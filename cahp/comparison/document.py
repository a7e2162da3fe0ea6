"""A comparison file, ``compare.json`` of the schema ``cahp.compare/1``, and the table of everything in it.

The fields are those of the file, in its order. A value that was not measured is None, never 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from cahp.files import csv_text
from cahp.models.cards import SelectionCost
from cahp.outcomes import list_further
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import ModelRecord
from cahp.run.resources import SplitRecord
from cahp.tasks.answers import WindowProtocol
from cahp.values import Bools, Fields, Floats, Names, Notices

SCHEMA = "cahp.compare/1"
#: More heads than any model has.
_MOST_HEADS = 65_536
#: Names of methods: short, and without any characters that Markdown interprets.
_NAME = re.compile("(?=.{1,60}$)[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*")


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
    classes: Names
    select: tuple[SeedSample, ...]
    eval: SplitRecord
    steer: SplitRecord | None
    report: SplitRecord | None

    def of(self, part: str) -> SplitRecord:
        """The texts of ``eval`` or ``report``."""
        record: SplitRecord = getattr(self, part)
        return record


@dataclass(frozen=True)
class Participant:
    """A method that took part: its description, how many masks it draws (a random one several), if it trains gates."""

    about: str = ""
    draws: int = 1
    learned: bool = False


@dataclass(frozen=True)
class RecoveryResult:
    """Outcomes of a mask after a recovery, by part; ``row`` is its row in the arrays of ``compare.npz``.

    ``eval`` and ``report`` have the fields of ``metrics`` in ``run.json``, further outcomes by name, and the change in
    accuracy: ``delta`` against the full model, ``delta_alike`` against the full model after the same recovery.
    ``accepted`` tells whether the recovery was kept (None: it is never rejected).
    """

    row: int
    eval: Fields | None
    report: Fields | None
    accepted: bool | None = None


@dataclass(frozen=True)
class CellRecord:
    """A mask and its results, or the error that ended the cell.

    ``noise`` is the seed of the method's own randomness, ``budget`` has the ``requested`` and ``attained`` heads,
    ``kept`` heads by layer, and ``seconds`` those to ``score``, and by recovery those of ``recovery`` and
    ``evaluation``.
    """

    method: str
    setting: Fields
    seed: int
    draw: int
    noise: int
    budget: Mapping[str, int | None]
    kept: Mapping[str, tuple[int, ...]] | None
    recoveries: Mapping[str, RecoveryResult]
    seconds: Fields
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
    settings: Fields
    methods: Mapping[str, Participant]
    full: tuple[CellRecord, ...]
    estimate: Fields
    timings: Mapping[str, float | None]
    test_opened: int
    notices: Notices
    versions: Mapping[str, str]
    command: str | None
    cells: tuple[CellRecord, ...]
    criticality: tuple[tuple[float, ...], ...] | None = None
    criticality_texts: int | None = None
    protocols: Mapping[str, WindowProtocol] | None = None

    def noun(self, part: str, outcome: str = "") -> str:
        """The independent units of an outcome: texts, or of a language model documents, windows or sequences."""
        if self.protocols is None:
            return "texts"
        if outcome == "copying":
            return "sequences"
        return self.protocols[part].units

    @property
    def items(self) -> str:
        """What a model reads: texts, or windows of them."""
        if self.protocols is None:
            return "texts"
        return "windows"

    @property
    def total(self) -> int:
        """Heads of the full model."""
        return self.model.layers * self.model.heads

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the plan."""
        return tuple(self.settings["seeds"])

    @property
    def recoveries(self) -> Names:
        """The recoveries, in the order of the plan."""
        return tuple(self.settings["recoveries"])

    @property
    def parts(self) -> Names:
        """The evaluated parts: ``eval``, and ``report`` if the comparison reports on the test split."""
        return ("eval", "report") if self.data.report else ("eval",)

    @property
    def all_cells(self) -> tuple[CellRecord, ...]:
        """All cells, those of the full model first."""
        return (*self.full, *self.cells)

    @property
    def critical(self) -> Floats:
        """The criticality of heads ``(L, H)``, zeros where it was not measured."""
        return np.array(self.criticality or np.zeros((self.model.layers, self.model.heads)))

    def mask(self, cell: CellRecord) -> Bools:
        """The heads that a cell keeps, ``(L, H)``."""
        keep = np.zeros((self.model.layers, self.model.heads), dtype=np.bool_)
        for layer, heads in (cell.kept or {}).items():
            keep[int(layer), list(heads)] = True
        return keep

    @classmethod
    def from_json(cls, data: Any) -> ComparisonDocument:
        """Read a comparison file.

        Raises:
            ValueError, LookupError, TypeError: If parts are missing, of another type, or contradict each other.
        """
        if data["schema"] != SCHEMA:
            raise ValueError(f"not of the schema {SCHEMA}")
        document = msgspec.convert(data, cls)
        shape = (document.model.layers, document.model.heads)
        if not 0 < document.total <= _MOST_HEADS:
            raise ValueError("an impossible number of heads")
        if not all(map(_NAME.fullmatch, {*document.methods, *(cell.method for cell in document.all_cells)})):
            raise ValueError("an invalid name of a method")
        if not {"seeds", "recoveries"} <= document.settings.keys():
            raise ValueError("settings without seeds or recoveries")
        if not {NONE.name} <= {*document.recoveries} <= RECOVERIES.keys():
            raise ValueError("an unknown recovery")
        for cell in document.all_cells:
            # Heads that the model does not have raise an error.
            document.mask(cell)
        critical = document.critical
        if critical.shape != shape or not (np.isfinite(critical) & (critical >= 0)).all():
            raise ValueError("criticality that is negative, or of heads that the model does not have")
        return document


# The table ---------------------------------------------------------------------------------------------------

#: The columns of ``comparison.csv`` in their order; outcomes that are not among them follow.
_COLUMNS = (
    *("method", "setting", "seed", "draw", "requested", "attained", "recovery", "split"),
    *("accuracy", "ci_low", "ci_high", "macro_f1", "loss", "n", "agreement", "delta_pp", "delta_low", "delta_high"),
    *("score_s", "recovery_s", "evaluation_s", "forwards", "labels", "kept", "error", "kl", "ece", "accepted"),
    *("perplexity", "bits_per_byte", "copying"),
)


def _columns() -> list[str]:
    return list(dict.fromkeys((*_COLUMNS, *list_further())))


def tabulate_cells(document: ComparisonDocument) -> pd.DataFrame:
    """One table of everything that was measured: a row for each mask, recovery and split, the full model first.

    Its columns are those of the CSV, and ``part`` and ``row`` (see ``RecoveryResult``). A failed cell has one row
    without outcomes. What was not measured is None.
    """
    rows = []
    for cell in document.all_cells:
        shared = {"method": cell.method, "seed": cell.seed, "draw": cell.draw, "error": cell.error}
        shared |= {**cell.budget, "score_s": cell.seconds["score"], "setting": ""}
        if cell.setting:
            shared["setting"] = json.dumps(cell.setting, sort_keys=True)
        shared["kept"] = " ".join(f"{layer}.{head}" for layer, heads in (cell.kept or {}).items() for head in heads)
        if cell.price is not None:
            shared |= vars(cell.price)
        if not cell.recoveries:
            rows.append(shared)
        for recovery, result in cell.recoveries.items():
            for part in document.parts:
                row = {**shared, **getattr(result, part), "recovery": recovery, "part": part}
                row |= {"row": result.row, "accepted": result.accepted, "split": document.data.of(part).split}
                row |= {f"{name}_s": cell.seconds[name].get(recovery) for name in ("recovery", "evaluation")}
                row["ci_low"], row["ci_high"] = row["ci95"] or (None, None)
                if row["delta"]:
                    row["delta_pp"] = row["delta"]["pp"]
                    row["delta_low"], row["delta_high"] = row["delta"]["ci95"]
                rows.append(row)
    frame = pd.DataFrame(rows, columns=[*_columns(), "part", "row"], dtype=object)
    return frame.where(frame.notna(), None)


def write_table(document: ComparisonDocument) -> str:
    """Write ``comparison.csv``."""
    columns = _columns()
    return csv_text(columns, tabulate_cells(document)[columns].itertuples(index=False, name=None))
