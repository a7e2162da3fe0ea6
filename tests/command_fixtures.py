"""One tiny model, its data, and what a run of them with a budget and a refit wrote, for all commands."""

import json
from pathlib import Path
from typing import Any

import fakes
import pytest
from terminal import call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of 3 layers with 4 heads each."""
    return fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_data(tmp_path_factory.mktemp("data") / "reviews")


@pytest.fixture(scope="session")
def words(model: Path, data: Path) -> list[object]:
    """A run that takes a second, and, found again, a tenth of one."""
    quick = ["--pool-size", 8, "--projection", "pca", "--device", "cpu", "--latency-time", "0.05s"]
    return ["prune", "--model", model, "--data", data, *quick]


@pytest.fixture(scope="session")
def folder(words: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``--out`` of a run with a budget and a refit holds."""
    out = tmp_path_factory.mktemp("runs") / "out"
    answer = call(*words, "--budget", 5, "--recover", "refit", "--out", out)
    assert (answer.code, answer.err) == (0, "")
    return out


@pytest.fixture(scope="session")
def run(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found
