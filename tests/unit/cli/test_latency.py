"""``cahp latency`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import call

pytestmark = pytest.mark.usefixtures("one_thread")


def test_latency_says_what_a_run_says(model: Path, folder: Path) -> None:
    asked = ["latency", "--model", model, "--mask", folder / "head_mask.json", "--repeats", 5, "--device", "cpu"]
    answer = call(*asked, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["kept"] == {"heads": 5, "of": 12}
    assert answer.document["cost"]["pruned"]["latency_ms"]["repeats"] == 5
    assert "pruned / full" in call(*asked).out


def test_latency_takes_no_longer_than_it_may(model: Path, folder: Path) -> None:
    asked = ["latency", "--model", model, "--mask", folder / "head_mask.json", "--device", "cpu", "--json"]
    found = call(*asked, "--latency-time", "0.2s").document
    repeats = found["cost"]["full"]["latency_ms"]["repeats"]
    assert 3 <= repeats < 1000
    assert found["latency_ratio"]["ci95"][0] <= found["latency_ratio"]["ci95"][1]
    refused = call(*asked, "--latency-time", "soon")
    assert (refused.code, refused.out) == (2, "")
    assert "--latency-time: invalid duration" in refused.err
