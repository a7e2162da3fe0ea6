"""What a mask costs and saves in words."""

import pytest
from documents import run_json

from cahp.board.budget_sweep import Speed
from cahp.board.contents import BoardSubject, describe_headline, list_clauses
from cahp.run.document import RunDocument
from cahp.values import Estimate, HeadMask

MASK = HeadMask.of([0, 2, 4], 2, 3)
FULL = HeadMask.full(2, 3)


def share(value: float) -> Estimate:
    return Estimate(value, (value, value), 100, "share")


def points(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, (low, high), 18, "points")


@pytest.mark.parametrize(
    ("agreement", "words"),
    [
        (0.995, "3 of 6 heads do all the work"),
        (0.9949, "3 of 6 heads do almost all the work"),
        (0.95, "3 of 6 heads do almost all the work"),
        (0.9, "3 of 6 heads do most of the work"),
        (0.8999, "3 of 6 heads are too few"),
    ],
)
def test_the_headline_follows_from_the_agreement(agreement: float, words: str) -> None:
    assert describe_headline(MASK, "head", {"agreement": share(agreement)}) == words


def test_clauses_name_what_is_lost_and_then_what_is_saved() -> None:
    faster = Speed(Estimate(0.73, (0.72, 0.74), 30, "ratio"), 60.0, 44.0)
    outcomes = {"accuracy_change": points(-2.3, -4.2, -0.6), "agreement": share(0.97)}
    clauses = list_clauses(MASK, outcomes, answers="answers", size=0.872, speed=faster)
    assert clauses == ["2.3 points less accurate", "27 % faster", "13 % smaller"]
    # Without labels, the agreement stands for the accuracy; a cache is counted.
    unlabelled = {"agreement": share(0.736)}
    clauses = list_clauses(MASK, unlabelled, answers="next words", cache=Estimate(0.8, None, 0, "ratio"))
    assert clauses == ["20 % less memory per token", "74 % of next words unchanged"]
    assert list_clauses(FULL, outcomes, answers="answers", size=1.0) == []


def test_clauses_claim_no_change_that_an_interval_does_not_show() -> None:
    same = Speed(Estimate(0.97, (0.9, 1.02), 30, "ratio"), 60.0, 58.0)
    busy = Speed(Estimate(0.5, (0.4, 0.6), 30, "ratio"), 60.0, 30.0, busy=True)
    calm = {"accuracy_change": points(-0.4, -1.0, 0.2)}
    for speed in (None, same, busy):
        clauses = list_clauses(MASK, calm, answers="answers", speed=speed)
        assert clauses == ["accuracy too close to call with 18 texts"]
    better = {"accuracy_change": points(1.5, 0.5, 2.5)}
    assert list_clauses(MASK, better, answers="answers") == ["1.5 points more accurate"]


def test_weights_leave_with_each_head_that_is_removed() -> None:
    run = run_json()
    run["cost"]["full"]["parameters"] = 1000
    run["cost"]["pruned"]["parameters"] = 850
    # The run keeps three of six heads.
    subject = BoardSubject.of(RunDocument.from_json(run))
    assert subject.size(HeadMask.of([0], 2, 3)) == pytest.approx(0.75)
    assert subject.size(FULL) == 1
