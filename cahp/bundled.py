"""Finished results that ship with the package, so that the explorer starts without measuring: a run and comparisons.

They hold no texts. A run has its document, small arrays and the measured rows of its table; a comparison its file and
``made.json`` with the machine and day of the measurement.

``python -m cahp.bundled`` measures the run again, ``python -m cahp.bundled lessons`` the answers of the six steps of
Learn; ``python -m cahp.bundled compare DIR`` bundles the comparison in a folder.
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

#: The settings of the bundled run: the embedded default with a refit, to show both states.
SETTINGS = Settings(recover="refit")
NAME = "minilm-bbc"
#: The machine and day of a comparison.
_MADE = "made.json"
#: The answers of the six steps of Learn, in the folder of the bundled run.
_LESSONS = "lessons.json"


# The run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bundle:
    """The bundled run: ``document`` is its ``run.json``; ``made`` holds the machine and day of the measurement."""

    document: RunDocument
    arrays: Mapping[str, NDArray[Any]]
    rows: Mapping[str, Any]
    made: Mapping[str, str]

    @lru_cache(maxsize=32)  # noqa: B019 (a process has one bundle)
    def evidence(self, salience: Salience = "batch", degree: int | None = None) -> HeadClusters:
        """Return the clusters of the run, for the projection of the run, with the knee of another ``degree``.

        All callers share the result.
        """
        if degree is not None:
            return self.evidence(salience).with_degree(degree)
        clusters = HeadClusters.of_arrays(self.arrays, self.document)
        if salience == "batch":
            return clusters
        return replace(clusters, salience=self.arrays["salience_example"].reshape(clusters.salience.shape))


def run_folder() -> Path:
    """Return the folder of the bundled run."""
    return models.assets() / "runs" / NAME


@cache
def read_run() -> Bundle | None:
    """Read the bundled run; None if this copy of the package has none."""
    place = run_folder()
    try:
        document = RunDocument.from_json(json.loads((place / "run.json").read_text(encoding="utf-8")))
        table = json.loads((place / "table.json").read_text(encoding="utf-8"))
        with np.load(place / "arrays.npz", allow_pickle=False) as arrays:
            return Bundle(document, dict(arrays), table["rows"], table["made"])
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class BundledLessons:
    """The answers of the six steps on the bundled run, by name; ``subject`` is the digest of their model and data."""

    subject: str
    answers: Mapping[str, Answer]
    made: Mapping[str, str]


@cache
def read_lessons() -> BundledLessons | None:
    """Read the bundled answers; None if this copy of the package has none."""
    try:
        return msgspec.json.decode((run_folder() / _LESSONS).read_bytes(), type=BundledLessons)
    except FileNotFoundError:
        return None


def write_lessons(place: Path, *, store: Store | None = None, day: date, progress: Progress = silent) -> None:
    """Measure the answers of the six steps on the heads of the bundled run, and write them to ``place``."""
    bench = open_bench(SETTINGS, store=store, progress=progress)
    subject = six_steps.subject_of(
        bench, HeadClusters.of(bench.evidence), choose(bench), load=lambda card, *, device: bench.model
    )
    answers = {step.name: answered(step.name, subject, progress=progress) for step in six_steps.steps(subject)}
    bundle = BundledLessons(subject.sha256, answers, {"machine": machine(), "date": day.isoformat()})
    write_whole(place, {_LESSONS: json_text(asdict(bundle)).encode()})


def write(place: Path, *, store: Store | None = None, day: date, progress: Progress = silent) -> None:
    """Measure the bundled run and its table of all budgets, and write them to ``place``."""
    from cahp.stages.salience import salience

    bench = open_bench(SETTINGS, store=store, progress=progress)
    run = measure_run(bench, command="cahp prune --recover refit")
    evidence = bench.evidence
    table = BudgetTable.plan(HeadClusters.of(evidence), SETTINGS)
    for _ in fill(table, bench, progress):
        pass
    # Only what the explorer draws: signatures and features are large.
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
    """A bundled comparison; ``made`` names its ``machine`` and ``date``, if they were recorded."""

    name: str
    comparison: Comparison
    made: Mapping[str, str]


def comparisons_folder() -> Path:
    """Return the folder of the bundled comparisons."""
    return models.assets() / "compare"


def read_comparisons(place: Path) -> tuple[list[BundledComparison], list[str]]:
    """Read the comparisons in ``place``, ordered by name; return them and a message for each unreadable one."""
    readable, messages = [], []
    for file in sorted(place.glob(f"*/{FILE}")):
        try:
            readable.append(_comparison(file, file.stat().st_mtime_ns))
        except (CahpError, OSError) as error:
            messages.append(f"The bundled comparison {file.parent.name} cannot be shown: {error}")
    return readable, messages


@lru_cache(maxsize=8)
def _comparison(file: Path, changed: int) -> BundledComparison:
    # ``changed`` is part of the cache key: a file that was replaced is read again.
    try:
        made = json.loads(file.with_name(_MADE).read_text(encoding="utf-8"))
        made = {name: str(made[name]) for name in ("machine", "date")}
    except (OSError, ValueError, KeyError, TypeError):
        made = {}
    return BundledComparison(file.parent.name, read_shown(file.parent), made)


def bundle_comparison(source: Path, place: Path, *, machine: str) -> Path:
    """Bundle the comparison in ``source`` as ``place``, with the machine and day of its measurement.

    The predictions for single texts are left out: the document has their summary.

    Raises:
        CahpError: If the folder has no comparison.
    """
    comparison = Comparison.read(source)
    _ = comparison.results
    day = date.fromtimestamp((source / FILE).stat().st_mtime).isoformat()
    place.mkdir(parents=True, exist_ok=True)
    write_whole(
        place,
        {
            FILE: json_text(comparison.as_json()).encode(),
            _MADE: json_text({"machine": machine, "date": day}).encode(),
        },
    )
    return place


if __name__ == "__main__":

    def show(stage: str, done: int, total: int) -> None:
        """Write the progress over the line before."""
        print(f"\r{stage} {done}/{total}          ", end="", file=sys.stderr)

    match sys.argv[1:]:
        case ["compare", given]:
            source = Path(given)
            print(bundle_comparison(source, comparisons_folder() / source.resolve().name, machine=machine()))
        case ["lessons"]:
            with TemporaryDirectory() as scratch:
                write_lessons(run_folder(), store=Store(Path(scratch)), day=date.today(), progress=show)
        case []:
            # A store of its own: what an earlier run left would hide how long the stages take.
            with TemporaryDirectory() as scratch:
                write(run_folder(), store=Store(Path(scratch)), day=date.today(), progress=show)
        case _:
            sys.exit("Usage: python -m cahp.bundled [lessons | compare DIR]")
