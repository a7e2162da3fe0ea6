"""Run a comparison: read stored cells, measure the others here or in workers, and store each result at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cahp import hub, models
from cahp.comparison.arrays import check_room
from cahp.comparison.cells import (
    MeasuredCell,
    Workspace,
    count_critical,
    measure_cell,
    read_cell,
    save_cell,
    selection_cost,
)
from cahp.comparison.plan import FULL, Cell, Plan, facts_of, make_plan
from cahp.comparison.recording import record
from cahp.comparison.result import Comparison
from cahp.comparison.sentences import describe_place
from cahp.comparison.statistics import TESTED, choose_endpoint, choose_recovery
from cahp.data import Dataset
from cahp.methods.shared.registry import Evidence
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.measurements import count_cores, estimate_seconds
from cahp.run.resources import Loader, TestSplitLog
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import CahpError, Cancelled, JsonObject, OptionError, Progress, silent
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
def open_executor(*, jobs: int, cluster: str | None = None, device: str) -> Iterator[Executor | None]:
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
    threads = max(1, count_cores() // jobs)
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
    place = {"address": address}
    if not address:
        # Without a scheduler, start workers on this machine, without Dask's dashboard.
        workers = jobs if jobs > 1 else count_cores()
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


#: The stage that progress names.
STAGE = "compare"


def compare(
    plan: Plan,
    *,
    store: Store | None = None,
    jobs: int | None = 1,
    cluster: str | None = None,
    command: str = "",
    progress: Progress = silent,
    announce: Callable[[str], None] = lambda _: None,
    load: Loader = models.load,
    dataset: Dataset | None = None,
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
        announce: Called with a sentence about the cost and the primary test before measuring. The cost counts forward
            passes of one text through the full model (methods that state no cost count as 0); one of them is timed.
        load: How this process reads the model.
        dataset: Data whose labels are not matched yet, only with one process (None: read as the plan says).

    Raises:
        CahpError: If model, data and options cannot be used together, or every cell failed.
    """
    start = perf_counter()
    if jobs is not None and jobs < 1:
        raise OptionError(f"--jobs {jobs} is impossible; give 1 or more")
    workspace = Workspace(plan, store=store or Store(), load=load, dataset=dataset)
    plan = workspace.plan
    card = workspace.card
    full_cells = plan.full_cells(card)
    cells = plan.cells(card)
    measured = _read_cells(workspace)
    unfinished = any(one.missing for one in measured.values())
    log = TestSplitLog(card, workspace.dataset, workspace.store)
    test_opened = log.count
    if unfinished and plan.settings.report is not None:
        test_opened = log.open("test")
    criticality = workspace.read_criticality()
    price, _ = _find_price(workspace, {}, 0.0, 1)
    if criticality is None or unfinished:
        if dataset is not None:
            jobs = 1
        jobs = _count_jobs(plan.settings, jobs, cluster)
        with open_executor(jobs=jobs, cluster=cluster, device=plan.settings.device) as executor:
            # The full model comes first: its time tells how long a forward pass takes.
            full = measure_cell(workspace, replace(full_cells[0], recoveries=(NONE.name,)))
            if full.error is not None:
                raise CahpError(f"the full model could not be measured ({full.error}); try `cahp evaluate` first")
            measured |= {cell: read_cell(workspace, cell) for cell in full_cells}
            seconds = full.predictions[NONE.name].meta["seconds"] / _count_evaluation(workspace)
            passes = _count_passes(workspace, measured.values())
            price, description = _find_price(workspace, passes, seconds, jobs)
            forwards = price["forwards"]
            announce(description)
            done = 0.0

            def report(*_: object, **__: object) -> None:
                # Between two batches it only lets the caller stop the work.
                progress(STAGE, round(done), max(1, round(forwards)))

            workspace.progress = report
            report()
            for one in measure_cells(workspace, list(passes), executor, cluster):
                measured[one.cell] = one
                done += passes[one.cell]
                report()
        if criticality is None:
            criticality = workspace.measure_criticality()
            done = forwards
            report()
    if all(measured[cell].error for cell in cells):
        raise CahpError(f"every measurement failed; the first error is: {measured[cells[0]].error}")
    return record(
        workspace,
        list(measured.values()),
        criticality,
        estimate=price,
        test_opened=test_opened,
        command=command,
        seconds=perf_counter() - start,
    )


def estimate_price(
    settings: Settings, *, jobs: int | None, cluster: str | None, store: Store, progress: Progress, **lists: Any
) -> tuple[JsonObject, str]:
    """Return what ``compare`` would take, as its document records it and as a sentence; nothing is measured.

    A forward pass takes as long as those that were measured of the model on this machine before, or as its operations.

    Raises:
        CahpError: If model, data and options cannot be used together.
    """
    workspace = Workspace(make_plan(settings, **lists), store=store, progress=progress)
    passes = _count_passes(workspace, _read_cells(workspace).values())
    texts = workspace.splits["eval"]
    seconds = estimate_seconds(workspace.card, tokens=texts.tokens / texts.task.count_passes(texts))
    return _find_price(workspace, passes, seconds, _count_jobs(settings, jobs, cluster))


