"""The benchmark: what it times, and what it says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import benchmark
import fakes
from benchmark import words

from cahp.run.settings import Settings


def test_a_ratio_is_a_median_with_the_lowest_and_the_highest_and_a_limit_that_is_missed_is_said() -> None:
    results: dict[str, Any] = {
        **dict.fromkeys(("model", "texts", "threads", "rounds", "device", "load", "peak_memory")),
        "seconds": dict.fromkeys(("forward", "signatures", "selection"), 1.0),
        "ratios": {"signatures": benchmark.find_ratio([1.4, 1.5, 3.4], [1.0, 1.0, 2.0])},
        "kept": False,
    }
    (said,) = (line for line in words(results) if "signatures" in line)
    assert said.endswith("1.50 [1.40, 1.70] x a forward pass (at most 1.05 x, missed)")


def test_each_contestant_runs_once_a_round_and_once_to_warm_up(tmp_path: Path) -> None:
    place, data = fakes.save_model(tmp_path / "tiny"), fakes.write_data(tmp_path / "data")
    seen: list[tuple[str, int, int]] = []
    results = benchmark.measure(
        Settings(model=str(place), data=str(data), device="cpu"),
        limit=32,
        rounds=1,
        progress=lambda name, done, total: seen.append((name, done, total)),
    )
    assert (results["texts"], results["rounds"]) == (32, 1)
    assert seen == [("bench", done, 6) for done in range(7)]
    assert results["ratios"]["selection"].value == results["seconds"]["selection"] / results["seconds"]["forward"]
