"""A class: one person leads through the steps and the others guess anonymously.

Classes exist in the server's memory only and end with the session that leads them. For each person only one guess per
step is kept, under the key of the session, which is never shown.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from threading import Lock

from cahp.features.learn.lessons import Answer, Step
from cahp.features.learn.stage import Picture
from cahp.values import CahpError

#: Largest number of classes, and of people in one.
_CLASSES = 32
_PEOPLE = 1000


class ClassError(CahpError):
    """A class cannot be opened or joined."""


class Classroom:
    """One class; thread-safe.

    ``picture`` is drawn, and ``about`` describes the model and the texts; ``leader`` is the session that leads;
    ``alive(session)`` says whether a session is open.
    """

    def __init__(
        self, steps: Sequence[Step], picture: Picture, *, about: str, leader: str, alive: Callable[[str], bool]
    ) -> None:
        self.code = secrets.token_urlsafe(8)
        self.steps = tuple(steps)
        self.picture = picture
        self.about = about
        self.leader = leader
        self._alive = alive
        self._lock = Lock()
        self._at = 0
        self._answers: dict[int, Answer] = {}
        self._guesses: list[dict[str, int]] = [{} for _ in steps]
        self._people: set[str] = set()

    @property
    def moment(self) -> tuple[int, Answer | None]:
        """The current step, and its answer once it is shown."""
        with self._lock:
            return self._at, self._answers.get(self._at)

    def go(self, at: int) -> None:
        """Move the class to step ``at``."""
        with self._lock:
            if 0 <= at < len(self.steps):
                self._at = at

    def show(self, at: int, answer: Answer) -> None:
        """Show the answer of a step, which ends its guesses."""
        with self._lock:
            self._answers.setdefault(at, answer)

    def shown(self) -> list[tuple[int, Answer]]:
        """Return the steps whose answers were shown, in order."""
        with self._lock:
            return sorted(self._answers.items())

    def attend(self, who: str) -> None:
        """Let a person in.

        Raises:
            ClassError: If the class is full.
        """
        with self._lock:
            if len(self._people | {who}) > _PEOPLE:
                raise ClassError(f"this class is full ({_PEOPLE:,} people)")
            self._people.add(who)

    def here(self) -> int:
        """Return the number of people present, without the leader."""
        with self._lock:
            return sum(map(self._alive, self._people))

    def guess(self, who: str, at: int, value: int) -> bool:
        """Record or replace a guess; False if the class has moved on or the answer was shown."""
        with self._lock:
            if at != self._at or at in self._answers or who not in self._people:
                return False
            self._guesses[at][who] = min(max(int(value), 0), self.steps[at].highest)
            return True

    def guess_of(self, who: str, at: int) -> int | None:
        """Return the guess of a person at a step."""
        with self._lock:
            return self._guesses[at].get(who)

    def guesses(self, at: int) -> list[int]:
        """Return all guesses at a step, sorted so that their order identifies nobody."""
        with self._lock:
            return sorted(self._guesses[at].values())


class Classes:
    """The classes of this server; ``alive(session)`` says whether a session is open."""

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._lock = Lock()
        self._open: dict[str, Classroom] = {}

    def open(self, steps: Sequence[Step], picture: Picture, *, about: str, leader: str) -> Classroom:
        """Open a class; a class that the same session led before ends.

        Raises:
            ClassError: If there are too many.
        """
        self.close(leader)
        room = Classroom(steps, picture, about=about, leader=leader, alive=self._alive)
        with self._lock:
            if len(self._open) >= _CLASSES:
                raise ClassError(f"{_CLASSES} classes are open on this explorer already; try again when one has ended")
            self._open[room.code] = room
        return room

    def close(self, leader: str | None) -> None:
        """End the class that a session leads, and those whose leaders have gone."""
        with self._lock:
            for code, room in list(self._open.items()):
                if room.leader == leader or not self._alive(room.leader):
                    del self._open[code]

    def find(self, code: str) -> Classroom | None:
        """Return the class with this code, or None if it has ended."""
        self.close(None)
        with self._lock:
            return self._open.get(code)

    def led_by(self, leader: str) -> Classroom | None:
        """Return the class that a session leads."""
        with self._lock:
            return next((room for room in self._open.values() if room.leader == leader), None)
