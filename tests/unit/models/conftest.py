"""A sound model, to be damaged by tests."""

import shutil
from pathlib import Path

import fakes
import pytest


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_model(tmp_path_factory.mktemp("models") / "sound")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound model."""
    return shutil.copytree(sound, tmp_path / "model")
