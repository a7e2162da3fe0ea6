"""How many batches of a training fit into its time, on a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from cahp.models.training import Schedule, TimeBudget, TimeIsUp, until


@dataclass
class Ended:
    """A finished training: its batches, their learning rates, its scores, and the seconds that it took."""

    batches: int
    rates: list[float]
    totals: list[int]
    scores: int
    seconds: float


def training(
    allowed: float, *, each: Callable[[int], float], scoring: float, epoch: int = 20, epochs: int = 3, known: float = 0
) -> Ended:
    """A training whose ``step``-th batch takes ``each(step)`` seconds a token, of which batches have 90 to 10."""
    now = 0.0
    budget = TimeBudget(epochs * epoch, left=lambda: allowed - now, scoring=known)
    schedule, rates, totals, step, scores = Schedule(), [], [], 0, 0
    while not budget.over(step):
        budget.begin()
        for tokens in np.linspace(90, 10, epoch):
            now += each(step) * float(tokens)
            step += 1
            budget.batch()
            rates.append(schedule.rate(budget.behind(step), budget.batches))
            totals.append(budget.total(step))
            if budget.over(step):
                break
        now += scoring
        scores += 1
        budget.scored()
    return Ended(step, rates, totals, scores, now)


def test_with_time_for_all_batches_there_are_all_at_the_usual_rates() -> None:
    # 60 batches of 50 tokens on average, and three scores.
    ended = training(36_000, each=lambda _: 1.0, scoring=10, known=10)
    assert (ended.batches, set(ended.totals), ended.scores) == (60, {60}, 3)
    assert ended.rates == [Schedule().rate(step, 60) for step in range(1, 61)]


def test_without_a_limit_the_steps_alone_decide() -> None:
    budget = TimeBudget(60)
    assert [budget.behind(step) for step in (0, 7, 60)] == [0, 7, 60]
    assert [budget.over(step) for step in (0, 59, 60)] == [False, False, True]


@pytest.mark.parametrize("allowed", [700, 1100, 1900, 2700])
@pytest.mark.parametrize("scoring", [0.0, 40.0])
def test_a_training_ends_in_time_with_the_rate_all_but_fallen(allowed: float, scoring: float) -> None:
    ended = training(allowed, each=lambda _: 1.0, scoring=scoring, known=scoring)
    assert ended.batches < 60
    assert 0.75 * allowed - 90 < ended.seconds <= allowed
    assert ended.rates[-1] < 0.15
    # The estimate tends to what there is.
    assert abs(ended.totals[len(ended.totals) // 2] - ended.batches) <= 8


def test_a_machine_that_becomes_slower_or_faster_still_ends_in_time() -> None:
    slower = training(2000, each=lambda step: 1.0 if step < 10 else 3.0, scoring=10, known=10)
    assert slower.batches < slower.totals[5]
    assert slower.seconds <= 2000
    faster = training(2700, each=lambda step: 3.0 if step < 8 else 0.5, scoring=10, known=10)
    assert faster.totals[5] < faster.batches
    assert faster.seconds <= 2700


def test_a_score_that_takes_longer_than_the_last_is_planned_for() -> None:
    ended = training(2000, each=lambda _: 1.0, scoring=300, known=0)
    # The first score was not expected; for the second there is room.
    assert ended.scores == 2
    assert ended.seconds <= 2000


def test_no_time_means_no_batch() -> None:
    assert training(0, each=lambda _: 1.0, scoring=0).batches == 0
    assert training(30, each=lambda _: 1.0, scoring=40, known=40).batches == 0


def test_work_ends_when_its_time_is_up() -> None:
    seen: list[int] = []
    left = iter([2.0, 1.0, 0.0])
    guarded = until(lambda stage, done, total: seen.append(done), lambda: next(left))
    guarded("teacher", 0, 3)
    guarded("teacher", 1, 3)
    with pytest.raises(TimeIsUp):
        guarded("teacher", 2, 3)
    assert seen == [0, 1, 2]
