import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from terminal import call, refused

from cahp.api import bundled
from cahp.board import budget_sweep
from cahp.comparison import Comparison
from cahp.store import Store


def test_a_run_s_folder_becomes_one_file(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    said = call("report", bundled.run_folder(), "--out", out, "--json").document
    document = bundled.read_run().document  # type: ignore[union-attr]
    assert said == {"file": str(out), "bytes": out.stat().st_size, "answers": True, "measured": 67, "budgets": 67}
    text = out.read_text(encoding="utf-8")
    assert document.outcomes["pruned"]["accuracy"].text in text
    assert text.count("<script") == 2


def test_a_sweep_measures_every_budget_and_the_report_answers_at_all_of_them_as_evaluate_does(
    words: list[object], model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Timing takes a process of its own, and is tested where it is done.
    monkeypatch.setattr(budget_sweep, "TIMED", 0)
    assert call(*words, "--budget", 5, "--recover", "refit", "--sweep", "--out", tmp_path).code == 0
    said = call("report", tmp_path, "--json").document
    assert (said["measured"], said["budgets"]) == (10, 10)
    assert said["file"] == str(tmp_path / "report.html")
    (found,) = re.findall(r'class="board-data">(.*?)</script>', Path(said["file"]).read_text(encoding="utf-8"))
    board = json.loads(found)
    run_json = json.loads((tmp_path / "run.json").read_text())
    assert board["rows"][5 - 3]["values"]["accuracy"][0] == run_json["metrics"]["recovered"]["accuracy"]
    full = call("evaluate", "--model", model, "--data", data, "--json").document
    assert board["rows"][-1]["values"]["accuracy"][0] == full["metrics"]["full"]["accuracy"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nowhere-at-all"], "no run in nowhere-at-all"),
        (["report", "n" * 300], "no run in nnn"),
        (["prune", "--sweep"], "with --out"),
        (["prune", "--sweep", "--out", "x", "--method", "random"], "and not of random"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in refused(call(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_static_report_runs_no_script_and_replaces_what_is_none_only_by_force(tmp_path: Path) -> None:
    asked = ["report", bundled.run_folder(), "--static", "--out", tmp_path / "thesis.html"]
    (tmp_path / "thesis.html").write_text("mine")
    assert "--force" in refused(call(*asked))
    assert (tmp_path / "thesis.html").read_text() == "mine"
    assert call(*asked, "--force").code == 0
    # What is a report is replaced by the next.
    assert "without a board" in call(*asked).out
    written = (tmp_path / "thesis.html").read_text(encoding="utf-8")
    assert "<script" not in written


@pytest.mark.nightly
def test_on_text_without_labels_no_command_speaks_of_accuracy(model: Path, tmp_path: Path) -> None:
    notes, run, compact = tmp_path / "notes.txt", tmp_path / "run", tmp_path / "compact"
    notes.write_text("\n\n".join(fakes.sentences(160, seed=3).first))
    mine = ["--model", model, "--data", notes, "--device", "cpu"]
    quick = ["--pool-size", 8, "--projection", "pca", "--latency-time", "0.05s", "--budget", 5]
    masked = [*mine, "--mask", run / "head_mask.json"]
    distilled = ["--recover", "distill", "--epochs", 1, "--quiet", "--out", tmp_path / "recovered"]
    data = call("data", notes).out
    pruned = call("prune", *mine, *quick, "--recover", "refit", "--sweep", "--out", run).out
    others = [
        call("evaluate", *masked).out,
        call("recover", *masked, *distilled).out,
        call("export", *masked, "--recover", "refit", "--out", compact).out,
    ]
    assert call("report", run, "--static").code == 0
    assert "no labels" in data
    assert all("KL divergence" in said and "Agreement" in said for said in (pruned, *others))
    written = [path.read_text(encoding="utf-8") for path in (run / "report.html", compact / "README.md")]
    spoken = "".join((data, pruned, *others, *written)).lower()
    assert not re.findall("accuracy|macro-f1|cross-entropy|calibration error", spoken)
    outcomes = json.loads((run / "table.json").read_text())["rows"]["outcomes"]
    assert [set(one) for one in outcomes.values()] == [{"kl", "agreement"}] * 10


@pytest.fixture(scope="module")
def comparing(model: Path, data: Path) -> list[object]:
    given = ["compare", "--model", model, "--data", data, "--limit", 60, "--eval-limit", 30, "--device", "cpu"]
    return [*given, "--methods", "complementary,random", "--budgets", "4,6", "--seeds", 2, "--recover", "refit"]


def test_a_comparison_prints_its_tables_and_writes_its_files(comparing: list[object], tmp_path: Path) -> None:
    assert call(*comparing, "--draws", 4, "--estimate").out.startswith("12 of 12 cells to measure: about ")
    answer = call(*comparing, "--draws", 4, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    found = Comparison.read(tmp_path / "out")
    mean = next(one for one in found.summary.means if one.method == "random" and one.recovery == "refit")
    assert mean.outcomes["accuracy"].text in answer.out
    assert "after refit, n = 30" in answer.out
    assert all(f"{finding.claim}: {finding.status}." in answer.out for finding in found.claims)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.json", "comparison.csv", "compare.npz"}
    # Two seeds and budgets of the one, and four draws at each budget of the other.
    assert len(found.document.cells) == 4 + 8
    assert str(found.document.command).startswith("cahp compare --model")
    assert all(words in answer.err for words in ("cells to measure", "100 % done"))


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--methods", "nobody"], "there is no method 'nobody'"), (["--cluster", "slurm"], "--cluster slurm is unknown")],
)
def test_what_makes_no_sense_is_one_sentence_and_exit_2(
    comparing: list[object], tmp_path: Path, more: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An empty store: what is measured already needs no cluster.
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    assert said in refused(call(*comparing, *more, "--out", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.nightly
def test_ctrl_c_leaves_the_measured(comparing: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    asked = [*map(str, comparing), "--jobs", "2", "--out", str(tmp_path / "out")]
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
    left, _, cells = call(*asked).err.partition(" cells to measure")[0].split()
    assert int(left) < int(cells)
