"""What is said of a job that waits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cahp.ui.frame.running import describe_progress
from cahp.ui.session.jobs import Place


def test_a_model_that_is_prepared_is_said_before_what_was_asked_for() -> None:
    job: Any = SimpleNamespace(place=None, stage="load", announced_left=20.0, paused=False)
    assert describe_progress(job, "Compare heads") == "Loading and verifying the model · about 20 s left"
    job.stage = "distances"
    assert describe_progress(job, "Compare heads") == "Compare heads · about 20 s left"
    job.paused = True
    assert describe_progress(job, "Compare heads").startswith("Compare heads: paused while other work")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Place(1, None, passable=False), "next in line"),
        (Place(1, 0.4, passable=False), "next in line"),
        (Place(3, 20.2, passable=False), "number 3 in line, starts in about 20 s"),
        (Place(12, 600.0, passable=False), "number 12 in line, starts in about 10 min"),
    ],
)
def test_a_place_in_the_queue_is_said_with_the_time_where_that_is_known(place: Place, said: str) -> None:
    job: Any = SimpleNamespace(place=place)
    assert describe_progress(job) == f"Waiting: {said}"
    assert describe_progress(job, "Timing") == f"Timing: {said}"
