"""How long work still takes: the plan of its stages, corrected by the pace at which they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from cahp.run.timeline import PREPARATIONS

#: The share of its plan by which work is trusted to take as long as planned before anything was measured.
_PRIOR = 0.1
#: Seconds of a stage after which its own pace is known, where nothing was planned.
_SETTLED_S = 0.5
#: The largest share of work that is estimated to be done.
_ALMOST = 0.95


@dataclass(frozen=True)
class Part:
    """A part of a plan: the seconds that a ``stage`` of progress reports may take (empty: all stages together)."""

    stage: str
    seconds: float


#: The parts of some work in their order; a stage that comes twice has two. Empty: nothing is known.
Plan = Sequence[Part]


def whole(seconds: float | None) -> Plan:
    """Return the plan of work whose stages are not told apart (None: nothing is known)."""
    if seconds is None:
        return ()
    return (Part("", seconds),)


def total_seconds(plan: Plan) -> float:
    """Return the seconds of all parts."""
    return sum(part.seconds for part in plan)


class TimeLeft:
    """The time left of work with a plan, from its progress reports.

    Parts to come are assumed to go at the pace of those before them, relative to the plan. Bringing a model into memory
    waits for a disk, so it tells nothing about the rest.
    """

    def __init__(self, plan: Plan) -> None:
        self.stage = ""
        self.done = 0
        self.total = 0
        self._plan = plan
        self._place = 0
        self._began: float | None = None
        self._part_began = 0.0
        self._stage_began = monotonic()
        #: How much of the present stage was done when it began.
        self._stage_base = 0
        #: Planned and real seconds of the parts that are over.
        self._planned = 0.0
        self._taken = 0.0
        self._furthest = 0.0

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
        self._began = self._part_began = monotonic()

    def skip(self, seconds: float) -> None:
        """Do not count the last ``seconds``, in which other work was done."""
        self._stage_began += seconds
        self._part_began += seconds
        if self._began is not None:
            self._began += seconds

    def report(self, stage: str, done: int, total: int) -> None:
        """Take a report that ``done`` of ``total`` units of a stage are done."""
        anew = stage == self.stage and done < self.done
        if stage != self.stage or anew:
            self._stage_began = monotonic()
            self._stage_base = done
            self._enter(stage, anew=anew)
        self.stage = stage
        self.done = done
        self.total = total

    def _enter(self, stage: str, *, anew: bool) -> None:
        """Go on to the part of a stage; a stage that is not planned belongs to the present part."""
        later = range(self._place + 1, len(self._plan))
        if anew:
            # A stage may count several times over in one part.
            later = later[:1]
        elif self._place < len(self._plan) and self._plan[self._place].stage == stage:
            return
        for place in later:
            if self._plan[place].stage == stage:
                self._leave(place)
                return

    def _leave(self, place: int) -> None:
        part = self._plan[self._place]
        now = monotonic()
        if part.stage == self.stage and part.stage not in PREPARATIONS:
            self._planned += part.seconds
            self._taken += now - self._part_began
        self._place = place
        self._part_began = now

    @property
    def _counted(self) -> float | None:
        """The share of the present part that its stage counts (None: it counts nothing)."""
        total = self.total
        if self._plan[self._place].stage != self.stage or total <= 1:
            return None
        return min(1.0, self.done / total)

    def _find_pace(self, part: Part, counted: float | None) -> float:
        """Return real seconds per planned second, with the share of the present part that is ``counted``."""
        prior = _PRIOR * total_seconds(self._plan)
        planned = self._planned + prior
        taken = self._taken + prior
        if counted and part.stage not in PREPARATIONS:
            planned += part.seconds * counted
            taken += monotonic() - self._part_began
        if not planned:
            return 1.0
        return taken / planned

    @property
    def seconds(self) -> float | None:
        """Seconds to the end (None: unknown)."""
        if not self.began:
            return total_seconds(self._plan) or None
        estimates = []
        if self._plan:
            estimates.append(self._left_of_plan())
        if len(self._plan) <= 1:
            estimates += self._left_of_stage()
        if not estimates:
            return None
        return max(0.0, *estimates)

    def _left_of_plan(self) -> float:
        # Pages ask while another thread reports: what they read here is read once.
        place = self._place
        counted = self._counted
        part = self._plan[place]
        pace = self._find_pace(part, counted)
        left = pace * total_seconds(self._plan[place + 1 :])
        if counted:
            return left + pace * part.seconds * (1 - counted)
        return left + max(0.0, pace * part.seconds - (monotonic() - self._part_began))

    def _left_of_stage(self) -> list[float]:
        """Return the seconds to the end of the present stage at its own pace, if that is known."""
        spent = monotonic() - self._stage_began
        new = self.done - self._stage_base
        if new <= 0 or spent <= _SETTLED_S:
            return []
        return [spent * (self.total - self.done) / new]

    @property
    def share(self) -> float:
        """The share of all work that is done if its stages are planned, and else that of its stage.

        It is counted, or else estimated by the time, and then never reaches 1. That of a plan never falls.
        """
        planned = len(self._plan) > 1
        if self.total and self.done and not planned:
            return min(1.0, self.done / self.total)
        left = self.seconds
        if left is None or not self.began:
            return 0.0
        share = min(_ALMOST, self.spent / max(self.spent + left, 1e-9))
        if planned:
            self._furthest = max(self._furthest, share)
            return self._furthest
        return share
