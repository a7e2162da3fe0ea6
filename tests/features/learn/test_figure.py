from __future__ import annotations

import numpy as np
import pytest

from cahp.features.learn import figure as figures
from cahp.features.learn import teaching
from cahp.features.learn.lessons import Answer, Step
from cahp.values import HeadMask

STEP = Step("one-head", "Switch off one head", "We do.", "How many?", "answers", 300, "", {})


@pytest.mark.parametrize(("measured", "interval", "top"), [(0.0, None, 300), (9.0, (5.0, 17.0), 300), (310, None, 310)])
def test_guess_and_truth_are_on_the_range_of_the_slider(
    measured: float, interval: tuple[float, float] | None, top: float
) -> None:
    answer = Answer(measured, interval, "", "", n=300)
    low, high = figures.guess_figure(STEP, answer, 0, dark=False).layout.xaxis.range
    assert low < 0 < top < high < 1.1 * top


def test_heads_that_are_switched_off_are_light_and_many_layers_lie_on_their_side() -> None:
    square = figures.switched_figure(HeadMask.of([0, 1, 2, 5], 2, 3), dark=False)
    on, off = square.data
    assert (list(on.x), list(on.y)) == ([0, 1, 2, 2], [0, 0, 0, 1])
    assert (list(off.x), list(off.y)) == ([0, 1], [1, 1])
    assert set(on.marker.color).isdisjoint(off.marker.color)
    assert list(off.hovertext or off.text or off.customdata) == ["layer 1, head 0: off", "layer 1, head 1: off"]
    (on, _) = figures.switched_figure(HeadMask(np.eye(9, 3, dtype=np.bool_)), dark=False).data
    assert (list(on.x), list(on.y)) == ([0, 1, 2], [0, 1, 2])
    assert figures.switched_figure(HeadMask.full(9, 3), dark=False).layout.xaxis.title.text.startswith("layer")


def test_a_guess_stands_beside_what_was_measured_with_its_interval_and_per_cents_differ_by_points() -> None:
    step = Step("time", "Half of the time?", "We cut.", "How much?", "per cent", 50, "", {})
    answer = Answer(16.1, (15.9, 17.0), "16 % saved.", "Amdahl.", n=15)
    assert teaching.tabulate([(step, 19, answer)]) == {
        "Step": ["Half of the time?"],
        "Your guess": ["19 per cent"],
        "Measured": ["16.1 per cent (15.9 to 17.0)"],
        "You were": ["2.9 points too high"],
    }
