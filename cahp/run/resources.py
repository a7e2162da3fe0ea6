"""What evidence and measurements share: the model, read when it is first needed, the store, and the clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from numpy.typing import NDArray

from cahp import models
from cahp.cards import ModelCard
from cahp.store import Entry, Store
from cahp.values import Precisions, Progress, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel, Verified
    from cahp.models.training import Watch

#: What a stored result may weigh; above it, computing anew is the lesser evil.
_LARGEST_ENTRY = 256 << 20
#: Trained weights may take this part of the store: those of BERT-base under a mask, with their refit, take a fifth.
_TRAINED_SHARE = 4


class Loader(Protocol):
    """Reads and proves a model, as ``models.load`` does."""

    def __call__(self, name: ModelCard, /, *, device: str) -> HeadModel:
        """The model of this card."""


T = TypeVar("T")


class Resources:
    """One model and what is at hand to work on it; many results, each measured once, are found again in its store.

    ``cached`` lists the stages whose results an earlier run left in the store, ``timings`` the seconds of those that
    ran here. ``progress`` is called between batches and may raise ``Cancelled``; ``watch`` sees trainings.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        store: Store,
        device: str = "auto",
        precisions: Precisions = Precisions(),  # noqa: B008 - frozen
        model: HeadModel | None = None,
        load: Loader = models.load,
        progress: Progress = silent,
        watch: Watch | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.card, self.store, self.device, self.precisions = card, store, device, precisions
        self.progress, self.watch, self.clock = progress, watch, clock
        self.cached: list[str] = []
        self.timings: dict[str, float] = {}
        self._kept: set[str] = set()
        self._model, self._load, self._lock = model, load, threading.Lock()

    @property
    def model(self) -> HeadModel:
        """The model, read and proven when first asked for."""
        with self._lock:
            if self._model is None:
                with self.timed("load"):
                    self.progress("load", 0, 1)
                    self._model = self._load(self.card, device=self.device)
                    self.progress("load", 1, 1)
            # A model that was handed in is proven too, once.
            return models.proven(self._model)

    @property
    def proof(self) -> Verified | None:
        """What the self-test found on the model (None: it was not read, since everything was cached)."""
        return None if self._model is None else self._model.verified

    def found(self, stage: str, name: str, of: Callable[[Entry], T]) -> T | None:
        """What ``of`` makes of the result of ``stage`` under a key of its content, if it is in the store."""
        result = self.store.read(name, of)
        if result is not None and stage not in self.cached and name not in self._kept:
            self.cached.append(stage)
        return result

    def keep(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        meta: Mapping[str, Any] | None = None,
        *,
        trained: bool = False,
    ) -> None:
        """Put a result into the store, unless it is too large for what it took; ``trained`` weights took most."""
        largest = self.store.limit_bytes // _TRAINED_SHARE if trained else _LARGEST_ENTRY
        if sum(array.nbytes for array in arrays.values()) <= largest:
            self.store.save(name, arrays=arrays, meta=meta)
            # What was kept from here is no finding from an earlier run.
            self._kept.add(name)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's seconds to those of ``stage``."""
        start = self.clock()
        yield
        self.timings[stage] = self.timings.get(stage, 0.0) + self.clock() - start
