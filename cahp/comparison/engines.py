"""Executors that measure cells: this process, processes of this machine, or a cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, TypeVar

from cahp.values import CahpError, Cancelled, OptionError

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
