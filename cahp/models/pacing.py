"""A training that has to end in time: as many of its batches as fit, measured on those that are done."""

from __future__ import annotations

import math
from collections.abc import Callable

from cahp import processes as parallel
from cahp.values import Progress

#: Seconds that are still allowed.
Left = Callable[[], float]

#: Batches that are done before their time is believed; the first, which sets things up, does not count.
_MEASURED = 4
#: The share of the time left that a plan fills. Only a plan that needs more than all of it is shortened, and only one
#: that would leave more than so much unused is made longer: so the rate of learning is not changed at every batch.
_FILLED, _UNUSED = 0.9, 0.4
#: What is kept for one more batch and a score, as a multiple of what they took: a busy machine may be busier then.
_RESERVED = 1.25
#: How much of the batches before counts beside the last.
_REMEMBERED = 0.9


class TimeIsUp(Exception):
    """What was under way does not fit in the time."""


def until(progress: Progress, left: Left | None) -> Progress:
    """``progress``, which ends what it reports on with ``TimeIsUp`` as soon as no time is left."""
    if left is None:
        return progress

    def guarded(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        # Several processes must end together, which only a training of theirs can agree on.
        if parallel.world() == 1 and left() <= 0:
            raise TimeIsUp

    return guarded


class Pacing:
    """The batches that a training has: all of them, or the first ``total`` of them that fit in the time ``left``.

    ``epoch`` batches make one, at whose end the network is scored, which takes ``scoring`` seconds; ``each`` are those
    that a batch is thought to take. ``size`` is the number of tokens that a batch has on average: batches of like
    length come together, so one alone tells little.
    """

    def __init__(
        self,
        batches: int,
        *,
        epoch: int,
        size: float,
        left: Left | None = None,
        scoring: float = 0.0,
        each: float = 0.0,
    ) -> None:
        self.total = self._all = batches
        self._epoch, self._size = epoch, size
        # Processes that plan together must know the same.
        known = [(0.0, 0.0)] if left is None else parallel.gather((scoring, each))
        self._scoring, self._thought = max(one[0] for one in known), max(one[1] for one in known)
        self._left = None if left is None else lambda: min(parallel.gather(left()))
        self._before: float | None = None
        self._seen, self._seconds, self._tokens, self._longest = 0, 0.0, 0.0, 0

    def begin(self) -> None:
        """Batches begin now."""
        self._before = None if self._left is None else self._left()

    def batch(self, step: int, tokens: int) -> None:
        """A batch of so many tokens is over, the training's ``step``-th: plan the others by what it took."""
        if self._left is None or self._before is None:
            return
        left = self._left()
        # Processes take batches of their own, and must plan alike.
        tokens = sum(parallel.gather(tokens)) // parallel.world()
        self._seen, self._longest = self._seen + 1, max(self._longest, tokens)
        if self._seen > 1:
            # What was lately counts most: a machine does not stay as busy as it is.
            self._seconds = _REMEMBERED * self._seconds + self._before - left
            self._tokens = _REMEMBERED * self._tokens + tokens
        self._before = left
        if self._seen < _MEASURED:
            return
        needed = self._needs(step, self.total - step)
        if needed > left or (self.total < self._all and needed < (1 - _UNUSED) * left):
            self.total = step + self._fitting(step, _FILLED * left)

    def scored(self) -> None:
        """The network was scored since the last batch."""
        if self._left is not None and self._before is not None:
            self._scoring = max(self._scoring, self._before - self._left())

    def over(self, step: int) -> bool:
        """Whether the training ends after ``step`` batches, because they are all or no time is left for one more."""
        if step >= self.total:
            return True
        if self._left is None:
            return False
        # Whether the next batch is a long one is not known.
        next_one = self._each * max(1.0, self._longest / self._size)
        return self._left() <= _RESERVED * (self._scoring + next_one)

    @property
    def _each(self) -> float:
        """Seconds of a batch."""
        return self._seconds * self._size / self._tokens if self._tokens else self._thought

    def _needs(self, step: int, batches: int) -> float:
        """Seconds of so many more batches, and of the scores that come with them."""
        # The score after the batch that was the last of its epoch is still to come.
        scores = math.ceil((step + batches) / self._epoch) - max(0, step - 1) // self._epoch
        return batches * self._each + scores * self._scoring

    def _fitting(self, step: int, seconds: float) -> int:
        """How many more batches fit."""
        most = self._all - step
        if self._needs(step, most) <= seconds:
            return most
        low = 0
        while low < most:
            middle = (low + most + 1) // 2
            low, most = (middle, most) if self._needs(step, middle) <= seconds else (low, middle - 1)
        return low
