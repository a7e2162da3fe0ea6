"""What is said of a job that waits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cahp.ui.frame.running import describe_progress


def test_a_model_that_is_prepared_is_said_before_what_was_asked_for() -> None:
    job: Any = SimpleNamespace(place=None, stage="load", seconds_left=20.0, paused=False)
    assert describe_progress(job, "Compare heads") == "Loading and verifying the model · about 20 s left"
    job.stage = "distances"
    assert describe_progress(job, "Compare heads") == "Compare heads · about 20 s left"
    job.paused = True
    assert describe_progress(job, "Compare heads").startswith("Compare heads: paused while other work")
    waiting: Any = SimpleNamespace(place=3, stage="")
    assert describe_progress(waiting) == "Waiting: number 3 in line"
