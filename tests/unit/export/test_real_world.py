from __future__ import annotations

import math

import pytest
from documents import run_json

from cahp.export.real_world import Assumptions, RealWorld, Use
from cahp.run.document import RunDocument
from cahp.values import OptionError


def found(**changes: object) -> RealWorld | None:
    return RealWorld.of(RunDocument.from_json(run_json() | changes), Assumptions(50, 0.4))


def test_an_hour_of_batches_and_a_million_texts() -> None:
    # Ten texts a second are 36,000 an hour; a million take 27.8 hours, at 50 W 1.39 kWh.
    use = Use.of(800, 8, Assumptions(50, 0.4))
    assert use.texts == pytest.approx(36_000)
    assert use.kwh == pytest.approx(1.3889, abs=1e-4)
    assert use.money == pytest.approx(0.5556, abs=1e-4)


def test_the_pruned_model_s_use_has_the_interval_of_the_ratio() -> None:
    world = found()
    assert world is not None
    assert world.pruned.kwh / world.full.kwh == pytest.approx(0.82)
    assert (world.low.kwh / world.full.kwh, world.high.kwh / world.full.kwh) == pytest.approx((0.8, 0.85))
    assert world.low.texts > world.pruned.texts > world.high.texts > world.full.texts


def test_nothing_is_made_of_a_time_that_may_not_have_changed_or_was_not_measured() -> None:
    assert found(latency_ratio={"median": 0.99, "ci95": [0.97, 1.0]}) is None
    assert found(latency_ratio=None) is None


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_an_assumption_is_a_positive_number(value: float) -> None:
    for assumed in ({"watts": value}, {"price": value}):
        with pytest.raises(OptionError, match="positive"):
            Assumptions(**assumed)
