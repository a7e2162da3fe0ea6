"""``cahp bench`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import call

from cahp.studies import benchmark

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bench_prints_ratios_and_says_whether_the_heads_agree(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["bench", "--model", model, "--data", data, "--limit", 32, "--rounds", 1, "--device", "cpu", "--quiet"]
    answer = call(*asked, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert set(answer.document["ratios"]) == {"signatures_to_forward", "naive_to_selection"}
    assert all(ratio > 0 for ratio in answer.document["ratios"].values())
    assert answer.document["texts"] == 32
    for agree, said in ((True, "the same heads"), (False, "different heads")):
        monkeypatch.setattr(benchmark, "measure", lambda *_, **__: {**answer.document, "same_heads": agree})  # noqa: B023
        assert f"both keep {said}" in call(*asked).out.splitlines()[-1]
