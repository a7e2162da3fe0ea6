"""A recovery with a time limit: which texts it learns from, and how much time is left after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cahp.recoveries import Recovery
from cahp.store import StoredTraining
from cahp.tasks.texts import Item
from cahp.values import Ints, spread

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Left

#: Forward passes of one token that solving a refit costs per hidden channel, however few the texts.
_SOLVING_PASSES = 4.4
#: A timed recovery uses at least this many texts.
_MIN_TIMED_TEXTS = 40
#: Texts on which the time of a forward pass is measured, and the share of the time that a plan fills.
_PROBED = 8
_FILLED = 0.8


@dataclass
class TimedTraining(StoredTraining):
    """A training with a time limit: time used before an interruption counts, and its texts stay the same."""

    recovery: Recovery
    seconds: float
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        # An interrupted attempt has stored them with its state.
        plan = self.store.read(self.name, lambda entry: (int(entry.meta["texts"]), float(entry.meta["used"])))
        self._texts: int | None = None
        self._spent = 0.0
        if plan is not None:
            self._texts, self._spent = plan
        self._start = self.clock()

    @property
    def used(self) -> float:
        """Seconds used so far, those of an interrupted attempt included."""
        return self._spent + self.clock() - self._start

    def left(self) -> float:
        """Return the seconds left."""
        return self.seconds - self.used

    def rows(self, model: HeadModel, inputs: Sequence[Item]) -> Ints:
        """Return the rows of ``inputs`` to train on: those of the interrupted attempt, or as many as time allows."""
        if self._texts is None:
            self._texts = texts_in_time(model, inputs, self.left, self.recovery)
        return spread(len(inputs), self._texts)

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Replace the stored state, with the number of texts and the time used."""
        super().save(arrays, {**meta, "texts": self._texts, "used": self.used})


def texts_in_time(model: HeadModel, inputs: Sequence[Item], left: Left, recovery: Recovery) -> int:
    """Estimate how many of ``inputs`` a recovery can use in the time left, with one epoch of training."""
    probed = model.tokenize([inputs[row] for row in spread(len(inputs), _PROBED)])
    batches = model.batches(probed)
    tokens = sum(len(entry["input_ids"]) for entry in probed) / len(probed)
    can_refit = not model.card.no_refit
    solving = 0.0
    if recovery.solves and can_refit:
        solving = _SOLVING_PASSES * model.card.hidden / tokens
    seconds_per_pass = 0.0
    # The first pass allocates memory and is slower.
    for _ in range(2):
        before = left()
        for batch in batches:
            model.logits(batch)
        seconds_per_pass = (before - left()) / len(probed)
        if seconds_per_pass * len(probed) > 0.02 * before:
            break
    low = min(_MIN_TIMED_TEXTS, len(inputs))
    high = len(inputs)
    seconds = _FILLED * left()
    while low < high:
        middle = (low + high + 1) // 2
        needed = seconds_per_pass * (solving + recovery.passes(middle, can_refit=can_refit, epochs=1))
        if needed <= seconds:
            low = middle
        else:
            high = middle - 1
    return low
