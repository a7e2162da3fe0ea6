"""``cahp recover`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import call

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_recovered_model_is_written_and_said_to_be(model: Path, data: Path, folder: Path, tmp_path: Path) -> None:
    asked = [
        "recover",
        "--model",
        model,
        "--data",
        data,
        "--mask",
        folder / "head_mask.json",
        "--out",
        tmp_path / "new",
    ]
    answer = call(*asked, "--device", "cpu")
    assert (answer.code, answer.err) == (0, "")
    assert "AutoModelForSequenceClassification" in answer.out
    assert "refit" in answer.out
    assert (tmp_path / "new" / "model.safetensors").is_file()
    answer = call(*asked, "--device", "cpu", "--json")
    assert answer.document["kept"] == {"heads": 5, "of": 12}


def test_fine_tuning_tells_each_epoch_on_stderr_and_its_figures_beside_the_refit_s(
    model: Path, data: Path, folder: Path, tmp_path: Path
) -> None:
    words = ["recover", "--model", model, "--data", data, "--mask", folder / "head_mask.json", "--device", "cpu"]
    words += ["--recover", "finetune", "--epochs", 2, "--batch", 16, "--learning-rate", 0.001]
    answer = call(*words, "--out", tmp_path / "a")
    assert answer.code == 0
    assert [line.split()[:3:2] for line in answer.err.splitlines()] == [["epoch", "loss"], ["epoch", "loss"]]
    # The same lines stand below the table.
    assert answer.err in answer.out
    title = next(line for line in answer.out.splitlines() if "n = 40" in line)
    assert title.split()[-4:] == ["full", "pruned", "recovered", "refitted"]
    again = call(*words, "--out", tmp_path / "b")
    assert (again.code, again.err) == (0, "")
    assert again.out.replace("/b", "/a") == answer.out
