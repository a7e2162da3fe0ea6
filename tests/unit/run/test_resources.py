"""The seconds of a stage count, however it ends."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from cahp.cards import ModelCard
from cahp.run.resources import Resources
from cahp.store import Store
from cahp.values import Cancelled


def test_the_seconds_of_an_interrupted_stage_are_kept(tmp_path: Path) -> None:
    times = iter([10.0, 13.0, 20.0, 21.0])
    resources = Resources(cast(ModelCard, None), store=Store(tmp_path), clock=lambda: next(times))
    with pytest.raises(Cancelled), resources.timed("recovery"):
        raise Cancelled
    with resources.timed("recovery"):
        pass
    assert resources.timings == {"recovery": 4.0}
