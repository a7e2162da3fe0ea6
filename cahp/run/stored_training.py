"""A training that was stopped, in the store: where it stands, and of one that has to end in time what it has used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cahp import processes as parallel
from cahp.run.allowance import Allowance, spread, texts_in_time
from cahp.store import Store, key
from cahp.values import Input, Ints

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


@dataclass
class StoredTraining:
    """A training that was stopped, under its ``name`` in the store."""

    store: Store
    name: str
    #: Whether there was one.
    resumed: bool = field(default=False, init=False)
    _lost: bool = field(default=False, init=False)

    @property
    def waits(self) -> bool:
        """Whether there is one."""
        return self.store.holds(self.name)

    def load(self) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None:
        """What was kept last."""
        found = self.store.load(self.name)
        self.resumed = found is not None
        return None if found is None else (found.arrays, found.meta)

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Keep this instead; where the store is too small for it, say so once."""
        self._keep(arrays, meta)

    def _keep(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> bool:
        kept = self.store.save(self.name, arrays=arrays, meta=meta)
        if not kept and not self._lost and self.store.trouble is None:
            size = sum(array.nbytes for array in arrays.values())
            logging.getLogger(__name__).warning(
                f"Where this training stands is not kept: it takes {size / 1e9:.1f} GB, and all results may take "
                f"{self.store.limit_bytes / 1e9:.1f}. If it is stopped it begins anew."
            )
        self._lost = not kept
        return kept

    def remove(self) -> None:
        """Keep nothing."""
        self.store.remove(self.name)


@dataclass
class TimedTraining(StoredTraining):
    """One that has to end in time: what was used before it was stopped is gone, and the texts stay the same."""

    seconds: float
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._plan = key("plan of", self.name)
        found = self.store.read(self._plan, lambda entry: (int(entry.meta["texts"]), float(entry.meta["used"])))
        self._texts: int | None
        self._texts, spent = found if found is not None else (None, 0.0)
        self.allowance = Allowance(self.seconds, self.clock, spent=spent)

    def rows(self, model: HeadModel, inputs: Sequence[Input]) -> Ints:
        """The rows of ``inputs`` that it works on: those of before it was stopped, or as many as there is time for."""
        if self._texts is None:
            refitted = not model.card.no_refit
            # Processes that work together must work on the same.
            self._texts = parallel.from_first(
                lambda: texts_in_time(model, inputs, self.allowance.left, refitted=refitted)
            )
        return spread(len(inputs), self._texts)

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Keep this instead, and how much time is gone."""
        # What was not kept was used for nothing.
        if self._keep(arrays, meta):
            self.store.save(self._plan, meta={"texts": self._texts, "used": self.allowance.used})

    def remove(self) -> None:
        """Keep nothing."""
        super().remove()
        self.store.remove(self._plan)
