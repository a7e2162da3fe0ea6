"""The finished results that ship with the package, so that the first picture needs no measurement: a run, comparisons.

They hold what the explorer draws, and no texts. Of the run: its document, small arrays, and the measured rows of its
table. Of a comparison: its file, and ``made.json``, which says where and when it was measured.

``python -m cahp.bundled`` measures the run anew, ``python -m cahp.bundled lessons`` the answers of Learn's six steps on
it; ``python -m cahp.bundled compare DIR`` bundles the comparison in a folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp import models
from cahp.comparison import Comparison
from cahp.comparison.result import FILE, read_shown
from cahp.files import json_text, write_whole
from cahp.run.bench import open_bench
from cahp.run.document import RunDocument, machine
from cahp.run.prune import choose, measure_run
from cahp.run.settings import Salience, Settings
from cahp.store import Store
from cahp.studies import lessons as six_steps
from cahp.studies.answers import Answer
from cahp.studies.answers import measure as answered
from cahp.studies.budget_sweep import BudgetTable
from cahp.studies.filling import fill
from cahp.studies.head_clusters import HeadClusters
from cahp.studies.table_file import table_json
from cahp.values import CahpError, Progress, silent

#: The settings of the bundled run: the embedded default, recovered, so that before and after can be shown.
SETTINGS = Settings(recover="refit")
NAME = "minilm-bbc"
#: Where and when a comparison was measured.
_MADE = "made.json"
#: The answers to the six steps of Learn, in the bundled run's folder.
_LESSONS = "lessons.json"


# The run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bundle:
    """The bundled run: ``document`` is its ``run.json``; ``made`` says on which machine and day it was measured."""

    document: RunDocument
    arrays: Mapping[str, NDArray[Any]]
    rows: Mapping[str, Any]
    made: Mapping[str, str]

    @lru_cache(maxsize=32)  # noqa: B019 (there is one bundle a process)
    def evidence(self, salience: Salience = "batch", degree: int | None = None) -> HeadClusters:
        """What the choice of heads follows from, for the run's own projection; with the knee of another ``degree``.

        Made once for all who ask.
        """
        if degree is not None:
            return self.evidence(salience).with_degree(degree)
        clusters = HeadClusters.of_arrays(self.arrays, self.document)
        if salience == "batch":
            return clusters
        return replace(clusters, salience=self.arrays["salience_example"].reshape(clusters.salience.shape))


def folder() -> Path:
    """Where the bundled run lies."""
    return models.assets() / "runs" / NAME


@cache
def read() -> Bundle | None:
    """The bundled run, or None if this copy of the package has none."""
    place = folder()
    try:
        said = json.loads((place / "run.json").read_text(encoding="utf-8"))
        table = json.loads((place / "table.json").read_text(encoding="utf-8"))
        with np.load(place / "arrays.npz", allow_pickle=False) as arrays:
            return Bundle(RunDocument.from_json(said), dict(arrays), table["rows"], table["made"])
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class BundledLessons:
    """The answers to the six steps on the bundled run, by name; ``subject`` is the digest of what they are about."""

    subject: str
    answers: Mapping[str, Answer]
    made: Mapping[str, str]


@cache
def lessons() -> BundledLessons | None:
    """The bundled answers, or None if this copy of the package has none."""
    try:
        return msgspec.json.decode((folder() / _LESSONS).read_bytes(), type=BundledLessons)
    except FileNotFoundError:
        return None


def write_lessons(place: Path, *, store: Store | None = None, day: date, progress: Progress = silent) -> None:
    """Measure the answers to the six steps on the bundled run's heads, and write them to ``place``."""
    bench = open_bench(SETTINGS, store=store, progress=progress)
    subject = six_steps.subject_of(
        bench, HeadClusters.of(bench.evidence), choose(bench), load=lambda card, *, device: bench.model
    )
    answers = {step.name: answered(step.name, subject, progress=progress) for step in six_steps.steps(subject)}
    found = BundledLessons(subject.sha256, answers, {"machine": machine(), "date": day.isoformat()})
    write_whole(place, {_LESSONS: json_text(asdict(found)).encode()})


