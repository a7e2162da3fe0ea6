"""``cahp bench`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import call, refused

from cahp.studies import performance

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bench_prints_ratios_and_a_table_and_says_whether_the_heads_agree(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    into = tmp_path / "README.md"
    into.write_text("before <!-- bench -->old<!-- /bench --> after\n", encoding="utf-8")
    for agree, said in ((True, "the same heads"), (False, "different heads")):
        monkeypatch.setattr(performance, "measure", lambda *_, **__: {**found, "same_heads": agree})  # noqa: B023
        lines = call(*asked, "--into", into).out.splitlines()
        assert f"both keep {said}" in lines[-1]
        written = into.read_text(encoding="utf-8")
        assert "\n".join(lines) in written
        assert (written[:7], written[-7:], "old" in written) == ("before ", " after\n", False)


def test_a_file_without_marks_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performance, "measure", lambda *_, **__: pytest.fail("measured"))
    (tmp_path / "notes.md").write_text("nothing", encoding="utf-8")
    assert "has no marks <!-- bench -->" in refused(call("bench", "--into", tmp_path / "notes.md"))
    assert "cannot be read" in refused(call("bench", "--into", tmp_path / "none.md"))
