"""The test split is opened only to report, and every time is counted."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from filelock import FileLock

from cahp import data
from cahp import processes as parallel
from cahp.cards import ModelCard
from cahp.store import Store, key

#: Beside the store's results, of which the oldest are forgotten.
_LEDGER = "test-opened.txt"
#: A line takes microseconds; whoever holds the lock for longer was stopped.
_PATIENCE_S = 10
#: Nobody opens a split as often.
_FORGED = 100_000


class TestSeal:
    """Counts how often the test split of some data was opened for a model, on this machine.

    Each time is a line that is added to one file and never taken away, by one process at a time.
    """

    def __init__(self, card: ModelCard, dataset: data.Dataset, store: Store) -> None:
        self._store = store
        self._name = key("test-opened", card.sha256, dataset.split("test").sha256 if "test" in dataset.splits else "")
        self._ledger = store.folder.parent / _LEDGER

    @property
    def opened(self) -> int:
        """How often so far."""
        return parallel.from_first(self._count)

    def open(self) -> int:
        """Count one more time; how many there were."""
        return parallel.from_first(self._add)

    def _count(self) -> int:
        return self._lines() or self._counted_before()

    def _add(self) -> int:
        try:
            self._ledger.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._ledger.with_suffix(".lock"), timeout=_PATIENCE_S):
                lines = self._lines()
                # What was counted before there was a ledger comes along with its first line.
                new = 1 if lines else self._counted_before() + 1
                _append(self._ledger, self._line * new)
                return lines + new
        except OSError as error:
            logging.getLogger(__name__).warning(
                "The test split was opened and that cannot be counted: %s cannot be written (%s); name another folder "
                "in CAHP_CACHE.",
                self._ledger,
                error.strerror or error,
            )
            return self._count() + 1

    def _lines(self) -> int:
        try:
            with self._ledger.open("rb") as lines:
                return sum(line == self._line for line in lines)
        except OSError:
            # Not there yet; or not to be read, which the store has said of its folder.
            return 0

    @property
    def _line(self) -> bytes:
        return f"{self._name}\n".encode()

    def _counted_before(self) -> int:
        """The count of earlier versions, which kept it among the results."""
        if self._store.trouble:
            # Said once is enough.
            return 0
        found = Store(self._store.folder.parent).read(self._name, lambda entry: int(entry.meta["count"]))
        return found if found is not None and 0 <= found < _FORGED else 0


def _append(ledger: Path, lines: bytes) -> None:
    """Add whole lines at the end of a file, and do not come back before they are on the disk."""
    with ledger.open("ab") as file:
        if file.tell() and not _ends_in_newline(ledger):
            # Somebody ran out of disk in the middle of a line.
            lines = b"\n" + lines
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
