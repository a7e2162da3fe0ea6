"""The test split is opened only to report, and every time is counted."""

from __future__ import annotations

from cahp import data
from cahp.store import Store, key
from cahp.values import ModelCard


class TestSeal:
    """Counts how often the test split of some data was opened for a model, on this machine."""

    def __init__(self, card: ModelCard, dataset: data.Dataset, store: Store) -> None:
        self._there = "test" in dataset.splits
        self._store = store
        self._name = key("test-opened", card.sha256, dataset.split("test").sha256 if self._there else "")

    @property
    def opened(self) -> int:
        """How often so far."""
        if self._store.trouble:
            return 0
        # Counted even where results are measured anew.
        return Store(self._store.folder.parent).read(self._name, lambda entry: int(entry.meta["count"])) or 0

    def open(self) -> int:
        """Count one more look; how many there were."""
        count = self.opened + 1
        self._store.save(self._name, meta={"count": count})
        return count
