"""Run a comparison: read stored cells, measure the others here or in workers, and store each result at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

from cahp import hub, models
from cahp.comparison.cells import MeasuredCell, measure_cell, read_cell
from cahp.comparison.cost import ComparisonCost, count_passes, estimate_cost
from cahp.comparison.engines import SameProcess, count_workers, default_jobs, open_executor, raise_if_stopped, wait_for
from cahp.comparison.plan import Cell, Plan
from cahp.comparison.recording import record
from cahp.comparison.result import Comparison
from cahp.comparison.workspace import Workspace
from cahp.data import Dataset
from cahp.recoveries import RECOVERIES
from cahp.run.resources import Loader
from cahp.run.test_split_log import TestSplitLog
from cahp.store import Entry, Store, key
from cahp.values import CahpError, OptionError, Progress, silent

#: The stage that progress names.
STAGE = "compare"

#: New results by key.
Entries = dict[str, Entry]


def compare(
    plan: Plan,
    *,
    store: Store | None = None,
    jobs: int | None = 1,
    cluster: str | None = None,
    command: str = "",
    progress: Progress = silent,
    announce: Callable[[ComparisonCost], None] = lambda _: None,
    load: Loader = models.load,
    dataset: Dataset | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Comparison:
    """Measure every method at every budget with every seed, under one protocol.

    Heads are selected on calibration texts alone. If ``plan.tries`` says so, tuning texts choose among equally many
    settings of every method that has several; they are no evaluation texts. The test split is opened only if the plan
    reports on it, after each mask is selected.

    Args:
        plan: What to compare.
        store: Where results are stored and reused.
        jobs: Processes that share the cells; None is one, or one per GPU if there are several.
        cluster: Measure on a cluster instead; see ``cahp.comparison.engines.open_executor``.
        command: The command line to record.
        progress: Counts forward passes; may raise ``Cancelled``. Results measured before are kept.
        announce: Called with the estimated cost before measuring.
        load: Reads the model in this process.
        dataset: Data already read, labels not yet matched; only with one process.
        clock: Measures the seconds of the comparison.

    Raises:
        CahpError: If model, data and options cannot be used together, or every cell failed.
    """
    start = clock()
    if jobs is not None and jobs < 1:
        raise OptionError(f"--jobs {jobs} is impossible; give 1 or more")
    if dataset is not None and ((jobs or 1) > 1 or cluster):
        raise OptionError("uploaded texts stay in this process; use one job and no cluster")
    store = store or Store()
    workspace = Workspace(plan, store=store, load=load, dataset=dataset)
    card = workspace.card
    if card.no_refit and any(RECOVERIES[name].solves and not RECOVERIES[name].trains for name in plan.recoveries):
        raise OptionError(f"{card.no_refit}; choose another recovery")
    cells = plan.cells(layers=card.layers, heads=card.heads)
    full_cells = plan.full_cells(layers=card.layers, heads=card.heads)
    measured: dict[Cell, MeasuredCell] = {}
    missing = _read_stored(workspace, (*full_cells, *cells), measured)
    test_opened = _open_test_split(workspace, bool(missing))
    cost = ComparisonCost(len(cells), len(cells), 0.0, 0.0, 0.0, 0.0)
    if missing:
        jobs = jobs or (1 if dataset is not None or cluster else default_jobs(plan.settings.device))
        with open_executor(jobs=jobs, cluster=cluster, device=plan.settings.device) as executor:
            # The full model comes first: its time tells how long a forward pass takes.
            first = replace(full_cells[0], recoveries=("none",))
            full = read_cell(workspace, first) or next(measure_cells(workspace, [first], executor, cluster))
            missing = _read_stored(workspace, missing, measured)
            passes = count_passes(workspace, missing)
            cost = estimate_cost(cells, passes, full, workers=jobs if cluster is None else count_workers(executor))
            announce(cost)
            meter = _ProgressMeter(progress, cost.forwards)
            if isinstance(executor, SameProcess):
                workspace.progress = meter.report
            meter.report()
            for done in measure_cells(workspace, missing, executor, cluster):
                measured[done.cell] = done
                meter.add(sum(passes[done.cell]))
    for cell in full_cells:
        if error := measured[cell].error:
            raise CahpError(f"the full model could not be measured ({error}); try `cahp evaluate` first")
    if all(measured[cell].error for cell in cells):
        raise CahpError(f"every cell failed; the first error is: {measured[cells[0]].error}")
    return record(
        workspace,
        measured,
        cells,
        full_cells,
        cost=cost,
        test_opened=test_opened,
        command=command,
        seconds=clock() - start,
    )


def _read_stored(workspace: Workspace, cells: Sequence[Cell], measured: dict[Cell, MeasuredCell]) -> list[Cell]:
    """Add stored cells to ``measured`` and return the others."""
    measured |= {cell: stored for cell in cells if (stored := read_cell(workspace, cell)) is not None}
    return [cell for cell in cells if cell not in measured]


class _ProgressMeter:
    """Reports how many forward passes are done, and lets the caller stop the work between batches."""

    def __init__(self, progress: Progress, total: float) -> None:
        self._progress, self._total, self._done = progress, max(1, round(total)), 0.0

    def add(self, forwards: float) -> None:
        self._done += forwards
        self.report()

    def report(self, stage: str = STAGE, done: int = 0, total: int = 0) -> None:
        self._progress(STAGE, min(round(self._done), self._total), self._total)


def _open_test_split(workspace: Workspace, missing: bool) -> int:
    """How often the test split was opened, including now; a resumed comparison counts once."""
    log = TestSplitLog(workspace.card, workspace.dataset, workspace.store)
    if "report" not in workspace.splits:
        return log.count
    name = key("compare-opened", 1, workspace.card.sha256, workspace.splits["report"].sha256, repr(workspace.plan))
    if not missing or workspace.store.load(name) is not None:
        return log.count
    count = log.add()
    workspace.store.save(name, meta={"count": count})
    return count


# Cells in this process and in workers ------------------------------------------------------------------------


def measure_cells(
    workspace: Workspace, cells: Sequence[Cell], executor: Executor, cluster: str | None
) -> Iterator[MeasuredCell]:
    """Measure cells; each is stored before it is yielded.

    Raises:
        CahpError: If a worker dies.
    """
    here = isinstance(executor, SameProcess)
    # A worker of a cluster has a store of its own.
    store = workspace.store
    folder = store.folder.parent if cluster is None else None
    content = "" if here else workspace.content
    waiting = list(reversed(cells))
    running: set[Future[tuple[MeasuredCell, Entries]]] = set()
    while waiting or running:
        # In this process a cell is measured when it is submitted, so each is yielded before the next begins.
        while waiting and not (here and running):
            cell = waiting.pop()
            running.add(
                executor.submit(_measure_here, workspace, cell)
                if here
                else executor.submit(
                    measure_in_worker, CellTask(workspace.plan, cell, folder, store.limit_bytes, store.fresh, content)
                )
            )
        ready, running = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
            measured, entries = wait_for(future)
            for name, entry in entries.items():
                _save(store, name, entry)
            yield measured


def _measure_here(workspace: Workspace, cell: Cell) -> tuple[MeasuredCell, Entries]:
    return measure_cell(workspace, cell, partial(_save, workspace.store)), {}


def _save(store: Store, name: str, entry: Entry) -> None:
    store.save(name, arrays=entry.arrays, meta=entry.meta)


@dataclass(frozen=True)
class CellTask:
    """The task of a worker: the plan, a cell, and the folder of the store (None: the worker's own store).

    ``limit_bytes`` is the size limit of the caller's store, which a worker must not reduce; a ``fresh`` store finds
    nothing. ``content`` is the digest of the caller's model and texts (``Workspace.content``), which the worker's must
    equal.
    """

    plan: Plan
    cell: Cell
    folder: Path | None
    limit_bytes: int
    fresh: bool
    content: str


#: The workspace of a worker process, by task, and its lock.
_workspaces: dict[str, Workspace] = {}
_lock = threading.Lock()


def measure_in_worker(task: CellTask) -> tuple[MeasuredCell, Entries]:
    """Measure a cell in a worker process, which keeps the model and its evidence for the next cell.

    Raises:
        CahpError: If the worker's model or texts differ from the caller's.
    """
    name = repr((task.plan, task.folder, task.limit_bytes, task.fresh, task.content))
    # A cluster's worker may run several threads, which would only wait for each other's results.
    with _lock:
        if name not in _workspaces:
            _workspaces.clear()
            # The caller has agreed to downloads; a worker elsewhere may have to fetch the model, too.
            with hub.consent_from(lambda *_: True):
                store = Store(task.folder, limit_bytes=task.limit_bytes, fresh=task.fresh)
                opened = Workspace(task.plan, store=store, progress=raise_if_stopped)
            if opened.content != task.content:
                raise CahpError(
                    "a worker has another model or other texts under the same names; give it the same files"
                )
            _workspaces[name] = opened
        workspace, entries = _workspaces[name], Entries()
        # Without the caller's store, all results are sent back with the cell.
        save = entries.__setitem__ if task.folder is None else partial(_save, workspace.store)
        return measure_cell(workspace, task.cell, save), entries
