from __future__ import annotations

import threading
from typing import Any

from cahp.notebook.widget import Background
from cahp.values import Progress

PATIENCE = 30


def test_it_says_how_far_it_is_and_that_it_is_done() -> None:
    told: list[dict[str, Any]] = []
    background = Background(told.append)
    background.start(lambda progress: progress("evaluation", 1, 2))
    assert background.wait(PATIENCE)
    assert [(doing["done"], doing["total"]) for doing in told] == [(0, 1), (1, 2), (0, 0)]
    assert [bool(doing["stage"]) for doing in told] == [True, True, False]


def test_what_is_stopped_ends_at_its_next_step_and_is_no_failure() -> None:
    told: list[dict[str, Any]] = []
    begun, steps = threading.Event(), []

    def work(progress: Progress) -> None:
        for step in range(10**9):
            progress("evaluation", step, 10**9)
            steps.append(step)
            begun.set()

    background = Background(told.append)
    background.start(work)
    assert begun.wait(PATIENCE)
    background.stop()
    assert background.wait(PATIENCE)
    assert not any(told[-1].values())
    assert len(steps) < 10**9


def test_a_new_request_stops_the_one_before() -> None:
    told: list[dict[str, Any]] = []
    begun, done = threading.Event(), []

    def endless(progress: Progress) -> None:
        while True:
            progress("evaluation", 0, 1)
            begun.set()

    background = Background(told.append)
    background.start(endless)
    assert begun.wait(PATIENCE)
    background.start(lambda _: done.append(True))
    assert background.wait(PATIENCE)
    assert done == [True]
    # One end is told: that of what was asked for last.
    assert sum(not doing["stage"] for doing in told) == 1
