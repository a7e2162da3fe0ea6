"""``cahp recover`` as its users meet it."""

from pathlib import Path

import pytest
from terminal import call


@pytest.fixture
def asked(model: Path, data: Path, folder: Path) -> list[object]:
    return ["recover", "--model", model, "--data", data, "--mask", folder / "head_mask.json", "--device", "cpu"]


def test_a_recovered_model_is_written_and_reported(asked: list[object], tmp_path: Path) -> None:
    answer = call(*asked, "--out", tmp_path / "new")
    assert answer.code == 0
    # As much of refit and distillation as two minutes allow.
    assert "  The refit was " in answer.out
    assert "  The distillation was " in answer.out
    assert (tmp_path / "new" / "model.safetensors").is_file()
    answer = call(*asked, "--out", tmp_path / "new", "--json")
    assert answer.document["kept"] == {"heads": 5, "of": 12}


@pytest.mark.parametrize("recover", ["finetune", "distill"])
def test_a_training_tells_epochs_on_stderr_and_in_the_result(asked: list[object], recover: str, tmp_path: Path) -> None:
    words = [*asked, "--recover", recover, "--epochs", 2, "--batch", 16, "--learning-rate", 0.001]
    answer = call(*words, "--out", tmp_path / "a")
    assert answer.code == 0
    assert [line.split()[:3:2] for line in answer.err.splitlines()] == [["epoch", "loss"], ["epoch", "loss"]]
    # The same epochs stand below the table.
    said = answer.out.splitlines()
    at = next(place for place, line in enumerate(said) if line.split()[:2] == ["epoch", "loss"])
    losses = [line.split()[3].strip(",") for line in answer.err.splitlines()]
    assert [line.split()[1] for line in said[at + 1 : at + 3]] == losses
    again = call(*words, "--out", tmp_path / "b")
    assert (again.code, again.err) == (0, "")
    assert again.out.replace("/b", "/a") == answer.out
