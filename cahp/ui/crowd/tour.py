"""A tour of the explorer by many people at once: home, the budget board, a budget of one's own, Compare, and back."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cahp.ui.crowd.truth import Truth, Verdict
from cahp.ui.crowd.visitor import VisitError, Visitor

#: Sentences about what went wrong that are passed on.
_SAID = 5

#: Told after each part of the tour: how many there are, and how many are done.
Progress = Callable[[int, int], None]


class _Party:
    """The people of a tour, in step with each other: everybody asks at the same moment."""

    def __init__(self, visitors: Sequence[Visitor]) -> None:
        self._there = dict(enumerate(visitors))
        self.seconds: dict[str, dict[str, float]] = {}
        self.seen: Counter[Verdict] = Counter()
        self.failed: list[str] = []

    async def do(self, what: str, act: Callable[[int, Visitor], Awaitable[object]]) -> None:
        """Everybody does something at once; one who fails is left behind, since they are not where the others are."""

        async def timed(place: int, visitor: Visitor) -> float | VisitError:
            start = perf_counter()
            try:
                await act(place, visitor)
            except VisitError as error:
                del self._there[place]
                return error
            return perf_counter() - start

        start = perf_counter()
        took = await asyncio.gather(*(timed(place, visitor) for place, visitor in self._there.items()))
        whole = perf_counter() - start
        times = sorted(one for one in took if isinstance(one, float))
        self.failed += [f"{what}: {one}" for one in took if isinstance(one, VisitError)]
        if times:
            self.seconds[what] = {"p50": _share(times, 0.5), "p95": _share(times, 0.95), "all": whole}

    def look(self, tell: Callable[[int, Visitor], Verdict]) -> None:
        """Look at what everybody is shown."""
        for place, visitor in self._there.items():
            try:
                self.seen[tell(place, visitor)] += 1
            except (VisitError, KeyError, TypeError, ValueError) as error:
                self.failed.append(f"what is shown cannot be read: {type(error).__name__}: {error}")


def _share(times: Sequence[float], share: float) -> float:
    """The time within which a share of all was done."""
    return times[max(0, -(-len(times) * int(100 * share) // 100) - 1)]


async def tour(url: str, *, sessions: int, progress: Progress = lambda done, of: None) -> dict[str, Any]:
    """Send so many people through the explorer at ``url``; what they waited for, and what they saw.

    Each asks for another budget; what each is shown must be the bundled figures of that budget.

    Raises:
        VisitError: If nobody gets in.
    """
    cookies, truth = admitted(url), Truth.bundled()
    visitors = [Visitor(url, cookies=cookies) for _ in range(sessions)]
    # Not in the order of the budgets, so that neighbours in time are no neighbours in figures.
    budgets, heads = sorted(truth.boards), sorted(truth.headings)
    asked = [budgets[place * 29 % len(budgets)] for place in range(sessions)]
    compared = [heads[place % len(heads)] for place in range(sessions)] if heads else []
    party, parts = _Party(visitors), 5
    auto: list[int] = []

    def shown(key: str) -> Callable[[int, Visitor], Verdict]:
        return lambda place, visitor: truth.board(visitor.data(key)["current"], asked[place], asked)

    def heading(place: int, visitor: Visitor) -> Verdict:
        # As it is written, words are kept from being markup by backslashes.
        said = " ".join(one.proto.body for one in visitor.elements("heading")).replace("\\", "")
        return truth.compared(said, compared[place], compared)

    def first(place: int, visitor: Visitor) -> Verdict:
        current = visitor.data("home-board")["current"]
        # The budget that the curve suggests is the same for all.
        auto.append(current["budget"])
        return truth.board(current, auto[0], asked)

    try:
        await party.do("home", lambda _, visitor: _come(visitor))
        party.look(first)
        progress(1, parts)
        await party.do("budget", lambda _, visitor: visitor.open("Budget"))
        party.look(lambda _, visitor: truth.board(visitor.data("board")["current"], auto[0], asked))
        progress(2, parts)
        await party.do(
            "move", lambda place, visitor: visitor.trigger("board", "event", {"kind": "budget", "budget": asked[place]})
        )
        party.look(shown("board"))
        progress(3, parts)
        if compared:
            await party.do("compare", lambda place, visitor: visitor.open("Compare", at=str(compared[place])))
            party.look(heading)
        progress(4, parts)
        await party.do("home again", lambda _, visitor: visitor.open(""))
        party.look(shown("home-board"))
        progress(5, parts)
    finally:
        await asyncio.gather(*(visitor.leave() for visitor in visitors))
    return {
        "sessions": sessions,
        "seconds": party.seconds,
        "seen": {
            "right": party.seen["right"],
            "wrong": party.seen["wrong"],
            "another": party.seen["another's"],
            "failed": len(party.failed),
        },
        "said": party.failed[:_SAID],
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


async def _come(visitor: Visitor) -> None:
    await visitor.come()
    await visitor.open("")


class _Stay(HTTPRedirectHandler):
    """Follows no redirection: the cookie comes with it."""

    def redirect_request(self, *_: Any) -> None:
        """None: stay."""
        return None


def admitted(url: str) -> dict[str, str]:
    """The cookies that the explorer gives to whoever opens this address, with its token if it has one.

    Raises:
        VisitError: If there is no explorer, or it does not let anybody in.
    """
    place = url.partition("?")[0]
    if urlsplit(url).scheme not in ("http", "https"):
        raise VisitError(f"{place!r} is no address of an explorer; give the one that `cahp explore` printed")
    try:
        with _open(url) as answer:
            if answer.status not in (200, 303):
                raise VisitError(f"{place} answers with {answer.status}; give the address that `cahp explore` printed")
            given = [said.partition(";")[0].partition("=") for said in answer.headers.get_all("Set-Cookie") or []]
    except (URLError, OSError, ValueError) as error:
        raise VisitError(f"nobody answers at {place} ({error}); start the explorer there first") from None
    return {name: value for name, _, value in given}


def _open(url: str) -> Any:
    try:
        return build_opener(_Stay).open(Request(url), timeout=30)  # noqa: S310 - an address of the loopback that this process made
    except HTTPError as answer:
        # What is no success is an answer all the same.
        return answer
