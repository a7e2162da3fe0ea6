"""Where cells are measured: here, in processes of this machine, or on a cluster; all as ``concurrent.futures``."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, Protocol, TypeVar

from cahp.values import CahpError, Cancelled, OptionError

T = TypeVar("T")

CLUSTERS = ("dask",)


class _Event(Protocol):
    def is_set(self) -> bool: ...


#: Set in a worker process of this machine when the comparison was interrupted.
_stop: _Event | None = None


def stopped(stage: str, done: int, total: int) -> None:
    """A worker's progress: nobody watches it, but it ends the work between two batches once all is to stop."""
    if _stop is not None and _stop.is_set():
        raise Cancelled


class Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def engine(*, jobs: int = 1, cluster: str | None = None, device: str = "cpu") -> Iterator[Executor]:
    """What runs the cells while the block lasts; on an error, what has not begun is dropped and the rest told to stop.

    Where ``device`` may be a GPU and this machine has several, each process of it works on one of them, in turn.
    ``cluster`` is ``dask`` (the scheduler that Dask's own configuration names, or a cluster on this machine) or
    ``dask:ADDRESS``.

    Raises:
        OptionError: If the cluster is of an unknown kind, or its library is not installed.
    """
    if cluster is not None:
        with _dask(cluster, jobs) as executor:
            yield executor
    elif jobs == 1:
        yield Here()
    else:
        with _processes(jobs, gpus(device)) as executor:
            yield executor


def result(future: Future[T]) -> T:
    """What a worker made.

    Raises:
        CahpError: If the worker died.
    """
    try:
        return future.result()
    except (CahpError, Cancelled):
        raise
    except Exception as error:
        # A process pool, a cluster and the system each have a name for it.
        raise CahpError(
            f"a worker failed ({type(error).__name__}: {error}), most often for want of memory; what was done is kept, "
            "so go on with fewer --jobs"
        ) from error


def gpus(device: str) -> list[str]:
    """The names of this machine's GPUs where it has several and ``device`` may be one of them; else none."""
    if device not in ("auto", "cuda"):
        return []
    from cahp.models.devices import visible_gpus

    return visible_gpus()


def usual_jobs(device: str) -> int:
    """How many processes work on such a device unless it is said: one, or one for each GPU."""
    return max(1, len(gpus(device)))


@contextmanager
def _processes(jobs: int, gpus: Sequence[str]) -> Iterator[Executor]:
    # Spawned: a forked process must not go on with the threads of torch.
    context = get_context("spawn")
    stop = context.Event()
    threads = max(1, _cores() // jobs)
    executor = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(stop, threads, gpus, context.Value("i", 0))
    )
    try:
        yield executor
    except BaseException:
        stop.set()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(stop: _Event, threads: int, gpus: Sequence[str], turn: Any) -> None:
    """Begin a worker process: its share of the cores, its GPU, and no interest in Ctrl-C, which is for the parent."""
    global _stop
    _stop = stop
    _take_gpu(gpus, turn)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)


def _take_gpu(gpus: Sequence[str], turn: Any) -> None:
    """Let this process see the next of the GPUs alone, before it looks for any; ``turn`` counts over all processes."""
    if gpus:
        with turn.get_lock():
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[turn.value % len(gpus)]
            turn.value += 1


def _end_with_parent() -> None:
    # A parent that was killed tells nobody, and its workers would wait for the next cell for ever.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _dask(cluster: str, jobs: int) -> Iterator[Executor]:
    kind, _, address = cluster.partition(":")
    if kind not in CLUSTERS:
        raise OptionError(f"--cluster {cluster} is unknown; write dask or dask:ADDRESS")
    try:
        import dask
        from distributed import Client
    except ImportError:
        raise OptionError(
            "--cluster dask needs Dask, which is not installed; pip install 'cahp-explorer[cluster]'"
        ) from None
    address = address or dask.config.get("scheduler-address", None) or ""
    # Without a scheduler to go to, workers of this machine, and no page that watches them.
    workers = jobs if jobs > 1 else _cores()
    here = {} if address else {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    try:
        client: Any = Client(address or None, **here)  # type: ignore[no-untyped-call]
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


def workers_of(executor: Executor) -> int:
    """How many workers a cluster has now."""
    client = getattr(executor, "_client", None)
    return 1 if client is None else max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
