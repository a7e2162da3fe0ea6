"""The benchmark: what it times, and what it says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import benchmark
import fakes
import pytest
from benchmark import words

from cahp.run.settings import Settings


def test_the_table_says_where_and_under_which_load_and_which_limits_are_not_kept() -> None:
    results: dict[str, Any] = {
        "model": "minilm-bbc",
        "texts": 640,
        "threads": 2,
        "rounds": 3,
        "seconds": dict.fromkeys(("forward", "signatures", "selection"), 1.0),
        "ratios": {
            "signatures": benchmark.find_ratio([1.0, 1.0], [1.0, 1.0]),
            "selection": benchmark.find_ratio([1.4, 1.5, 3.4], [1.0, 1.0, 2.0]),
        },
        "kept": True,
        "peak_memory": 1_500_000_000,
        "device": "Somebody's processor, 2 cores",
        "load": 0.25,
    }
    lines = list(words(results))
    assert "on Somebody's processor, 2 cores; load 0.25 before" in lines
    assert any(line.endswith("1.00 [1.00, 1.00] x a forward pass (at most 1.05 x)") for line in lines)
    assert any(line.endswith("1.50 [1.40, 1.70] x a forward pass") for line in lines)
    assert any(line.endswith("1.5 GB") for line in lines)
    assert "peak" not in "".join(words({**results, "peak_memory": None}))
    assert any(line.endswith("(at most 1.05 x, missed)") for line in words({**results, "kept": False}))


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


@pytest.mark.nightly
def test_a_whole_run_is_timed_against_its_own_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, data = fakes.save_model(tmp_path / "tiny"), fakes.write_data(tmp_path / "data")
    monkeypatch.setattr(benchmark, "RUN_TEXTS", (48, 24))
    lines = list(benchmark.measure_run(place, data=str(data), rounds=1))
    assert "48 texts to choose on, 24 to evaluate on" in lines[0]
    assert lines[2].endswith("x a forward pass")
