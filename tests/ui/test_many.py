"""Many people come and go: what they had is given back."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil")
pytest.importorskip("streamlit")

import psutil

from cahp.ui.crowd.visitor import Visitor

#: Streamlit keeps so many sessions for a while after they went; what comes beyond them replaces them.
KEPT = 128


async def visit(url: str, pages: tuple[str, ...]) -> None:
    visitor = Visitor(url, cookies={})
    await visitor.come()
    try:
        for page in pages:
            await visitor.open(page)
            if page == "Budget":
                await visitor.trigger("board", "event", {"kind": "budget", "budget": 20})
    finally:
        await visitor.leave()


async def come_and_go(url: str, pages: tuple[str, ...], people: int) -> None:
    """So many people one after another, four at a time."""
    free = asyncio.Semaphore(4)

    async def person() -> None:
        async with free:
            await visit(url, pages)

    await asyncio.gather(*(person() for _ in range(people)))


def _waited_for(work: Coroutine[Any, Any, None]) -> None:
    """Run it in a thread of its own: a browser's tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@pytest.mark.skipif(sys.platform == "win32", reason="memory is counted otherwise there")
@pytest.mark.parametrize(
    ("pages", "first", "then", "settles"),
    [
        pytest.param(("",), KEPT + 10, 60, 0.0, id="home"),
        pytest.param(
            ("", "Similarity", "Budget", "Compare", "Stability", "Export", "Learn"),
            2 * KEPT,
            600,
            60.0,
            id="all pages",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_memory_is_flat_while_people_come_and_go(
    start_explorer: Callable[[Path], AbstractContextManager[str]],
    tmp_path: Path,
    pages: tuple[str, ...],
    first: int,
    then: int,
    settles: float,
) -> None:
    with start_explorer(tmp_path) as url:
        port = url.rpartition(":")[2]
        (server,) = (
            one for one in psutil.Process().children(recursive=True) if f"--server.port={port}" in one.cmdline()
        )
        _waited_for(come_and_go(url, pages, first))
        time.sleep(settles)
        before = server.memory_info().rss
        _waited_for(come_and_go(url, pages, then))
        time.sleep(settles)
        after = server.memory_info().rss
    assert after - before < 10e6, f"{then} people left {(after - before) / 1e6:.0f} MB behind"
