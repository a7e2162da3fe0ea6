"""The log of test splits: every opening is counted, across runs and sessions."""

from __future__ import annotations

import logging
import os

from filelock import FileLock

from cahp import data
from cahp.models.cards import ModelCard
from cahp.store import Store, key

#: Beside the store's results, because the store removes its oldest ones.
_FILE = "test-opened.txt"
#: Writing a line takes microseconds; after this the process that holds the lock has stopped.
_LOCK_TIMEOUT_S = 10


class TestSplitLog:
    """Counts how often the test split of a data set was opened for a model on this machine.

    Each opening appends one line to a file, by one process at a time. Lines are never removed.
    """

    def __init__(self, card: ModelCard, dataset: data.Dataset, store: Store) -> None:
        name = key("test-opened", card.origin, dataset.test_sha256)
        self._line = f"{name}\n".encode()
        self._file = store.folder.parent / _FILE

    @property
    def count(self) -> int:
        """How often the split was opened so far."""
        try:
            return self._file.read_bytes().splitlines(keepends=True).count(self._line)
        except OSError:
            # The file does not exist yet, or cannot be read, which the store has reported of its folder.
            return 0

    def open(self, split: str) -> int:
        """Log that a split is read from now on, if it is the test split, and return the count."""
        if split == "test":
            return self.add()
        return self.count

    def add(self) -> int:
        """Log one more opening, and return the new count."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._file.with_suffix(".lock"), timeout=_LOCK_TIMEOUT_S):
                count = self.count + 1
                with self._file.open("a+b") as file:
                    if file.tell():
                        file.seek(-1, os.SEEK_END)
                        if file.read() != b"\n":
                            # The disk was full in the middle of a line.
                            file.write(b"\n")
                    file.write(self._line)
                    file.flush()
                    os.fsync(file.fileno())
                return count
        except OSError as error:
            logging.getLogger(__name__).warning(
                "The test split was opened, but this cannot be counted: %s cannot be written (%s); name another folder "
                "in CAHP_CACHE.",
                self._file,
                error.strerror or error,
            )
            return self.count + 1
