"""Commands on text without labels: what needs labels is absent, not zero and not a dash."""

from __future__ import annotations

import json
from pathlib import Path

import fakes
import pytest
from terminal import call

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("notes") / "notes.txt"
    path.write_text("\n\n".join(fakes.sentences(160, seed=3).first), encoding="utf-8")
    return path


@pytest.mark.nightly
def test_no_command_speaks_of_accuracy(model: Path, notes: Path, tmp_path: Path) -> None:
    mine: list[object] = ["--model", model, "--data", notes, "--device", "cpu"]
    quick: list[object] = ["--pool-size", 8, "--projection", "pca", "--latency-time", "0.05s"]
    distilled = ["--recover", "distill", "--epochs", 1, "--quiet"]
    run = tmp_path / "run"
    mask = run / "head_mask.json"
    answers = [
        call("data", notes),
        call("prune", *mine, *quick, "--budget", 5, "--recover", "refit", "--sweep", "--out", run),
        call("report", run, "--static"),
        call("evaluate", *mine, "--mask", mask),
        call("recover", *mine, "--mask", mask, *distilled, "--out", tmp_path / "recovered"),
        call("export", *mine, "--mask", mask, "--recover", "refit", "--out", tmp_path / "compact"),
    ]
    assert [answer.code for answer in answers] == [0] * len(answers)
    written = [tmp_path / "run" / "report.html", tmp_path / "compact" / "README.md"]
    for said in [*(answer.out for answer in answers), *(path.read_text(encoding="utf-8") for path in written)]:
        for word in ("accuracy", "macro-f1", "cross-entropy", "calibration error"):
            assert word not in said.lower()
    assert "no labels" in answers[0].out
    for answer in answers[1:2] + answers[3:]:
        assert "KL divergence" in answer.out
        assert "agreement" in answer.out
    table = json.loads((run / "table.json").read_text())
    assert len(table["rows"]["outcomes"]) == 10
    assert all(outcomes.keys() == {"kl", "agreement"} for outcomes in table["rows"]["outcomes"].values())
