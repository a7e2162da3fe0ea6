"""``cahp compare`` as its users meet it: what it prints, where, with which exit code, and what it leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import call, refused

from cahp.comparison import Comparison
from cahp.store import Store


@pytest.fixture(scope="module")
def words(model: Path, data: Path) -> list[object]:
    given = ["compare", "--model", model, "--data", data, "--limit", 60, "--eval-limit", 30, "--device", "cpu"]
    return [*given, "--methods", "complementary,random", "--budgets", "4,6", "--seeds", 2, "--recover", "refit"]


def test_a_comparison_prints_its_tables_and_writes_its_files(words: list[object], tmp_path: Path) -> None:
    answer = call(*words, "--draws", 4, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    found = Comparison.read(tmp_path / "out")
    mean = next(one for one in found.summary.means if one.method == "random" and one.recovery == "refit")
    assert mean.outcomes["accuracy"].text in answer.out
    assert "after refit, n = 30" in answer.out
    assert all(f"{finding.claim}: {finding.status}." in answer.out for finding in found.claims)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"compare.json", "comparison.csv", "compare.npz"}
    # Two seeds and budgets of the one, and four draws at each budget of the other.
    assert len(found.document.cells) == 4 + 8
    assert str(found.document.command).startswith("cahp compare --model")
    assert "cells to measure" in answer.err
    assert "100 % done" in answer.err


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--methods", "nobody"], "there is no method 'nobody'"), (["--cluster", "slurm"], "--cluster slurm is unknown")],
)
def test_what_makes_no_sense_is_one_sentence_and_exit_2(
    words: list[object], tmp_path: Path, more: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An empty store: what is measured already needs no cluster.
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    assert said in refused(call(*words, *more, "--out", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.nightly
def test_ctrl_c_ends_with_130_and_what_was_measured_is_found_again(
    words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    asked = [*map(str, words), "--jobs", "2", "--out", str(tmp_path / "out")]
    command, environment = [sys.executable, "-m", "cahp", *asked], {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        # Once a tenth is done.
        while "10 % done" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; no incomplete file was left" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    assert any(Store().folder.iterdir())
    assert "were measured before" in call(*asked).err