def _count_jobs(settings: Settings, jobs: int | None, cluster: str | None) -> int:
    """Return the number of processes on this machine: as given, or one, or one per GPU."""
    if jobs is None and cluster is None:
        return max(1, len(list_gpus(settings.device)))
    return jobs or 1


def _read_cells(workspace: Workspace) -> dict[Cell, MeasuredCell]:
    """Check what a comparison asks for, and read what is known of its cells, those of the full model first."""
    plan = workspace.plan
    card = workspace.card
    if card.no_refit and any(RECOVERIES[name].closed_form for name in plan.recoveries):
        raise OptionError(f"{card.no_refit}; choose another recovery")
    cells = (*plan.full_cells(card), *plan.cells(card))
    for texts in workspace.splits.values():
        check_room(texts, sum(len(cell.recoveries) for cell in cells))
    return {cell: read_cell(workspace, cell) for cell in cells}


def _find_price(
    workspace: Workspace, passes: Mapping[Cell, float], seconds: float, jobs: int
) -> tuple[JsonObject, str]:
    """Return the price of the forward ``passes``, of so many ``seconds``, of each missing cell; and describe it."""
    card = workspace.card
    cells = workspace.plan.cells(card)
    left = sum(cell.method != FULL for cell in passes)
    forwards = sum(passes.values())
    if workspace.read_criticality() is None:
        texts = workspace.critical_texts
        forwards += count_critical(card) * texts.task.count_passes(texts)
    price = {
        "cells": len(cells),
        "known": len(cells) - left,
        "forwards": forwards,
        "forward_ms": seconds * 1000,
        "minutes": forwards * seconds / 60 / jobs,
    }
    outcome, budgets = choose_endpoint(TESTED, [cell.budget for cell in cells], card.total)
    primary = describe_place(outcome, choose_recovery(workspace.plan.recoveries), budgets, card.total, card.unit)
    description = (
        f"{left:,} of {len(cells):,} cells to measure: about {forwards:,.0f} forward passes, at "
        f"{seconds * 1000:.1f} ms each about {duration(forwards * seconds / jobs)}; primary test: {primary}"
    )
    return price, description


def _count_evaluation(workspace: Workspace) -> float:
    """Count the forward passes of an evaluation on all splits."""
    return sum(texts.task.count_passes(texts) for texts in workspace.splits.values())


def _count_passes(workspace: Workspace, measured: Iterable[MeasuredCell]) -> dict[Cell, float]:
    """Count the forward passes that each cell still takes, of those that lack something."""
    passes = {}
    gathered = set()
    for one in measured:
        if not one.missing:
            continue
        cell = one.cell
        bench = workspace.bench(cell.seed)
        passes[cell] = len(one.missing) * _count_evaluation(workspace)
        # The evidence of a method serves all budgets of a seed; gates are trained for each.
        place = (cell.method, cell.seed)
        if one.choice is None and (place not in gathered or facts_of(cell.method).learned):
            gathered.add(place)
            # An estimate must not fail; the cell will report the error.
            with suppress(Exception):
                price = selection_cost(workspace, cell, cast(Evidence, bench.evidence))
                if price is not None:
                    passes[cell] += price.forwards
        for recovery in one.missing:
            passes[cell] += bench.count_passes(recovery)
    return passes


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
            yield measure_cell(workspace, cell)
        return
    # A worker of a cluster has a store of its own.
    folder = store.folder.parent if cluster is None else None
    given = (workspace.plan, folder, store.limit_bytes, store.fresh, workspace.content)
    for future in as_completed([executor.submit(measure_in_worker, cell, *given) for cell in cells]):
        measured = wait_for(future)
        if folder is None:
            save_cell(workspace, measured)
        yield measured


#: The workspace of a worker process, by its task, and its lock.
_workspaces: dict[str, Workspace] = {}
_lock = threading.Lock()


def measure_in_worker(
    cell: Cell, plan: Plan, folder: Path | None, limit_bytes: int, fresh: bool, content: str
) -> MeasuredCell:
    """Measure a cell in a worker process, which keeps the model and its evidence for the next cell.

    ``folder`` is that of the store (None: the worker's own), ``limit_bytes`` the size limit of the caller's store,
    which a worker must not reduce; a ``fresh`` store finds nothing. ``content`` is the digest of the caller's model
    and texts (``Workspace.content``), which the worker's must equal.

    Raises:
        CahpError: If the worker's model or texts differ from the caller's.
    """
    name = repr((plan, folder, limit_bytes, fresh, content))
    # A cluster's worker may run several threads, which would only wait for each other's results.
    with _lock:
        if name not in _workspaces:
            _workspaces.clear()
            # The caller has agreed to downloads; a worker elsewhere may have to fetch the model, too.
            with hub.consent_from(lambda *_: True):
                store = Store(folder, limit_bytes=limit_bytes, fresh=fresh)
                opened = Workspace(plan, store=store, progress=raise_if_stopped)
            if opened.content != content:
                raise CahpError(
                    "a worker has another model or other texts under the same names; give it the same files"
                )
            _workspaces[name] = opened
        return measure_cell(_workspaces[name], cell)
