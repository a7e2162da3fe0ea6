"""How long work still takes: what was expected of it, and the pace at which its present stage goes."""

from __future__ import annotations

from time import monotonic

#: Seconds of a stage after which its own pace is known.
_SETTLED_S = 0.5
#: The largest share of work that is estimated to be done.
_ALMOST = 0.95
#: A time left is announced once so many seconds have passed, or this share of the work is done.
_KNOWN_S = 5.0
_KNOWN_SHARE = 0.1


class TimedWork:
    """Work that is ``expected`` to take so many seconds (None: unknown).

    Its present ``stage`` has ``total`` units, of which so many are ``done``.
    """

    def __init__(self, expected: float | None = None) -> None:
        self.stage = ""
        self.done = 0
        self.total = 0
        self._expected = expected
        self._began: float | None = None
        self._stage_began = 0.0
        #: How much of the present stage was done when it began.
        self._stage_base = 0
        self._furthest = 0.0
        #: The first time left that was announced.
        self._announced: float | None = None

    @property
    def began(self) -> bool:
        """Whether the work has begun."""
        return self._began is not None

    @property
    def spent(self) -> float:
        """Seconds of work so far."""
        if self._began is None:
            return 0.0
        return monotonic() - self._began

    def begin(self) -> None:
        """Begin to count."""
        self._began = self._stage_began = monotonic()

    def skip(self, seconds: float) -> None:
        """Do not count the last ``seconds``, in which other work was done."""
        self._stage_began += seconds
        if self._began is not None:
            self._began += seconds

    def report(self, stage: str, done: int, total: int) -> None:
        """Take a report that ``done`` of ``total`` units of a stage are done."""
        if stage != self.stage or done < self.done:
            self._stage_began = monotonic()
            self._stage_base = done
        self.stage = stage
        self.done = done
        self.total = total

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, at least those of the present stage (None: unknown)."""
        if not self.began:
            return self._expected
        estimates = []
        if self._expected is not None:
            estimates.append(max(0.0, self._expected - self.spent))
        new = self.done - self._stage_base
        spent = monotonic() - self._stage_began
        if new > 0 and spent > _SETTLED_S:
            estimates.append(spent * (self.total - self.done) / new)
        return max(estimates, default=None)

    @property
    def share(self) -> float:
        """The share of the work that is done: by the time if that was expected, and else by the units of its stage.

        That by the time never falls, and never reaches 1.
        """
        left = self.seconds_left
        if self._expected is None and self.total:
            return min(1.0, self.done / self.total)
        if left is None or not self.began:
            return 0.0
        self._furthest = max(self._furthest, min(_ALMOST, self.spent / max(self.spent + left, 1e-9)))
        return self._furthest

    @property
    def announced_left(self) -> float | None:
        """The seconds left that a person is told, once they are known well enough (None: not yet).

        They never rise by more than they have fallen before.
        """
        left = self.seconds_left
        if left is None or not self.began:
            return None
        if self._announced is None:
            if self.spent < _KNOWN_S and self.share < _KNOWN_SHARE:
                return None
            self._announced = left
        return min(left, self._announced)
