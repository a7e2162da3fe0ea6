from __future__ import annotations

from dataclasses import replace

import pytest

from cahp.features.learn import classroom, stage
from cahp.features.learn.lessons import Answer, Step
from cahp.values import HeadMask

STEP = Step("one-head", "Remove it", "Remove this head", "We do.", HeadMask.full(2, 3), "How many?", "answers", 300)


@pytest.mark.parametrize(("measured", "interval", "top"), [(0.0, None, 300), (9.0, (5.0, 17.0), 300), (310, None, 310)])
def test_guess_and_truth_are_on_the_range_of_the_slider(
    measured: float, interval: tuple[float, float] | None, top: float
) -> None:
    answer = Answer(measured, interval, "", "", "", n=300)
    low, high = stage.guess_figure(STEP, answer, 0, dark=False).layout.xaxis.range
    assert low < 0 < top < high < 1.1 * top


def test_a_guess_stands_beside_what_was_measured_with_its_interval_and_per_cents_differ_by_points() -> None:
    step = replace(STEP, title="Half of the time?", unit="per cent")
    answer = Answer(16.1, (15.9, 17.0), "", "16 % saved.", "Amdahl.", n=15)
    assert classroom.tabulate([(step, 19, answer)]) == {
        "Step": ["Half of the time?"],
        "Your guess": ["19 per cent"],
        "Measured": ["16.1 per cent (15.9 to 17.0)"],
        "You were": ["2.9 points too high"],
    }
