"""An interrupted training in the store: its last state, and for a timed one the time and texts it may use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp import processes as parallel
from cahp.recoveries import Recovery
from cahp.store import Store, key
from cahp.values import Input, Ints

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training_state import Left

#: Forward passes of one token that solving a refit costs per hidden channel, however few the texts.
_SOLVING_PASSES = 4.4
#: A timed recovery uses at least this many texts.
_MIN_TEXTS = 40
#: Texts on which the time of a forward pass is measured, and the share of the time that a plan fills.
_PROBED, _FILLED = 8, 0.8


def texts_in_time(model: HeadModel, inputs: Sequence[Input], left: Left, recovery: Recovery) -> int:
    """Estimate how many of ``inputs`` a recovery can use in the time left, with one epoch of training."""
    probed = model.tokenize([inputs[row] for row in spread(len(inputs), _PROBED)])
    batches = model.batches(probed)
    tokens = sum(len(entry["input_ids"]) for entry in probed) / len(probed)
    can_refit = not model.card.no_refit
    solving = _SOLVING_PASSES * model.card.hidden / tokens if recovery.solves and can_refit else 0.0
    seconds_per_pass = 0.0
    # The first pass allocates memory and is slower.
    for _ in range(2):
        before = left()
        for batch in batches:
            model.logits(batch)
        seconds_per_pass = (before - left()) / len(probed)
        if seconds_per_pass * len(probed) > 0.02 * before:
            break
    low, high = min(_MIN_TEXTS, len(inputs)), len(inputs)
    seconds = _FILLED * left()
    while low < high:
        middle = (low + high + 1) // 2
        needed = seconds_per_pass * (solving + recovery.passes(middle, can_refit=can_refit, epochs=1))
        low, high = (middle, high) if needed <= seconds else (low, middle - 1)
    return low


def spread(rows: int, count: int) -> Ints:
    """Return at most ``count`` of ``rows`` row numbers, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(count, rows)).round().astype(np.int64))


@dataclass
class StoredTraining:
    """An interrupted training under its ``name`` in the store."""

    store: Store
    name: str
    #: Whether an interrupted training was loaded.
    resumed: bool = field(default=False, init=False)
    #: Whether the last state was too large for the store.
    _unsaved: bool = field(default=False, init=False)

    @property
    def exists(self) -> bool:
        """Whether an interrupted training is stored."""
        return self.store.holds(self.name)

    def load(self) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None:
        """Return the last state, or None."""
        entry = self.store.load(self.name)
        self.resumed = entry is not None
        return None if entry is None else (entry.arrays, entry.meta)

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Replace the stored state; warn once if the store is too small for it."""
        saved = self.store.save(self.name, arrays=arrays, meta=meta)
        if not saved and not self._unsaved and self.store.trouble is None:
            size = sum(array.nbytes for array in arrays.values())
            logging.getLogger(__name__).warning(
                f"The state of this training is not cached: it needs {size / 1e9:.1f} GB, and the cache may hold "
                f"{self.store.limit_bytes / 1e9:.1f} GB. If it is interrupted, it starts again from the beginning."
            )
        self._unsaved = not saved

    def remove(self) -> None:
        """Remove the stored state."""
        self.store.remove(self.name)


@dataclass
class TimedTraining(StoredTraining):
    """A training with a time limit: time used before an interruption counts, and its texts stay the same."""

    recovery: Recovery
    seconds: float
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._plan = key("plan of", self.name)
        plan = self.store.read(self._plan, lambda entry: (int(entry.meta["texts"]), float(entry.meta["used"])))
        self._texts: int | None
        self._texts, self._spent = plan if plan is not None else (None, 0.0)
        self._start = self.clock()

    @property
    def used(self) -> float:
        """Seconds used so far, those of an interrupted attempt included."""
        return self._spent + self.clock() - self._start

    def left(self) -> float:
        """Return the seconds left."""
        return self.seconds - self.used

    def rows(self, model: HeadModel, inputs: Sequence[Input]) -> Ints:
        """Return the rows of ``inputs`` to train on: those of the interrupted attempt, or as many as time allows."""
        if self._texts is None:
            # Processes that work together must use the same texts.
            self._texts = parallel.from_first(lambda: texts_in_time(model, inputs, self.left, self.recovery))
        return spread(len(inputs), self._texts)

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Replace the stored state and the time used."""
        super().save(arrays, meta)
        # Time counts only for a state that can be resumed.
        if not self._unsaved:
            self.store.save(self._plan, meta={"texts": self._texts, "used": self.used})

    def remove(self) -> None:
        """Remove the stored state and the plan."""
        super().remove()
        self.store.remove(self._plan)
