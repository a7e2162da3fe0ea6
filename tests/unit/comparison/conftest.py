"""A tiny model, its texts, and methods that only comparisons of tests know."""

from pathlib import Path

import pytest
from command_fixtures import data, model
from fake_methods import METHODS, Counted

from cahp.methods.shared import registry
from cahp.run.settings import Settings
from cahp.store import Store

__all__ = ["data", "model"]


@pytest.fixture(scope="session")
def settings(model: Path, data: Path) -> Settings:
    return Settings(str(model), str(data), limit=60, eval_limit=30, pool_size=8, projection="pca", device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in METHODS:
        monkeypatch.setitem(registry._methods, made.name, made)
    Counted.asked.clear()
