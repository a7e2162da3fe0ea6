"""``cahp evaluate`` as its users meet it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from terminal import call

pytestmark = pytest.mark.usefixtures("one_thread")


def test_evaluate_with_the_mask_of_a_run_finds_the_run_s_own_figures(
    model: Path, data: Path, folder: Path, run: dict[str, Any]
) -> None:
    asked = ["evaluate", "--model", model, "--data", data, "--device", "cpu", "--mask", folder / "head_mask.json"]
    for more in ([], ["--no-cache"]):
        answer = call(*asked, *more, "--json")
        assert (answer.code, answer.err) == (0, "")
        assert answer.document["metrics"]["full"] == run["metrics"]["full"]
        assert answer.document["metrics"]["pruned"] == run["metrics"]["pruned"]
        assert answer.document["delta"]["pruned"] == run["delta"]["pruned"]
    assert "5 of 12 heads" in call(*asked).out
