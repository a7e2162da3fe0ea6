from __future__ import annotations

from cahp.features.learn import teaching
from cahp.features.learn.lessons import Answer, Step


def test_a_guess_stands_beside_what_was_measured_with_its_interval_and_per_cents_differ_by_points() -> None:
    step = Step("time", "Half of the time?", "We cut.", "How much?", "per cent", 50, "", {})
    answer = Answer(16.1, (15.9, 17.0), "16 % saved.", "Amdahl.", n=15)
    assert teaching.tabulate([(step, 19, answer)]) == {
        "Step": ["Half of the time?"],
        "Your guess": ["19 per cent"],
        "Measured": ["16.1 per cent (15.9 to 17.0)"],
        "You were": ["2.9 points too high"],
    }
