"""A run, and if so asked every other budget of the same model on the same texts after it."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from cahp import processes as parallel
from cahp.run.bench import open_bench
from cahp.run.prune import Run, measure_run
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.studies.budget_sweep import BudgetTable
from cahp.studies.filling import fill
from cahp.studies.head_clusters import HeadClusters
from cahp.studies.table_file import table_of
from cahp.values import OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch


def check_sweep(settings: Settings, out: Path | None) -> None:
    """Check that a sweep is of use.

    Raises:
        OptionError: If not.
    """
    if out is None:
        raise OptionError(
            "--sweep measures every budget for a folder, from which cahp report is made; name it with --out"
        )
    if settings.method != Settings().method:
        raise OptionError(
            f"--sweep measures the budgets of {Settings().method} and not of {settings.method}; leave one out"
        )
    if parallel.world() > 1:
        raise OptionError("--sweep works in one process; start it without accelerate")


def pruned(
    settings: Settings,
    *,
    sweep: bool,
    store: Store | None = None,
    command: str = "",
    progress: Progress = silent,
    watch: Watch | None = None,
) -> tuple[Run, BudgetTable | None]:
    """A run; with ``sweep`` also the table of all its budgets, as pruned, or refitted where the run is.

    What was measured before is found again in the store, so an interrupted sweep goes on where it stopped.

    Raises:
        CahpError: If model, data and options cannot be used together, with the next step.
    """
    start = perf_counter()
    bench = open_bench(settings, store=store, progress=progress, watch=watch)
    run = measure_run(bench, command, start)
    if not sweep:
        return run, None
    table = table_of(run.document, HeadClusters.of(bench.evidence))
    for _ in fill(table, bench, progress):
        pass
    return run, table
