"""The table of stages."""

from __future__ import annotations

import pytest

from cahp.exports import checkpoints
from cahp.features.stability import measuring as stability
from cahp.methods.shared import gates, scored
from cahp.run.document import Timings
from cahp.run.resources import STAGES
from cahp.stages import latency, recovery, signatures, similarity


@pytest.mark.parametrize("module", [checkpoints, gates, latency, recovery, scored, signatures, similarity, stability])
def test_what_reports_progress_under_a_name_of_its_own_is_in_the_table(module: object) -> None:
    assert getattr(module, "STAGE") in set(STAGES)  # noqa: B009


def test_seconds_go_where_the_run_s_file_has_them() -> None:
    timings = Timings.of({"signatures": 3.0, "projection": 0.5, "load": 9.0}, 4.0)
    assert (timings.signatures_s, timings.projection_s, timings.total_s) == (3.0, 0.5, 4.0)
    assert timings.salience_s is None
