"""Run a comparison: read stored cells, measure the others here or in workers, and store each result at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from cahp import hub
from cahp.comparison.arrays import check_room
from cahp.comparison.cells import Loaded, MeasuredCell, Workspace, measure_cell, read_cell, read_choice, selection_cost
from cahp.comparison.document import TESTED
from cahp.comparison.plan import FULL, WITHOUT, Cell, Plan
from cahp.comparison.recording import record
from cahp.comparison.result import Comparison
from cahp.comparison.sentences import describe_place
from cahp.comparison.statistics import choose_endpoint, choose_recovery
from cahp.methods.shared.registry import Evidence
from cahp.recoveries import RECOVERIES
from cahp.run.resources import TestSplitLog
from cahp.store import Entry, Store, key
from cahp.tasks.texts import Texts
from cahp.values import CahpError, Cancelled, OptionError, Progress, silent
from cahp.words import duration

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event


T = TypeVar("T")

#: Set in a worker process of this machine when the comparison is interrupted.
_stop: Event | None = None


def raise_if_stopped(stage: str, done: int, total: int) -> None:
    """Serve as a worker's progress: raise ``Cancelled`` between two batches once the comparison is interrupted."""
    if _stop is not None and _stop.is_set():
        raise Cancelled


@contextmanager
def open_executor(*, jobs: int = 1, cluster: str | None = None, device: str = "cpu") -> Iterator[Executor | None]:
    """Open an executor for the block (None: one job, to be done in this process).

    On an error, waiting calls are dropped and running ones are told to stop.

    If ``device`` may be a GPU and this machine has several, each process gets one of them in turn. ``cluster`` is
    ``dask`` (the scheduler of Dask's own configuration, or a cluster on this machine) or ``dask:ADDRESS``.

    Raises:
        OptionError: If the kind of cluster is unknown, or its library is not installed.
    """
    if cluster is not None:
        with _dask(cluster, jobs) as executor:
            yield executor
        return
    if jobs == 1:
        yield None
        return
    # A forked process cannot use the threads of torch.
    context = get_context("spawn")
    stop = context.Event()
    threads = max(1, _count_cores() // jobs)
    given = (stop, threads, list_gpus(device), context.Value("i", 0))
    executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_init_worker, initargs=given)
    try:
        yield executor
    except BaseException:
        stop.set()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def wait_for(future: Future[T]) -> T:
    """Return a worker's result.

    Raises:
        CahpError: If the worker died.
    """
    try:
        return future.result()
    except (CahpError, Cancelled):
        raise
    except Exception as error:
        # Process pools, clusters and operating systems raise different errors.
        raise CahpError(
            f"a worker failed ({type(error).__name__}: {error}), most often from lack of memory; run again with fewer "
            "--jobs (finished results are kept)"
        ) from error


def list_gpus(device: str) -> list[str]:
    """The names of this machine's GPUs if it has several and ``device`` may be one of them; otherwise none."""
    if device not in ("auto", "cuda"):
        return []
    from cahp.models.devices import visible_gpus

    return visible_gpus()


def default_jobs(device: str) -> int:
    """Processes to use for ``device`` by default: one, or one per GPU."""
    return max(1, len(list_gpus(device)))


def _count_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _init_worker(stop: Event, threads: int, gpus: Sequence[str], turn: Any) -> None:
    """Set up a worker process: its cores, its GPU, and ignore Ctrl-C, which the parent handles."""
    global _stop
    _stop = stop
    _take_gpu(gpus, turn)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        # The workers of a killed parent would wait for the next cell for ever.
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)


def _take_gpu(gpus: Sequence[str], turn: Any) -> None:
    """Restrict this process to the next GPU, before CUDA starts; ``turn`` counts over all processes."""
    if gpus:
        with turn.get_lock():
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[turn.value % len(gpus)]
            turn.value += 1


