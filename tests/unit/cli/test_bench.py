"""``cahp bench`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import call

from cahp.api import performance

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bench_prints_ratios_and_a_table(model: Path, data: Path) -> None:
    options = ["--model", model, "--data", data, "--limit", 32, "--rounds", 1, "--device", "cpu", "--quiet"]
    answer = call("bench", *options, "--json")
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    assert document["ratios"].keys() == {"signatures", "selection"}
    assert document["kept"] == (document["ratios"]["signatures"] <= performance.LIMIT)
    assert all(ratio > 0 for ratio in document["ratios"].values())
    assert document["texts"] == 32
    assert document["peak_memory"] > 0
    assert list(performance.words(document))[2].startswith("  forward pass")
