"""A finished run that ships with the package, so that the first picture needs no measurement.

It holds what the explorer draws, and no texts: the run's document, small arrays, and the measured rows of its table.
``python -m cahp.bundled`` makes it anew.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp import models
from cahp.files import json_text, write_whole
from cahp.run.bench import open_bench
from cahp.run.document import RunDocument
from cahp.run.prune import measure
from cahp.run.settings import Salience, Settings
from cahp.store import Store
from cahp.studies.budget_sweep import BudgetTable, HeadClusters, fill
from cahp.values import Clustering, Progress, silent

#: The settings of the bundled run: the embedded default, recovered, so that before and after can be shown.
SETTINGS = Settings(recover="refit")
NAME = "minilm-bbc"


@dataclass(frozen=True, eq=False)
class Bundle:
    """The bundled run: ``document`` is its ``run.json``; ``made`` says on which machine and day it was measured."""

    document: RunDocument
    arrays: Mapping[str, NDArray[Any]]
    rows: Mapping[str, Any]
    made: Mapping[str, str]

    def evidence(self, salience: Salience = "batch") -> HeadClusters:
        """What the choice of heads follows from, for the run's own projection."""
        arrays = self.arrays
        ks = arrays["ks"].astype(np.int64)
        clustering = Clustering(
            ks,
            arrays["mss"],
            arrays["labels_of_k"].astype(np.int64),
            tuple(np.split(arrays["medoids_of_k"].astype(np.int64), np.cumsum(ks)[:-1])),
            self.document.knee or 0,
            self.document.knee_rule or "",
        )
        shape = (self.document.model.layers, self.document.model.heads)
        return HeadClusters(
            clustering,
            arrays["salience" if salience == "batch" else "salience_example"].reshape(shape),
            arrays["embedding"],
            arrays["distances"],
        )


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


def write(place: Path, *, store: Store | None = None, day: date, progress: Progress = silent) -> None:
    """Measure the bundled run and its table of all budgets, and write them to ``place``."""
    from cahp.stages.salience import salience

    bench = open_bench(SETTINGS, store=store, progress=progress)
    run = measure(bench, command="cahp prune --recover refit")
    evidence = bench.evidence
    clustering, space = evidence.clustering, evidence.space
    table = BudgetTable.plan(HeadClusters.of(evidence), SETTINGS)
    for _ in fill(table, bench, progress):
        pass
    arrays = {
        "embedding": space.embedding,
        "distances": space.distances,
        "salience": run.arrays["salience"],
        "salience_example": salience(evidence.gradients, how="example").ravel(),
        "ks": clustering.ks,
        "mss": clustering.mss,
        "labels": run.arrays["labels"],
        "medoids": run.arrays["medoids"],
        "labels_of_k": clustering.labels.astype(np.uint16),
        "medoids_of_k": np.concatenate(clustering.medoids).astype(np.uint16),
    }
    made = {"machine": machine(), "date": day.isoformat()}
    place.mkdir(parents=True, exist_ok=True)
    write_whole(
        place,
        {
            "run.json": json_text(run.document.to_json()).encode(),
            "table.json": json_text({"made": made, "rows": table.as_json()}).encode(),
            "arrays.npz": lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
        },
    )


def machine() -> str:
    """The processor and how many of its cores there are."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"


if __name__ == "__main__":

    def said(stage: str, done: int, total: int) -> None:
        """One line that is written over."""
        print(f"\r{stage} {done}/{total}          ", end="", file=sys.stderr)

    # A store of its own: what an earlier run left would hide how long the stages take.
    with TemporaryDirectory() as scratch:
        write(folder(), store=Store(Path(scratch)), day=date.today(), progress=said)
