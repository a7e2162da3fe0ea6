"""Cells measured, here or by workers; what is measured is kept as soon as it is made, or comes back from elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cahp import hub
from cahp.comparison.benches import Benches
from cahp.comparison.cells import Measured
from cahp.comparison.engines import Here, result, stopped
from cahp.comparison.measuring import measure
from cahp.comparison.plan import Cell, Plan
from cahp.store import Entry, Store
from cahp.values import CahpError

#: What was measured and is still to be kept, by its key.
Entries = dict[str, Entry]


@dataclass(frozen=True)
class Task:
    """What a worker is sent: the plan, a cell, and where results are kept (None: in the worker's own store).

    ``limit_bytes`` is the room of the caller's store, which a worker must not trim to less; ``content`` is the digest
    of the caller's model and texts (``Benches.content``), which a worker must have, too.
    """

    plan: Plan
    cell: Cell
    folder: Path | None
    limit_bytes: int
    content: str


_benches: dict[str, Benches] = {}
_lock = threading.Lock()


def work(task: Task) -> tuple[Measured, Entries]:
    """Measure a cell in a worker process, which keeps the model and its evidence for the next one.

    Raises:
        CahpError: If it finds another model or other texts than the caller.
    """
    name = repr((task.plan, task.folder, task.limit_bytes, task.content))
    # A cluster's worker may run several threads, which would only wait for each other's products.
    with _lock:
        if name not in _benches:
            _benches.clear()
            # Who sent the task was asked; a worker elsewhere may have to fetch the model, too.
            with hub.consent_from(lambda *_: True):
                store = Store(task.folder, limit_bytes=task.limit_bytes)
                opened = Benches(task.plan, store=store, progress=stopped)
            if opened.content != task.content:
                raise CahpError(
                    "a worker finds another model or other texts under the same names; give it the same files"
                )
            _benches[name] = opened
        benches, back = _benches[name], Entries()
        # Another store than the caller's: all goes back with the cell.
        keep = back.__setitem__ if task.folder is None else partial(_save, benches.store)
        return measure(benches, task.cell, keep), back


def _here(benches: Benches, cell: Cell) -> tuple[Measured, Entries]:
    return measure(benches, cell, partial(_save, benches.store)), {}


def _save(store: Store, name: str, entry: Entry) -> None:
    store.save(name, arrays=entry.arrays, meta=entry.meta)


def run(benches: Benches, cells: Sequence[Cell], executor: Executor, cluster: str | None) -> Iterator[Measured]:
    """Measure cells, each of which is kept by the time it is yielded.

    Raises:
        CahpError: If a worker dies.
    """
    here = isinstance(executor, Here)
    # A store elsewhere is the worker's own.
    folder, room = benches.store.folder.parent if cluster is None else None, benches.store.limit_bytes
    content = "" if here else benches.content
    waiting = list(reversed(cells))
    running: set[Future[tuple[Measured, Entries]]] = set()
    while waiting or running:
        # In this process a cell is measured when it is submitted, so each is yielded before the next begins.
        while waiting and not (here and running):
            cell = waiting.pop()
            running.add(
                executor.submit(_here, benches, cell)
                if here
                else executor.submit(work, Task(benches.plan, cell, folder, room, content))
            )
        ready, running = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
            one, back = result(future)
            for name, entry in back.items():
                _save(benches.store, name, entry)
            yield one
