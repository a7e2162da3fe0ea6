from __future__ import annotations

from collections.abc import Callable

import pytest

from cahp.ui.session import time_left
from cahp.ui.session.time_left import TimedWork

Wait = Callable[[float], None]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    now = [100.0]
    monkeypatch.setattr(time_left, "monotonic", lambda: now[0])

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


def begin(expected: float | None = None) -> TimedWork:
    work = TimedWork(expected)
    work.begin()
    return work


def test_before_it_begins_work_takes_what_was_expected() -> None:
    work = TimedWork(45.0)
    assert (work.seconds_left, work.share, work.announced_left) == (45, 0, None)


def test_a_stage_tells_its_own_pace_where_nothing_was_expected(wait: Wait) -> None:
    work = begin()
    assert (work.seconds_left, work.share) == (None, 0)
    work.report("table", 2, 12)
    wait(10)
    work.report("table", 7, 12)
    assert work.seconds_left == pytest.approx(10)
    assert work.share == pytest.approx(7 / 12)


def test_work_takes_what_was_expected_or_what_its_stage_shows(wait: Wait) -> None:
    work = begin(60)
    work.report("pairs", 0, 10)
    wait(20)
    assert work.seconds_left == pytest.approx(40)
    work.report("pairs", 2, 10)
    assert work.seconds_left == pytest.approx(80)


def test_other_work_in_between_counts_nowhere(wait: Wait) -> None:
    work = begin(60)
    work.report("signatures", 0, 10)
    wait(5)
    work.report("signatures", 5, 10)
    before = work.seconds_left, work.spent
    wait(60)
    work.skip(60)
    assert (work.seconds_left, work.spent) == pytest.approx(before)


def test_the_share_of_expected_work_never_falls_and_never_says_that_all_is_done(wait: Wait) -> None:
    work = begin(20)
    work.report("signatures", 0, 10)
    wait(10)
    half = work.share
    assert half == pytest.approx(0.5)
    work.report("signatures", 1, 10)
    assert work.share == half
    work.report("signatures", 10, 10)
    wait(60)
    assert work.share == pytest.approx(0.95)
