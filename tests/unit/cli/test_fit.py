"""``cahp fit`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest
from terminal import call

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_fitted_classifier_is_pruned_like_any_other(data: Path, tmp_path: Path) -> None:
    encoder = fakes.save_encoder(tmp_path / "encoder")
    asked = ["fit", "--model", encoder, "--data", data, "--out", tmp_path / "mine", "--epochs", 1, "--device", "cpu"]
    answer = call(*asked, "--quiet")
    assert (answer.code, answer.err) == (0, "")
    assert f"cahp prune --model {tmp_path / 'mine'} --data {data}" in answer.out
    quick = ["--pool-size", 8, "--latency-time", "0.05s"]
    run = call("prune", "--model", tmp_path / "mine", "--data", data, *quick, "--budget", 4, "--json").document
    assert (run["budget"]["attained"], run["data"]["classes"]) == (4, ["bad", "good"])
