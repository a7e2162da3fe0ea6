from __future__ import annotations

from collections.abc import Callable

import pytest

from cahp.ui.session import time_left
from cahp.ui.session.time_left import Part, TimeLeft, whole

Wait = Callable[[float], None]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    now = [100.0]
    monkeypatch.setattr(time_left, "monotonic", lambda: now[0])

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


PLAN = (Part("load", 5), Part("signatures", 10), Part("refit", 20), Part("evaluation", 5), Part("evaluation", 5))


def test_before_anything_is_known_the_plan_holds(wait: Wait) -> None:
    left = TimeLeft(PLAN)
    assert (left.seconds, left.share) == (45, 0)
    left.begin()
    wait(4)
    left.report("load", 0, 1)
    assert left.seconds == pytest.approx(41)
    assert left.share == pytest.approx(4 / 45)


def test_parts_to_come_go_at_the_pace_of_those_before_them_and_loading_says_nothing(wait: Wait) -> None:
    left = TimeLeft(PLAN)
    left.begin()
    left.report("load", 0, 1)
    wait(25)
    left.report("signatures", 0, 100)
    assert left.seconds == pytest.approx(40)
    # Twice as slow as planned, of which a tenth of the plan is believed.
    wait(10)
    left.report("signatures", 50, 100)
    pace = (10 + 4.5) / (5 + 4.5)
    assert left.seconds == pytest.approx(pace * 35)
    wait(10)
    left.report("refit", 0, 28)
    assert left.seconds == pytest.approx((20 + 4.5) / (10 + 4.5) * 30)


def test_what_is_skipped_or_comes_in_another_order_is_no_longer_waited_for(wait: Wait) -> None:
    left = TimeLeft(PLAN)
    left.begin()
    left.report("refit", 0, 10)
    assert left.seconds == pytest.approx(30)
    left.report("signatures", 1, 10)
    assert left.seconds == pytest.approx(30)


def test_a_stage_that_counts_again_is_its_next_part_or_else_still_the_same(wait: Wait) -> None:
    left = TimeLeft(PLAN)
    left.begin()
    for done, total in ((0, 1), (1, 1), (0, 30), (15, 30)):
        left.report("refit", done, total)
    assert left.seconds == pytest.approx(4.5 / 14.5 * 20)
    for done in (0, 10):
        left.report("evaluation", done, 10)
    second = left.seconds
    left.report("evaluation", 0, 10)
    assert left.seconds == pytest.approx(second)
    left.report("evaluation", 10, 10)
    assert left.seconds == 0


def test_other_work_in_between_counts_nowhere(wait: Wait) -> None:
    left = TimeLeft(PLAN)
    left.begin()
    left.report("signatures", 0, 10)
    wait(5)
    left.report("signatures", 5, 10)
    before = left.seconds, left.spent
    wait(60)
    left.skip(60)
    assert (left.seconds, left.spent) == pytest.approx(before)


def test_the_share_of_planned_work_never_falls_and_never_says_that_all_is_done(wait: Wait) -> None:
    left = TimeLeft(PLAN)
    left.begin()
    left.report("signatures", 0, 10)
    wait(1)
    left.report("signatures", 9, 10)
    quick = left.share
    wait(60)
    left.report("signatures", 9, 10)
    assert left.share >= quick > 0
    for _ in range(2):
        left.report("evaluation", 0, 10)
        left.report("evaluation", 10, 10)
    assert left.share == pytest.approx(0.95)


def test_without_a_plan_a_stage_tells_its_own_pace(wait: Wait) -> None:
    left = TimeLeft(whole(None))
    left.begin()
    assert (left.seconds, left.share) == (None, 0)
    left.report("table", 2, 12)
    wait(10)
    left.report("table", 7, 12)
    assert left.seconds == pytest.approx(10)
    assert left.share == pytest.approx(7 / 12)


def test_work_of_one_part_takes_what_was_expected_or_what_its_stage_shows(wait: Wait) -> None:
    left = TimeLeft(whole(60))
    left.begin()
    left.report("pairs", 0, 10)
    wait(20)
    assert left.seconds == pytest.approx(40)
    left.report("pairs", 2, 10)
    assert left.seconds == pytest.approx(80)


def test_a_page_may_ask_while_another_thread_goes_on_to_a_stage_that_counts_nothing(
    wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = TimeLeft(PLAN)
    left.begin()
    left.report("signatures", 5, 10)
    shares = iter([0.5])
    monkeypatch.setattr(TimeLeft, "_counted", property(lambda _: next(shares, None)))
    assert left.seconds is not None
