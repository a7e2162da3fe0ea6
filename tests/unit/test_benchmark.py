"""The benchmark: what it times, and what it says of it."""

from pathlib import Path
from typing import Any

import benchmark
import fakes
import pytest
from benchmark import words


def test_a_ratio_is_a_median_with_the_lowest_and_the_highest_and_a_limit_that_is_missed_is_said() -> None:
    results: dict[str, Any] = {
        **dict.fromkeys(("model", "texts", "threads", "rounds", "device", "load", "peak_memory")),
        "seconds": dict.fromkeys(("forward", "signatures", "selection"), 1.0),
        "ratios": {"signatures": benchmark.find_ratio([1.4, 1.5, 3.4], [1.0, 1.0, 2.0])},
        "kept": False,
    }
    (said,) = (line for line in words(results) if "signatures" in line)
    assert said.endswith("1.50 [1.40, 1.70] x a forward pass (at most 1.05 x, missed)")


def test_signatures_and_selection_are_timed_against_a_forward_pass(tmp_path: Path) -> None:
    asked = fakes.quick_task(tmp_path)
    results = benchmark.measure(asked, limit=32, rounds=1)
    assert (results["texts"], results["rounds"]) == (32, 1)
    assert results["ratios"]["selection"].value == results["seconds"]["selection"] / results["seconds"]["forward"]


@pytest.mark.nightly
def test_a_whole_run_is_timed_against_its_own_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, data = fakes.save_model(tmp_path / "tiny"), fakes.write_data(tmp_path / "data")
    monkeypatch.setattr(benchmark, "RUN_TEXTS", (48, 24))
    lines = list(benchmark.measure_run(place, data=str(data), rounds=1))
    assert "48 texts to choose on, 24 to evaluate on" in lines[0]
    assert lines[2].endswith("x a forward pass")
