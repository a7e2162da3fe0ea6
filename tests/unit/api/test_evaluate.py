"""Evaluate and time under a mask: each on a tiny model, held against what any other tool makes of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cahp.api.evaluate import evaluate
from cahp.exports.masks import MaskOrigin, mask_json
from cahp.files import json_text
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = 3
#: Heads 0 and 3 of every layer.
MASK = HeadMask(np.tile(np.array([True, False, False, True]), (LAYERS, 1)))


def write_mask(path: Path, mask: HeadMask, *, made_for: str = "tiny") -> Path:
    document = json.loads(mask_json(mask, MaskOrigin(made_for, "by hand", None, None)))
    path.write_text(json_text(document))
    return path


def test_without_a_mask_the_full_model_alone_is_measured(
    settings: Settings, model: Path, data: Path, store: Store, plain_accuracy: Callable[[Path, Path], float]
) -> None:
    found = evaluate(settings, store=store)
    assert found["kept"] is None
    assert found["metrics"]["pruned"] is found["metrics"]["recovered"] is None
    assert found["metrics"]["full"]["accuracy"] == plain_accuracy(model, data)
    assert (found["data"]["split"], found["data"]["examples"]) == ("validation", 40)


def test_the_test_split_is_counted_when_it_is_opened(settings: Settings, tmp_path: Path) -> None:
    store, test = Store(tmp_path), replace(settings, eval_split="test")
    assert evaluate(settings, store=store)["test_opened"] == 0
    assert [evaluate(test, store=store)["test_opened"] for _ in range(2)] == [1, 2]
    assert evaluate(settings, store=store)["test_opened"] == 2


def test_a_mask_of_another_model_of_this_shape_is_used_with_a_warning(
    settings: Settings, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = write_mask(tmp_path / "mask.json", MASK, made_for="another")
    with caplog.at_level(logging.WARNING):
        evaluate(settings, mask=foreign, store=store)
    assert "another" in caplog.text
