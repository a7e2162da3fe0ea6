"""``cahp bench`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import call

from cahp.studies import performance

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bench_prints_ratios_and_a_table_and_says_whether_the_heads_agree(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["bench", "--model", model, "--data", data, "--limit", 32, "--rounds", 1, "--device", "cpu", "--quiet"]
    answer = call(*asked, "--json")
    assert (answer.code, answer.err) == (0, "")
    found = answer.document
    assert set(found["ratios"]) == {"signatures_to_forward", "naive_to_selection"}
    assert all(ratio > 0 for ratio in found["ratios"].values())
    assert found["texts"] == 32
    assert found["kept"].keys() == found["ratios"].keys() == performance.LIMITS.keys()
    assert found["peak_memory"] > 0
    for agree, said in ((True, "the same heads"), (False, "different heads")):
        monkeypatch.setattr(performance, "measure", lambda *_, **__: {**found, "same_heads": agree})  # noqa: B023
        assert f"both keep {said}" in call(*asked).out.splitlines()[-1]
