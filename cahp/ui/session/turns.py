"""Whose turn it is: sessions take turns, and each one's own work keeps its order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """Something that waits: ``id`` grows with the order of coming."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def session_id(self) -> str:
        """Whose it is."""


W = TypeVar("W", bound=Waiting)

#: Sessions whose last turn is remembered, also while nothing of theirs waits: who had one lately comes after others.
_REMEMBERED = 1000


class Turns(Generic[W]):
    """A line for each session. The next is the first in the line of whoever has waited longest for a turn."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[W]] = {}
        self._served: OrderedDict[str, None] = OrderedDict()

    def __iter__(self) -> Iterator[W]:
        for line in self._lines.values():
            yield from line

    def add(self, one: W) -> None:
        """Let it wait behind what else its session has here."""
        self._lines.setdefault(one.session_id, deque()).append(one)

    def begin_anew(self) -> None:
        """Forget who had a turn before: where nobody waits, nobody is owed one."""
        self._served.clear()

    def put_back(self, one: W) -> None:
        """Let it go on first when it is its session's turn again."""
        self._lines.setdefault(one.session_id, deque()).appendleft(one)

    def remove(self, one: W) -> None:
        """Take it out, if it is here."""
        line = self._lines.get(one.session_id, deque())
        if one in line:
            line.remove(one)
        if not line:
            self._lines.pop(one.session_id, None)

    def take(self, *, busy: Collection[str] = ()) -> W | None:
        """Take out whose turn it is (None: nothing waits); sessions that are ``busy`` do not take theirs now."""
        session = _next({name: line[0].id for name, line in self._lines.items() if name not in busy}, self._served)
        if session is None:
            return None
        _serve(session, self._served)
        one = self._lines[session][0]
        self.remove(one)
        return one

    def order(self) -> list[W]:
        """All that wait, in the order in which they are taken if nothing comes or goes and nobody is busy."""
        lines, served = {name: deque(line) for name, line in self._lines.items()}, self._served.copy()
        found: list[W] = []
        while (session := _next({name: line[0].id for name, line in lines.items() if line}, served)) is not None:
            _serve(session, served)
            found.append(lines[session].popleft())
        return found


def _next(firsts: dict[str, int], served: OrderedDict[str, None]) -> str | None:
    """Whose turn it is among sessions and the numbers of what each of them has first in line."""
    # Who was never served goes first, in the order of coming; then those whose turn is longest ago.
    turns = {session: turn for turn, session in enumerate(served, start=1)}
    return min(firsts, key=lambda session: (turns.get(session, 0), firsts[session]), default=None)


def _serve(session: str, served: OrderedDict[str, None]) -> None:
    served[session] = None
    served.move_to_end(session)
    if len(served) > _REMEMBERED:
        served.popitem(last=False)
