from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cahp.ui.compare.own import MEASURE
from cahp.ui.frame.running import describe_job
from cahp.ui.session import jobs
from cahp.ui.session.jobs import Job, Rank
from cahp.values import Progress


@pytest.fixture
def job() -> Job[Any]:
    def work(progress: Progress) -> Iterator[None]:
        progress("refit", 2, 10)
        yield

    return Job(jobs._worker, "somebody", "refit", work, rank=Rank.LONG, title="Refit")


def test_the_line_says_what_is_in_progress_how_far_it_is_and_what_goes_before_it(job: Job[Any]) -> None:
    job.advance()
    assert describe_job(job, "smollm2") == "Refit of smollm2 · what you ask for goes first"


def test_a_comparison_of_hours_has_a_title() -> None:
    assert MEASURE.title == "Comparison"


def test_what_waits_tells_its_turn(job: Job[Any]) -> None:
    jobs._worker._waiting.append(job)
    try:
        assert describe_job(job, "smollm2") == "Refit of smollm2: next in line · what you ask for goes first"
    finally:
        jobs._worker._waiting.remove(job)
