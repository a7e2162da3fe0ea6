"""Many people at once: how long each of them waits, whether each sees their own figures, and memory over time.

Run by ``pytest -m nightly tests/load -s``, which prints a table of the waiting times.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

pytest.importorskip("psutil")
pytest.importorskip("streamlit")

import psutil
from load.visitor import Visitor
from serving import explorer

from cahp.api import bundled
from cahp.board import Shown, contents
from cahp.recoveries import RECOVERIES
from cahp.ui.session.results import Results

pytestmark = [pytest.mark.nightly, pytest.mark.skipif(bundled.read_run() is None, reason="no bundled run")]

#: People who use the explorer at the same moment: a class. Budgets repeat after 67.
PEOPLE = int(os.environ.get("CAHP_TEST_PEOPLE", "50"))
#: Streamlit keeps so many sessions for a while after their tab was closed; later ones replace them.
KEPT = 128
#: So many seconds after the first people came, it has prepared what they may ask for.
PREPARED = 30.0
#: After so many seconds it drops the session of a closed tab.
FORGOTTEN = 125.0


#: Fields of a board that say how a mask came about, words, and what follows from the mask.
_ASIDE = ("origin", "note", "covers", "title", "value", "size")


def figures(current: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the mask that a board shows."""
    return {name: value for name, value in current.items() if name not in _ASIDE}


def boards() -> dict[int, dict[str, Any]]:
    """The figures of the bundled run at each budget, after the refit with which it opens."""
    shipped = bundled.read_run()
    results = Results(shipped.document, shipped.arrays, bundle=shipped)
    clusters, table = results.clusters(bundled.SETTINGS), results.table(bundled.SETTINGS, "refit")
    expected = {}
    for selection in table.selections:
        mask = selection.mask
        refitted, pruned = results.outcomes(mask, "refit"), results.outcomes(mask)
        beside = None
        # No head is gone from the full model.
        if pruned is not None and not mask.is_full:
            beside = (RECOVERIES["none"].beside, pruned)
        shown = Shown(mask, "budget", refitted, results.speed(mask), rescued=selection.rescued, beside=beside)
        labels, _ = clusters.groups(mask.count)
        expected[mask.count] = figures(contents(table, clusters, shown, labels=labels)["current"])
    return expected


def run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run it in a thread of its own: browser tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def test_everybody_sees_the_figures_of_their_own_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = boards()
    assert len({board["kept"] for board in expected.values()}) == len(expected)
    # With all heads there is nothing to refit. Neighbours in time are no neighbours in figures.
    budgets = sorted(expected)[:-1]
    own = [budgets[person * 29 % len(budgets)] for person in range(PEOPLE)]
    compared = bundled.read_comparisons()[0][0].comparison.results.budgets
    at = [compared[person % len(compared)] for person in range(PEOPLE)]
    lines = [f"{PEOPLE} people at once, {os.cpu_count()} cores", f"{'':<20}{'p50':>8}{'p95':>8}"]

    async def together(name: str, act: Callable[[int, Visitor], Awaitable[None]], visitors: list[Visitor]) -> None:
        async def timed(person: int, visitor: Visitor) -> float:
            start = time.perf_counter()
            await act(person, visitor)
            return time.perf_counter() - start

        seconds = await asyncio.gather(*(timed(person, visitor) for person, visitor in enumerate(visitors)))
        cuts = quantiles(seconds, n=20)
        lines.append(f"{name:<20}{cuts[9]:>6.2f} s{cuts[18]:>6.2f} s")

    def check(visitors: list[Visitor], key: str) -> None:
        for person, visitor in enumerate(visitors):
            assert figures(visitor.data(key)["current"]) == expected[own[person]], f"person {person}"

    async def tour(url: str) -> None:
        async def come(_: int, visitor: Visitor) -> None:
            await visitor.connect()
            await visitor.open("")

        visitors = [Visitor(url) for _ in range(PEOPLE)]
        try:
            await together("Home", come, visitors)
            await together("Budget", lambda _, visitor: visitor.open("Budget"), visitors)
            await together(
                "a measured budget",
                lambda person, visitor: visitor.trigger("board", "event", {"kind": "budget", "budget": own[person]}),
                visitors,
            )
            check(visitors, "board")
            await together("Compare", lambda person, visitor: visitor.open("Compare", f"at={at[person]}"), visitors)
            for heads, visitor in zip(at, visitors, strict=True):
                assert re.findall(r"At (\d+) heads", visitor.headings()) == [str(heads)]
            await together("Home again", lambda _, visitor: visitor.open(""), visitors)
            check(visitors, "home-board")
        finally:
            await asyncio.gather(*(visitor.close() for visitor in visitors))

    with explorer(tmp_path) as url:
        run_apart(tour(url))
    with capsys.disabled():
        print("\n" + "\n".join(lines))


async def come_and_go(url: str, pages: tuple[str, ...], people: int) -> None:
    """So many people one after another, four at a time."""
    free = asyncio.Semaphore(4)

    async def person() -> None:
        async with free:
            visitor = Visitor(url)
            await visitor.connect()
            try:
                for page in pages:
                    await visitor.open(page)
                    if page == "Budget":
                        await visitor.trigger("board", "event", {"kind": "budget", "budget": 20})
            finally:
                await visitor.close()

    await asyncio.gather(*(person() for _ in range(people)))


#: Run by Python in the server as it starts: on a signal it writes how many objects there are.
_COUNTER = """
import gc, pathlib, signal

def count(*_):
    gc.collect()
    pathlib.Path(__file__).with_name("objects").write_text(str(len(gc.get_objects())))

signal.signal(signal.SIGUSR1, count)
"""


def count_objects(server: psutil.Process, folder: Path) -> int:
    """How many objects the server holds that may refer to others."""
    file = folder / "objects"
    file.write_text("")
    server.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 60
    while not file.read_text():
        assert time.monotonic() < deadline, "the server did not count its objects"
        time.sleep(0.5)
    return int(file.read_text())


@pytest.mark.skipif(sys.platform == "win32", reason="memory is counted differently there")
@pytest.mark.parametrize(
    ("pages", "first", "then", "pause"),
    [
        pytest.param(("",), KEPT + 10, 60, PREPARED, id="home"),
        pytest.param(
            ("", "Similarity", "Budget", "Compare", "Stability", "Export", "Learn", "Guide"),
            KEPT,
            600,
            FORGOTTEN,
            id="all pages",
            marks=pytest.mark.timeout(3600),
        ),
    ],
)
def test_memory_is_flat_while_people_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: tuple[str, ...], first: int, then: int, pause: float
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_COUNTER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with explorer(tmp_path) as url:
        port = url.rpartition(":")[2]
        (server,) = (
            child for child in psutil.Process().children(recursive=True) if f"--server.port={port}" in child.cmdline()
        )

        def measure(people: int) -> tuple[int, int]:
            run_apart(come_and_go(url, pages, people))
            time.sleep(pause)
            # Sessions that are too old are dropped when another one comes.
            run_apart(come_and_go(url, ("",), 1))
            return count_objects(server, tmp_path), server.memory_info().rss

        # The first people make it load its model, the next ones take what that left of the memory.
        measure(first)
        objects, memory = measure(first)
        objects_after, memory_after = measure(then)
    # Threads begin and end meanwhile. A session that stays has thousands of objects, and megabytes.
    assert objects_after - objects < then
    # What is freed does not all go back to the system: idle servers differ by so much from one reading to the next.
    assert memory_after - memory < 60e6, f"{then} people left {(memory_after - memory) / 1e6:.0f} MB behind"