def write(place: Path, *, store: Store | None = None, day: date, progress: Progress = silent) -> None:
    """Measure the bundled run and its table of all budgets, and write them to ``place``."""
    from cahp.stages.salience import salience

    bench = open_bench(SETTINGS, store=store, progress=progress)
    run = measure_run(bench, command="cahp prune --recover refit")
    evidence = bench.evidence
    table = BudgetTable.plan(HeadClusters.of(evidence), SETTINGS)
    for _ in fill(table, bench, progress):
        pass
    # What the explorer draws; signatures and features are large, and stay behind.
    small = ("embedding", "distances", "ks", "mss", "labels", "medoids", "labels_of_k", "medoids_of_k")
    arrays = {
        **{name: run.arrays[name] for name in small},
        "salience": run.arrays["salience"],
        "salience_example": salience(evidence.gradients, how="example").ravel(),
    }
    made = {"machine": machine(), "date": day.isoformat()}
    place.mkdir(parents=True, exist_ok=True)
    write_whole(
        place,
        {
            "run.json": json_text(run.document.to_json()).encode(),
            "table.json": json_text({"made": made, **table_json(table, run.document)}).encode(),
            "arrays.npz": lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
        },
    )


# Comparisons -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BundledComparison:
    """A comparison that ships; ``made`` names its ``machine`` and ``date``, if that was recorded."""

    name: str
    comparison: Comparison
    made: Mapping[str, str]


def comparisons_folder() -> Path:
    """Where the bundled comparisons lie."""
    return models.assets() / "compare"


def comparisons(place: Path) -> tuple[list[BundledComparison], list[str]]:
    """The comparisons in the folder ``place``, by name, and a sentence for each that cannot be read."""
    found, broken = [], []
    for file in sorted(place.glob(f"*/{FILE}")):
        try:
            found.append(_comparison(file, file.stat().st_mtime_ns))
        except (CahpError, OSError) as error:
            broken.append(f"The bundled comparison {file.parent.name} cannot be shown: {error}")
    return found, broken


@lru_cache(maxsize=8)
def _comparison(file: Path, changed: int) -> BundledComparison:
    # The time of its last change is part of the question: a file that was replaced is read again.
    try:
        made = json.loads(file.with_name(_MADE).read_text(encoding="utf-8"))
        made = {name: str(made[name]) for name in ("machine", "date")}
    except (OSError, ValueError, KeyError, TypeError):
        made = {}
    return BundledComparison(file.parent.name, read_shown(file.parent), made)


def bundle_comparison(source: Path, place: Path, *, machine: str) -> Path:
    """Bundle the comparison in the folder ``source`` as ``place``, with its machine and day of measuring.

    Who answered which text stays behind: its summary is in the document.

    Raises:
        CahpError: If there is none in the folder.
    """
    found = Comparison.read(source)
    _ = found.results
    day = date.fromtimestamp((source / FILE).stat().st_mtime).isoformat()
    place.mkdir(parents=True, exist_ok=True)
    write_whole(
        place,
        {
            FILE: json_text(found.as_json()).encode(),
            _MADE: json_text({"machine": machine, "date": day}).encode(),
        },
    )
    return place


if __name__ == "__main__":

    def said(stage: str, done: int, total: int) -> None:
        """One line that is written over."""
        print(f"\r{stage} {done}/{total}          ", end="", file=sys.stderr)

    match sys.argv[1:]:
        case ["compare", given]:
            source = Path(given)
            print(bundle_comparison(source, comparisons_folder() / source.resolve().name, machine=machine()))
        case ["lessons"]:
            with TemporaryDirectory() as scratch:
                write_lessons(folder(), store=Store(Path(scratch)), day=date.today(), progress=said)
        case []:
            # A store of its own: what an earlier run left would hide how long the stages take.
            with TemporaryDirectory() as scratch:
                write(folder(), store=Store(Path(scratch)), day=date.today(), progress=said)
        case _:
            sys.exit("Usage: python -m cahp.bundled [lessons | compare DIR]")
