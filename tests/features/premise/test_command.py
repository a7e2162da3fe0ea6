"""``cahp premise`` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import fakes
import pytest
from terminal import call, refused

import cahp
from cahp.features.premise import measuring as premise
from cahp.features.premise import removing, use_case

pytestmark = pytest.mark.usefixtures("one_thread", "few_draws")


@pytest.fixture
def words(model: Path, data: Path) -> list[object]:
    few = ["--limit", 40, "--eval-limit", 20, "--budget", 6, "--pairs", 12]
    return ["premise", "--model", model, "--data", data, "--device", "cpu", *few]


def test_premise_prints_costs_a_verdict_and_its_document(
    words: list[object], model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = call(*words, "--json")
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    assert (document["schema"], document["texts"], document["heads"]) == ("cahp.premise/1", 20, 12)
    assert sum(document["pairs"].values()) == 12
    interaction = document["interaction"]
    assert {kind: interaction[kind]["n"] for kind in ("within", "between")} == document["pairs"]
    assert 0 < interaction["difference"]["p"] <= 1
    assert document["verdict"] in premise.VERDICTS
    monkeypatch.setattr(removing, "calls_without", lambda *_: pytest.fail("measured again"))
    lines = call(*words).out.splitlines()
    assert lines[0].endswith("clusters, n = 20 texts of validation")
    assert f"verdict: {premise.describe_verdict(document)}" in "\n".join(lines)
    asked = {"limit": 40, "eval_limit": 20, "budget": 6, "pairs": 12, "device": "cpu"}
    again = cahp.premise(model, data, **asked)
    assert again["interaction"]["difference"]["p"] == interaction["difference"]["p"]


def test_the_document_is_written_with_the_values_of_all_pairs(words: list[object], tmp_path: Path) -> None:
    assert call(*words, "--out", tmp_path / "new" / "premise.json").code == 0
    written = json.loads((tmp_path / "new" / "premise.json").read_text("utf-8"))
    assert {len(values) for values in written["values"]["pairs"].values()} == {12}
    assert {len(values) for values in written["values"]["heads"].values()} == {12}


def test_a_file_that_is_not_ours_is_refused_before_anything_is_measured(
    words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_case, "premise", lambda *_, **__: pytest.fail("measured"))
    notes = tmp_path / "notes.json"
    notes.write_text("{}")
    assert "would overwrite" in refused(call(*words, "--out", notes))
    assert "is a folder; name a file" in refused(call(*words, "--out", tmp_path))


def test_one_pair_is_refused(words: list[object]) -> None:
    assert "--pairs" in refused(call(*words, "--pairs", 1))


def test_text_without_labels_is_tested_too(words: list[object], tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("\n\n".join(fakes.sentences(160, seed=3).first), encoding="utf-8")
    answer = call(*words, "--data", notes)
    assert answer.code == 0, answer.err
    assert "verdict:" in answer.out
    assert "accuracy" not in answer.out