@contextmanager
def _dask(cluster: str, jobs: int) -> Iterator[Executor]:
    kind, _, address = cluster.partition(":")
    if kind != "dask":
        raise OptionError(f"--cluster {cluster} is unknown; write dask or dask:ADDRESS")
    try:
        import dask
        from distributed import Client
    except ImportError:
        raise OptionError(
            "--cluster dask needs Dask, which is not installed; run pip install 'cahp-explorer[cluster]'"
        ) from None
    address = address or dask.config.get("scheduler-address", None) or ""
    place: dict[str, Any] = {"address": address}
    if not address:
        # Without a scheduler, start workers on this machine, without Dask's dashboard.
        workers = jobs if jobs > 1 else _count_cores()
        place = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    try:
        client: Any = Client(**place)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise OptionError(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`"
        ) from None
    with client, client.get_executor(pure=False) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False)
            raise


def count_workers(executor: Executor | None) -> int:
    """Number of workers that a cluster has now."""
    client = getattr(executor, "_client", None)
    if client is None:
        return 1
    return max(1, len(client.scheduler_info(n_workers=-1)["workers"]))


#: The stage that progress names.
STAGE = "compare"


@dataclass(frozen=True)
class ComparisonCost:
    """The estimated cost of a comparison, before it begins: counted in forward passes, timed with one of them.

    ``cells`` are all masks, of which ``cached`` are in the store. ``forwards`` are forward passes of one text through
    the full model for the others and for the criticality of heads, ``choosing`` those of them that select heads
    (methods that state no cost count as 0).
    ``minutes`` follow from the measured time of a pass, ``forward_ms``. ``primary`` names the primary test.
    """

    cells: int
    cached: int
    forwards: float
    choosing: float
    forward_ms: float
    minutes: float
    primary: str = ""

    def as_json(self) -> dict[str, Any]:
        """The ``estimate`` of a comparison file."""
        return {
            "cells": self.cells,
            "known": self.cached,
            "forwards": self.forwards,
            "choosing": self.choosing,
            "forward_ms": self.forward_ms,
            "minutes": self.minutes,
        }


def describe_cost(cost: ComparisonCost) -> str:
    """The estimated cost of a comparison and its primary test, before it begins."""
    cached = f" ({cost.cached} were measured before)" if cost.cached else ""
    time = duration(60 * cost.minutes)
    words = (
        f"{cost.cells - cost.cached:,} cells to measure{cached}: about {cost.forwards:,.0f} forward passes, "
        f"{cost.choosing:,.0f} of them to select heads; at {cost.forward_ms:.1f} ms each about {time}"
    )
    if cost.primary:
        words += f"; primary test: {cost.primary}"
    return words


def compare(
    plan: Plan,
    *,
    store: Store | None = None,
    jobs: int | None = 1,
    cluster: str | None = None,
    command: str = "",
    progress: Progress = silent,
    announce: Callable[[ComparisonCost], None] = lambda _: None,
    **loaded: Unpack[Loaded],
) -> Comparison:
    """Measure every method at every budget with every seed, under one protocol.

    Heads are selected on calibration texts alone. If ``plan.tries`` says so, tuning texts choose among equally many
    settings of every method that has several; they are no evaluation texts. The test split is opened only if the plan
    reports on it, after each mask is selected.

    Args:
        plan: What to compare.
        store: Where results are stored and reused.
        jobs: Processes that share the cells; None is one, or one per GPU if there are several.
        cluster: Measure on a cluster instead; see ``open_executor``.
        command: The command line to record.
        progress: Counts forward passes; may raise ``Cancelled``. Results measured before are kept.
        announce: Called with the estimated cost before measuring.
        **loaded: What this process has loaded; a ``dataset`` only with one process.

    Raises:
        CahpError: If model, data and options cannot be used together, or every cell failed.
    """
    start = perf_counter()
    if jobs is not None and jobs < 1:
        raise OptionError(f"--jobs {jobs} is impossible; give 1 or more")
    if loaded.get("dataset") is not None:
        if (jobs or 1) > 1 or cluster:
            raise OptionError("uploaded texts stay in this process; use one job and no cluster")
        jobs = 1
    workspace = Workspace(plan, store=store or Store(), **loaded)
    plan = workspace.plan
    card = workspace.card
    if card.no_refit and any(RECOVERIES[name].closed_form for name in plan.recoveries):
        raise OptionError(f"{card.no_refit}; choose another recovery")
    cells = plan.cells(layers=card.layers, heads=card.heads)
    full_cells = plan.full_cells(layers=card.layers, heads=card.heads)
    single_cells: list[Cell] = []
    if workspace.criticality_texts is not None:
        single_cells = plan.single_cells(layers=card.layers, heads=card.heads)
    for texts in workspace.splits.values():
        check_room(texts, sum(len(cell.recoveries) for cell in (*full_cells, *cells)))
    measured: dict[Cell, MeasuredCell] = {}
    missing = _read_stored(workspace, (*full_cells, *cells, *single_cells), measured)
    test_opened = _open_test_split(workspace, any(cell.method != WITHOUT for cell in missing))
    cost = ComparisonCost(len(cells), len(cells), 0.0, 0.0, 0.0, 0.0)
    if missing:
        if jobs is None:
            jobs = 1 if cluster else default_jobs(plan.settings.device)
        with open_executor(jobs=jobs, cluster=cluster, device=plan.settings.device) as executor:
            # The full model comes first: its time tells how long a forward pass takes.
            full = read_cell(workspace, replace(full_cells[0], recoveries=("none",)))
            if full.lacks(workspace.splits):
                full = next(measure_cells(workspace, [full.cell], executor, cluster))
            missing = _read_stored(workspace, missing, measured)
            workers = jobs if cluster is None else count_workers(executor)
            shares = executor is None
            cost, passes = _estimate_cost(workspace, missing, full, cells=len(cells), workers=workers, shares=shares)
            announce(replace(cost, primary=_name_primary(plan, cells, card.layers * card.heads, card.unit)))
            for one in _measure_missing(workspace, passes, executor, cluster, progress):
                measured[one.cell] = one
    for cell in full_cells:
        if error := measured[cell].error:
            raise CahpError(f"the full model could not be measured ({error}); try `cahp evaluate` first")
    if all(measured[cell].error for cell in cells):
        raise CahpError(f"every measurement failed; the first error is: {measured[cells[0]].error}")
    return record(
        workspace,
        [measured[cell] for cell in (*full_cells, *cells, *single_cells)],
        estimate=cost.as_json(),
        test_opened=test_opened,
        command=command,
        seconds=perf_counter() - start,
    )


def _read_stored(workspace: Workspace, wanted: Sequence[Cell], measured: dict[Cell, MeasuredCell]) -> list[Cell]:
    """Add stored cells to those ``measured``, and return the others."""
    for cell in wanted:
        stored = read_cell(workspace, cell)
        if not stored.lacks(workspace.splits_of(cell)):
            measured[cell] = stored
    return [cell for cell in wanted if cell not in measured]


def _measure_missing(
    workspace: Workspace,
    passes: Mapping[Cell, float],
    executor: Executor | None,
    cluster: str | None,
    progress: Progress,
) -> Iterator[MeasuredCell]:
    """Measure the cells of ``passes``, which has the forward passes that each takes; ``progress`` counts these."""
    count = max(1, round(sum(passes.values())))
    passed = 0.0

    def report(stage: str = STAGE, done: int = 0, total: int = 0) -> None:
        # Between two batches it only lets the caller stop the work.
        progress(STAGE, min(round(passed), count), count)

    if executor is None:
        workspace.progress = report
    report()
    # Models without one head have all lower layers in common.
    singles = [read_choice(workspace, cell) for cell in passes if cell.method == WITHOUT]
    masks = [choice.mask for choice in singles if choice is not None]
    shared = workspace.criticality_texts
    if shared is None:
        shared = workspace.splits["eval"]
    with workspace.bench(workspace.plan.seeds[0]).measurements.sharing(shared, masks):
        for one in measure_cells(workspace, list(passes), executor, cluster):
            yield one
            passed += passes[one.cell]
            report()


def _estimate_cost(
    workspace: Workspace, missing: Sequence[Cell], full: MeasuredCell, *, cells: int, workers: int, shares: bool
) -> tuple[ComparisonCost, dict[Cell, float]]:
    """Estimate the cost of a comparison of ``cells`` masks, and the forward passes of each of the ``missing`` cells.

    ``full`` is the measured full model; its time tells how long a forward pass takes. Where this process ``shares`` the
    lower layers of models without one head, a language model is not priced for them.

    Raises:
        CahpError: If the full model failed.
    """
    if ("none", "eval") not in full.predictions:
        raise CahpError(f"the full model could not be measured ({full.error}); try `cahp evaluate` first")
    timed = full.predictions["none", "eval"]
    seconds = timed.seconds / _count_passes(workspace.splits["eval"])
    saved = 1.0
    if shares and workspace.protocols is not None:
        saved = workspace.removal_passes / (workspace.card.layers * workspace.card.heads)
    counted: dict[tuple[str, int], float] = {}
    passes: dict[Cell, float] = {}
    total_choosing = 0.0
    for cell in missing:
        stored = read_cell(workspace, cell)
        bench = workspace.bench(cell.seed)
        choosing = 0.0
        if stored.choice is None:
            # An estimate must not fail; the cell will report the error.
            with suppress(Exception):
                price = selection_cost(workspace, cell, cast(Evidence, bench.evidence))
                if price is not None:
                    choosing = float(price.forwards)
        # Evidence of a method counts once per seed: that of a cheaper budget is reused at a more expensive one.
        before = counted.get((cell.method, cell.seed), 0.0)
        counted[cell.method, cell.seed] = max(before, choosing)
        total_choosing += max(0.0, choosing - before)
        texts = workspace.splits_of(cell)
        part = saved if cell.method == WITHOUT else 1.0
        measuring = []
        for recovery, splits in stored.lacks(texts).items():
            recovering = RECOVERIES[recovery].passes(len(bench.calibration), can_refit=not workspace.card.no_refit)
            measuring.append(recovering + sum(_count_passes(texts[split]) for split in splits) * part)
        passes[cell] = max(0.0, choosing - before) + sum(measuring)
    total = sum(passes.values())
    return (
        ComparisonCost(
            cells=cells,
            cached=cells - sum(cell.method not in (FULL, WITHOUT) for cell in missing),
            forwards=total,
            choosing=total_choosing,
            forward_ms=seconds * 1000,
            minutes=total * seconds / 60 / workers,
        ),
        passes,
    )


def _name_primary(plan: Plan, cells: Sequence[Cell], total: int, unit: str) -> str:
    """Name the primary test of ``cells`` on a model of ``total`` heads, or ``unit``."""
    recovery = choose_recovery(plan.recoveries)
    budgets = [cell.budget for cell in cells if recovery in cell.recoveries]
    return describe_place(*choose_endpoint(TESTED, recovery, budgets, total), total, unit)


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
    workspace: Workspace, cells: Sequence[Cell], executor: Executor | None, cluster: str | None
) -> Iterator[MeasuredCell]:
    """Measure cells here (without an executor) or in workers; each is stored before it is yielded.

    Raises:
        CahpError: If a worker dies.
    """
    store = workspace.store
    if executor is None:
        for cell in cells:
            yield measure_cell(workspace, cell, lambda name, entry: store.save(name, **vars(entry)))
        return
    # A worker of a cluster has a store of its own.
    folder = store.folder.parent if cluster is None else None
    content = workspace.content
    tasks = [CellTask(workspace.plan, cell, folder, store.limit_bytes, store.fresh, content) for cell in cells]
    for future in as_completed([executor.submit(measure_in_worker, task) for task in tasks]):
        measured, entries = wait_for(future)
        for name, entry in entries.items():
            store.save(name, **vars(entry))
        yield measured


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


def measure_in_worker(task: CellTask) -> tuple[MeasuredCell, dict[str, Entry]]:
    """Measure a cell in a worker process, which keeps the model and its evidence for the next cell.

    New results come back by key unless the worker has the caller's store.

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
        workspace = _workspaces[name]
        entries: dict[str, Entry] = {}
        if task.folder is None:
            return measure_cell(workspace, task.cell, entries.__setitem__), entries
        save = workspace.store.save
        return measure_cell(workspace, task.cell, lambda name, entry: save(name, **vars(entry))), entries


def _count_passes(texts: Texts) -> float:
    return texts.task.count_passes(texts)
