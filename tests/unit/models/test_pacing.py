"""How many batches of a training fit in the time that it has, found out on a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from cahp.models.pacing import Pacing, TimeIsUp, until


@dataclass
class Ended:
    """Batches that were done and the last plan, the scores, and the seconds that it all took."""

    batches: int
    plans: list[int]
    scores: int
    seconds: float


def training(
    allowed: float, *, each: Callable[[int], float], scoring: float, epoch: int = 20, epochs: int = 3, known: float = 0
) -> Ended:
    """A training whose ``step``-th batch takes ``each(step)`` seconds a token, of which batches have 90 to 10."""
    now = 0.0
    tokens = [int(count) for count in np.linspace(90, 10, epoch)]
    pacing = Pacing(epochs * epoch, epoch=epoch, size=50, left=lambda: allowed - now, scoring=known)
    plans, step, scores = [pacing.total], 0, 0
    while not pacing.over(step):
        pacing.begin()
        for count in tokens:
            now += each(step) * count
            step += 1
            pacing.batch(step, count)
            plans.append(pacing.total)
            if pacing.over(step):
                break
        now += scoring
        scores += 1
        pacing.scored()
    return Ended(step, plans, scores, now)


def test_with_time_for_all_batches_there_are_all() -> None:
    # 60 batches of 50 tokens on average, and three scores.
    ended = training(3600, each=lambda _: 1.0, scoring=10, known=10)
    assert (ended.batches, set(ended.plans), ended.scores) == (60, {60}, 3)


@pytest.mark.parametrize("allowed", [700, 1100, 1900, 2700])
@pytest.mark.parametrize("scoring", [0.0, 40.0])
def test_a_plan_is_shortened_early_to_what_fits_and_the_time_is_kept(allowed: float, scoring: float) -> None:
    ended = training(allowed, each=lambda _: 1.0, scoring=scoring, known=scoring)
    assert ended.batches < 60
    # Long batches come first, and tell what short ones take: the first plan is close to the last.
    assert ended.plans[4] < 60
    assert abs(ended.plans[4] - ended.batches) <= 6
    assert 0.75 * allowed - 90 < ended.seconds <= allowed


def test_a_machine_that_becomes_slower_or_faster_changes_the_plan() -> None:
    slower = training(2000, each=lambda step: 1.0 if step < 10 else 3.0, scoring=10, known=10)
    assert slower.batches < slower.plans[5]
    assert slower.seconds <= 2000
    faster = training(2700, each=lambda step: 3.0 if step < 8 else 0.5, scoring=10, known=10)
    assert faster.plans[5] < 30 < 40 < faster.batches
    assert faster.seconds <= 2700


def test_scores_that_take_longer_than_they_did_are_reckoned_with() -> None:
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
