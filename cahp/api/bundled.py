"""Finished results that ship with the package, so that the explorer starts without measuring: runs and comparisons.

They hold no texts. A run has its document, small arrays and the measured rows of its tables; that of a language model
also a description of the model and of its windows, so that it is shown where the model is not installed. A comparison
has its file, ``made.json`` with the machine and day of the measurement, and ``better.json`` with the methods that it
shows to be better than CAHP.

``assets/bundle.py`` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp import models
from cahp.board.budget_sweep import BudgetTable, table_of
from cahp.board.head_clusters import HeadClusters
from cahp.models.cards import ModelCard
from cahp.recoveries import AT_ONCE, QUICK
from cahp.run.document import RunDocument
from cahp.run.settings import PUBLISHED_LENGTH, Salience, Settings
from cahp.tasks.texts import Texts
from cahp.values import CahpError

if TYPE_CHECKING:
    from cahp.comparison import Comparison

#: The settings of the bundled run of the default model: the embedded default with a refit, to show both states.
SETTINGS = Settings(recover="refit")
NAME = SETTINGS.model
#: The settings of the bundled run of each model. The published rule keeps far too few heads of a language model, so its
#: run names a number; its speed is measured where it is used.
RUNS: Mapping[str, Settings] = {
    NAME: replace(SETTINGS, max_length=PUBLISHED_LENGTH),
    "smollm2": Settings(model="smollm2", recover="refit", budget="72", latency=False),
}
#: The machine and day of a comparison.
MADE_FILE = "made.json"
#: The methods that a comparison shows to be better than CAHP, with the digest of the model and the data.
BETTER_FILE = "better.json"
#: The description of a language model and of its windows.
MODEL_FILE = "model.json"


# The run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowsRecord:
    """The windows of a split: their number, without those of repeated random tokens, their tokens, and digest."""

    rows: int
    count: int
    tokens: int
    sha256: str

    @classmethod
    def of(cls, texts: Texts) -> WindowsRecord:
        """Describe windows."""
        return cls(len(texts), texts.count, int(texts.tokens), texts.sha256)


@dataclass(frozen=True)
class ModelFacts:
    """The card of a language model, without the folder of its files, and its windows by split."""

    card: ModelCard
    splits: Mapping[str, WindowsRecord]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundled run: ``document`` is its ``run.json``; ``made`` holds the machine and day of the measurement.

    ``tables`` are the measured rows of budgets by recovery. A language model has ``facts``. All sessions share the
    ``clusters``, by kind of salience and degree of the polynomial.
    """

    document: RunDocument
    arrays: Mapping[str, NDArray[Any]]
    tables: Mapping[str, Mapping[str, Any]]
    made: Mapping[str, str]
    facts: ModelFacts | None = None
    clusters: dict[tuple[Salience, int], HeadClusters] = field(default_factory=dict)

    def evidence(self) -> HeadClusters:
        """Return the clusters of the run."""
        return HeadClusters.of_arrays(self.arrays, self.document)

    def swept_table(self) -> BudgetTable:
        """Return all budgets of the run with the measurements that ship, after its recovery where that was swept."""
        clusters = self.evidence()
        quick = None
        if AT_ONCE.name in self.tables and self.document.settings.recover == QUICK.name:
            quick = BudgetTable(clusters.selections(self.document.settings), recover=AT_ONCE.name, timed=False)
            quick.fill_from(self.tables[AT_ONCE.name])
        table = table_of(self.document, clusters, quicker=quick)
        table.fill_from(self.tables[table.recover])
        return table


def run_folder(name: str = NAME) -> Path:
    """Return the folder of the bundled run of a model."""
    return models.assets() / "runs" / name


@cache
def read_run(name: str = NAME) -> Bundle | None:
    """Read the bundled run of a model; None if this copy of the package has none."""
    if name not in RUNS:
        return None
    place = run_folder(name)
    try:
        document = RunDocument.from_json(json.loads((place / "run.json").read_text(encoding="utf-8")))
        table = json.loads((place / "table.json").read_text(encoding="utf-8"))
        tables = {rows["recover"]: rows for rows in (table["rows"], *table.get("recovered", ()))}
        facts = None
        if (place / MODEL_FILE).exists():
            facts = msgspec.json.decode((place / MODEL_FILE).read_bytes(), type=ModelFacts)
        with np.load(place / "arrays.npz", allow_pickle=False) as arrays:
            return Bundle(document, dict(arrays), tables, table["made"], facts)
    except FileNotFoundError:
        return None


# Comparisons -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BundledComparison:
    """A bundled comparison; ``made`` names its ``machine`` and ``date``, if they were recorded."""

    name: str
    comparison: Comparison
    made: Mapping[str, str]


def comparisons_folder() -> Path:
    """Return the folder of the bundled comparisons."""
    return models.assets() / "compare"


def read_comparisons(place: Path) -> tuple[list[BundledComparison], list[str]]:
    """Read the comparisons in ``place``, ordered by name; return them and a message for each unreadable one."""
    from cahp.comparison.result import FILE

    readable = []
    messages = []
    for file in sorted(place.glob(f"*/{FILE}")):
        try:
            readable.append(_comparison(file, file.stat().st_mtime_ns))
        except (CahpError, OSError) as error:
            messages.append(f"The bundled comparison {file.parent.name} cannot be shown: {error}")
    return readable, messages


def describe_better_method(model: str, sha256: str, data: str, recovery: str, budget: int) -> tuple[str, str] | None:
    """Name a method that the bundled comparison of a model shows to be better than CAHP, with its lead in a sentence.

    None: there is none at a tested budget within a fifth of ``budget`` after this ``recovery``, or no comparison of
    this model on these ``data``.
    """
    file = next((file for file in comparisons_folder().glob(f"*/{BETTER_FILE}") if file.parent.name == model), None)
    if file is None:
        return None
    facts = json.loads(file.read_text(encoding="utf-8"))
    tested = facts["better"].get(recovery, {})
    near = min(map(int, tested), key=lambda at: abs(at - budget), default=0)
    better = tested.get(str(near))
    if (facts["sha256"], facts["data"]) != (sha256, data) or abs(near - budget) > budget / 5 or better is None:
        return None
    method, words = better
    return method, words


@lru_cache(maxsize=8)
def _comparison(file: Path, changed: int) -> BundledComparison:
    # ``changed`` is part of the cache key: a file that was replaced is read again.
    from cahp.comparison.result import Comparison

    try:
        made = json.loads(file.with_name(MADE_FILE).read_text(encoding="utf-8"))
        made = {name: str(made[name]) for name in ("machine", "date")}
    except (OSError, ValueError, KeyError, TypeError):
        made = {}
    return BundledComparison(file.parent.name, Comparison.read(file.parent), made)
