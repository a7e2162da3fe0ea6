"""One tiny model, its data, and a run of them that all tests look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import pytest

import cahp
from cahp.store import Store

LAYERS, HEADS = 3, 4


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of a second is asked, by keyword."""
    return {
        "model": fakes.save_model(tmp_path_factory.mktemp("models") / "tiny"),
        "data": fakes.write_data(tmp_path_factory.mktemp("data") / "reviews"),
        "pool_size": 8,
        "projection": "pca",
        "latency": False,
        "device": "cpu",
    }


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def run(asked: dict[str, Any], store: Store) -> cahp.PruneResult:
    return cahp.prune(**asked, budget=5, recover="refit", store=store)


@pytest.fixture(scope="session")
def model(asked: dict[str, Any]) -> Path:
    path: Path = asked["model"]
    return path
