from __future__ import annotations

from dataclasses import replace

import pytest

from cahp.features.learn import stage
from cahp.features.learn.steps import Answer, Step
from cahp.values import HeadMask

STEP = Step("one-head", HeadMask.full(2, 3), highest=300, question="How many?", unit="answers")


@pytest.mark.parametrize(("guess", "words"), [(19, "2.9 points too high"), (16, "right"), (10, "6.1 points too low")])
def test_a_guess_stands_beside_what_was_measured_and_per_cents_differ_by_points(guess: int, words: str) -> None:
    answer = Answer(16.1, (15.9, 17.0), "", "Amdahl.", {}, "time")
    assert stage.describe_distance(replace(STEP, unit="per cent"), guess, answer) == words
