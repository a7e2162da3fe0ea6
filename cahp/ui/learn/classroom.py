"""A class: one person leads through the steps, the others guess, and nobody has a name.

Classes live in the server's memory alone, and end with the session that leads them. What is kept of a person is a guess
a step, under the key of their session, which tells nothing of them and is shown to nobody.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from cahp.studies.answers import Answer
from cahp.studies.lessons import Step
from cahp.values import CahpError

#: Classes at a time, and people in one.
_CLASSES, _PEOPLE = 32, 1000
#: Seconds after which somebody who does not show up has left.
_GONE_S = 20.0


class ClassError(CahpError):
    """A class cannot be opened or joined."""


@dataclass(frozen=True)
class Moment:
    """What a class looks at: the step, and its answer as soon as that is shown. ``turn`` tells moments apart."""

    at: int
    answer: Answer | None
    turn: int


class Classroom:
    """One class; all of it may be called from any thread.

    Args:
        steps: What is guessed at, in order.
        about: What the answers are measured on, in words.
        leader: The session that leads.
        clock: Seconds that only grow.
    """

    def __init__(
        self, steps: Sequence[Step], *, about: str, leader: str, clock: Callable[[], float] = monotonic
    ) -> None:
        self.code = secrets.token_urlsafe(8)
        self.steps = tuple(steps)
        self.about = about
        self.leader = leader
        self._clock = clock
        self._lock = Lock()
        self._at = self._turn = 0
        self._answers: dict[int, Answer] = {}
        self._guesses: list[dict[str, int]] = [{} for _ in steps]
        self._seen: dict[str, float] = {}

    @property
    def moment(self) -> Moment:
        """What the class looks at now."""
        with self._lock:
            return Moment(self._at, self._answers.get(self._at), self._turn)

    def go(self, at: int) -> None:
        """Lead the class to the step at this position."""
        with self._lock:
            if at != self._at and 0 <= at < len(self.steps):
                self._at = at
                self._turn += 1

    def show(self, at: int, answer: Answer) -> None:
        """Show the answer of a step; from then on nobody guesses at it."""
        with self._lock:
            if at not in self._answers:
                self._answers[at] = answer
                self._turn += 1

    def shown(self) -> list[tuple[int, Answer]]:
        """The steps whose answers were shown, in order."""
        with self._lock:
            return sorted(self._answers.items())

    def attend(self, who: str) -> None:
        """Somebody is here.

        Raises:
            ClassError: If the class is full.
        """
        with self._lock:
            if who not in self._seen and len(self._seen) >= _PEOPLE:
                raise ClassError(f"this class is full: {_PEOPLE:,} people are in it")
            self._seen[who] = self._clock()

    def here(self) -> int:
        """People who showed up lately; whoever leads is not counted."""
        with self._lock:
            return sum(self._clock() - at < _GONE_S for at in self._seen.values())

    def guess(self, who: str, at: int, value: int) -> bool:
        """Hand in a guess, or another one; False if the class has gone on, or the answer was shown."""
        with self._lock:
            if at != self._at or at in self._answers or who not in self._seen:
                return False
            self._guesses[at][who] = min(max(int(value), 0), self.steps[at].highest)
            return True

    def guess_of(self, who: str, at: int) -> int | None:
        """What somebody guessed at a step."""
        with self._lock:
            return self._guesses[at].get(who)

    def guesses(self, at: int) -> list[int]:
        """All guesses at a step, lowest first, so that their order tells nobody's."""
        with self._lock:
            return sorted(self._guesses[at].values())


class Classes:
    """The classes of this server; ``alive(session)`` says whether a session goes on."""

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._lock = Lock()
        self._open: dict[str, Classroom] = {}

    def open(self, steps: Sequence[Step], *, about: str, leader: str) -> Classroom:
        """A new class; what the same session led before ends.

        Raises:
            ClassError: If there are too many.
        """
        made = Classroom(steps, about=about, leader=leader)
        with self._lock:
            self._forget(leader)
            if len(self._open) >= _CLASSES:
                raise ClassError(f"{_CLASSES} classes are open on this explorer already; try again when one has ended")
            self._open[made.code] = made
        return made

    def close(self, leader: str) -> None:
        """End the class that a session leads."""
        with self._lock:
            self._forget(leader)

    def find(self, code: str) -> Classroom | None:
        """The class of a code, unless it has ended."""
        with self._lock:
            self._forget(None)
            return self._open.get(code)

    def led_by(self, leader: str) -> Classroom | None:
        """The class that a session leads."""
        with self._lock:
            return next((room for room in self._open.values() if room.leader == leader), None)

    def _forget(self, leader: str | None) -> None:
        """Drop the class of this leader, and those whose leaders have gone."""
        for code, room in list(self._open.items()):
            if room.leader == leader or not self._alive(room.leader):
                del self._open[code]
