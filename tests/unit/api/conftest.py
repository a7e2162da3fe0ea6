"""One tiny model, its data, a mask and a run for all use cases, and the answers of transformers alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from command_fixtures import data, model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import cahp
from cahp.exports.masks import MaskOrigin, mask_json
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import HeadMask

__all__ = ["data", "model"]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="session")
def settings(model: Path, data: Path) -> Settings:
    return Settings(model=str(model), data=str(data), device="cpu", latency_time="0.05s")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads 0 and 3 of every layer stay."""
    keep = np.tile(np.array([True, False, False, True]), (3, 1))
    path = tmp_path_factory.mktemp("mask") / "head_mask.json"
    path.write_bytes(mask_json(HeadMask(keep), MaskOrigin("tiny", "by hand", None, None)))
    return path


@pytest.fixture(scope="session")
def plain_accuracy() -> Callable[[Path, Path], float]:
    """What transformers alone makes of a saved classifier, one text at a time."""

    def answer(folder: Path, data: Path) -> float:
        network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
        right = 0
        for row in rows:
            with torch.no_grad():
                logits = network(**tokenizer(row["text"], return_tensors="pt")).logits
            right += network.config.id2label[int(logits.argmax())] == row["label"]
        return right / len(rows)

    return answer


@pytest.fixture(scope="session")
def asked(model: Path, data: Path) -> dict[str, Any]:
    """The options of a run that takes a second, by keyword."""
    return {"model": model, "data": data, "pool_size": 8, "projection": "pca", "latency": False, "device": "cpu"}


@pytest.fixture(scope="session")
def run(asked: dict[str, Any], store: Store) -> cahp.PruneResult:
    return cahp.prune(**asked, budget=5, recover="refit", store=store)
