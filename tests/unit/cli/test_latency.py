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
