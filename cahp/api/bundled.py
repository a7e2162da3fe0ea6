"""Finished results that ship with the package, so that the explorer starts without measuring: runs and comparisons.

They hold no texts. A run has its document, small arrays and the measured rows of its tables; that of a language model
also a description of the model and of its windows, so that it is shown where the model is not installed. A comparison
has its file, and ``made.json`` with the machine and day of the measurement.

``assets/bundle.py`` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cahp import models
from cahp.board.budget_sweep import BudgetTable, table_of
from cahp.board.head_clusters import HeadClusters
from cahp.models.cards import ModelCard
from cahp.recoveries import AT_ONCE, QUICK, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.settings import PUBLISHED_LENGTH, Salience, Settings
from cahp.tasks.texts import Texts
from cahp.values import Arrays, CahpError, Estimate, Fields

if TYPE_CHECKING:
    from cahp.comparison import Comparison
    from cahp.comparison.result import SplitResults

#: The settings of the bundled run of the default model: the embedded default with a refit, to show both states.
SETTINGS = Settings(recover="refit")
NAME = SETTINGS.model
#: The settings of the bundled run of each model. The published rule keeps far too few heads of a language model, so its
#: run names a number; its speed is measured where it is used.
RUNS = {
    NAME: replace(SETTINGS, max_length=PUBLISHED_LENGTH),
    "smollm2": Settings(model="smollm2", recover="refit", budget="72", latency=False),
}
#: The machine and day of a comparison.
MADE_FILE = "made.json"
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

    @classmethod
    def of(cls, bench: Bench) -> ModelFacts:
        """Describe the model and the windows of a bench."""
        card = replace(bench.card, folder="", source=Path(bench.card.source or "").name)
        return cls(card, {name: WindowsRecord.of(texts) for name, texts in bench.dataset.splits.items()})


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundled run: ``document`` is its ``run.json``; ``made`` holds the machine and day of the measurement.

    ``tables`` are the measured rows of budgets by recovery. A language model has ``facts``. All sessions share the
    ``clusters``, by kind of salience and degree of the polynomial.
    """

    document: RunDocument
    arrays: Arrays
    tables: Mapping[str, Fields]
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


def read_folder(place: Path) -> Bundle:
    """Read a bundled run.

    Raises:
        FileNotFoundError: If there is none.
    """
    document = RunDocument.from_json(json.loads((place / "run.json").read_text(encoding="utf-8")))
    table = json.loads((place / "table.json").read_text(encoding="utf-8"))
    tables = {rows["recover"]: rows for rows in (table.get("rows"), *table["recovered"]) if rows}
    facts = None
    if (place / MODEL_FILE).exists():
        facts = msgspec.json.decode((place / MODEL_FILE).read_bytes(), type=ModelFacts)
    with np.load(place / "arrays.npz", allow_pickle=False) as arrays:
        return Bundle(document, dict(arrays), tables, table["made"], facts)


@cache
def read_run(name: str = NAME) -> Bundle | None:
    """Read the bundled run of a model; None if this copy of the package has none."""
    if name not in RUNS:
        return None
    try:
        return read_folder(run_folder(name))
    except FileNotFoundError:
        return None


# Comparisons -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BundledComparison:
    """A bundled comparison; ``made`` names its ``machine`` and ``date``."""

    name: str
    comparison: Comparison
    made: Mapping[str, str]


def comparisons_folder() -> Path:
    """Return the folder of the bundled comparisons."""
    return models.assets() / "compare"


def read_comparisons() -> tuple[list[BundledComparison], list[str]]:
    """Read the bundled comparisons, ordered by name; return them and a message for each unreadable one."""
    readable = []
    messages = []
    for file in sorted(comparisons_folder().glob("*/compare.json")):
        try:
            readable.append(_comparison(file, file.stat().st_mtime_ns))
        except (CahpError, OSError) as error:
            messages.append(f"The bundled comparison {file.parent.name} cannot be shown: {error}")
    return readable, messages


def describe_better_method(model: str, sha256: str, data: str, recovery: str, budget: int) -> str | None:
    """Say which method the bundled comparison of a model shows to be furthest ahead of CAHP, and its lead.

    None: none is significantly ahead at a tested budget within a fifth of ``budget`` after this ``recovery``, or there
    is no comparison of this model on these ``data``. A method with another per-layer minimum does not count.
    """
    from cahp.comparison.plan import split_minimum
    from cahp.comparison.sentences import count_texts, name_outcome

    results = _find_results(model, sha256, data)
    if results is None:
        return None
    near = min(results.budgets_after(recovery), key=lambda at: abs(at - budget), default=0)
    ahead = [
        test
        for test in results.tests_at(recovery, near)
        if test.better == test.method and split_minimum(test.method)[1] is None
    ]
    if abs(near - budget) > budget / 5 or not ahead:
        return None
    test = max(ahead, key=lambda test: abs(test.pp))
    low, high = test.interval
    lead = Estimate(-test.pp, (-high, -low), test.n, test.unit)
    amount = lead.text.removeprefix("+")
    if test.unit != "points":
        amount += f" {test.unit}"
    return (
        f"At {near} of {results.total}, {RECOVERIES[recovery].beside}, {test.method} is better than CAHP in "
        f"{name_outcome(test.outcome)} by {amount} ({lead.span}, {count_texts(test, results.noun)})"
    )


def describe_overlap(model: str, sha256: str, data: str, budget: int) -> str:
    """Say how far CAHP's masks of two seeds agree at the compared budget nearest to this one (empty: not compared)."""
    results = _find_results(model, sha256, data)
    if results is None:
        return ""
    rows = [row for row in results.summary.overlap["seeds"] if row["method"] == "complementary"]
    row = min(rows, key=lambda row: abs(row["budget"] - budget))
    chance = f"chance {row['chance']:.2f}"
    return f"CAHP's masks of {row['budget']} {results.units} overlap by {row['jaccard']:.2f} between seeds ({chance})."


def _find_results(model: str, sha256: str, data: str) -> SplitResults | None:
    """Return the results of the bundled comparison of a model on these ``data`` (None: there is none)."""
    file = comparisons_folder() / model / "compare.json"
    if file.parent.name != model or not file.exists():
        return None
    results = _comparison(file, file.stat().st_mtime_ns).comparison.results
    if (results.document.model.sha256, results.document.data.id) != (sha256, data):
        return None
    return results


@lru_cache(maxsize=16)
def _comparison(file: Path, changed: int) -> BundledComparison:
    # ``changed`` is part of the cache key: a file that was replaced is read again.
    from cahp.comparison.result import Comparison

    made = json.loads(file.with_name(MADE_FILE).read_text(encoding="utf-8"))
    return BundledComparison(file.parent.name, Comparison.read(file.parent), made)
