"""A training that has to end in time: how far it is, and whether there is time for another batch."""

from __future__ import annotations

from collections.abc import Callable

from cahp import processes as parallel
from cahp.values import Progress

#: Seconds that are still allowed.
Left = Callable[[], float]

#: Time reserved for one more batch and a score, as a multiple of what they took before: a machine may become busier.
_RESERVED = 1.25


class TimeIsUp(Exception):
    """The work that is under way does not fit into its time."""


def until(progress: Progress, left: Left | None) -> Progress:
    """``progress`` that raises ``TimeIsUp`` as soon as no time is left."""
    if left is None:
        return progress

    def guarded(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        # Several processes must end together, which only their training can agree on.
        if parallel.world() == 1 and left() <= 0:
            raise TimeIsUp

    return guarded


class TimeBudget:
    """The ``batches`` of a training, or as many of them as fit into the time ``left``.

    The learning rate follows ``behind``, the part of the training that is over: the batches that are done, or the time
    that has passed if that is a larger part. ``scoring`` and ``each`` are the estimated seconds of a score and of a
    batch, until they are measured.
    """

    def __init__(self, batches: int, *, left: Left | None = None, scoring: float = 0.0, each: float = 0.0) -> None:
        self.batches = batches
        self._left: Left | None = None
        #: Seconds of the whole training (None: without a limit).
        self.seconds: float | None = None
        self._seen = 0
        if left is not None:
            # Processes that train together must stop together.
            self._left = lambda: min(parallel.gather(left()))
            self.seconds = self._now = self._left()
            self._scoring, self._each = (max(parallel.gather(estimate)) for estimate in (scoring, each))

    def begin(self) -> None:
        """Measure from now."""
        if self._left is not None:
            self._now = self._left()

    def batch(self) -> None:
        """Note the end of a batch."""
        if self._left is None:
            return
        before, self._now = self._now, self._left()
        self._seen += 1
        # The first one sets things up, and the estimate is dropped for the first that is measured.
        if self._seen > 1:
            self._each = max(self._each if self._seen > 2 else 0.0, before - self._now)

    def scored(self) -> None:
        """Note the end of a score."""
        if self._left is not None:
            before, self._now = self._now, self._left()
            self._scoring = max(self._scoring, before - self._now)

    def behind(self, step: int) -> float:
        """How much of the training is over after ``step`` batches, counted in batches."""
        if self.seconds is None:
            return step
        usable = self.seconds - self._reserve
        return max(step, self.batches * (self.seconds - self._now) / usable) if usable > 0 else self.batches

    def total(self, step: int) -> int:
        """The number of batches that the training will have, as estimated after ``step`` of them."""
        behind = self.behind(step)
        return self.batches if behind <= step else max(step, min(self.batches, round(step * self.batches / behind)))

    def over(self, step: int) -> bool:
        """Whether the training ends after ``step`` batches: they are all, or no time is left for another one."""
        return step >= self.batches or (self.seconds is not None and self._now <= self._reserve)

    @property
    def _reserve(self) -> float:
        return _RESERVED * (self._scoring + self._each)
