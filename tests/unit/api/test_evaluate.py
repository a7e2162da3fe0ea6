"""Evaluate and time under a mask: each on a tiny model, held against what any other tool makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from terminal import call, refused

import cahp
from cahp.api.evaluate import evaluate
from cahp.exports.masks import MaskOrigin, mask_json
from cahp.files import json_text
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import HeadMask, MaskError

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


def test_a_mask_of_a_model_with_another_name_is_used_with_a_notice(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    foreign = write_mask(tmp_path / "mask.json", MASK, made_for="another")
    notice = f"the mask was made for another and is used on {Path(settings.model).name}"
    assert notice in evaluate(settings, mask=foreign, store=store)["notices"]


def test_a_mask_of_another_model_is_refused_unless_it_is_forced_whatever_its_name(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    name = Path(settings.model).name
    document = json.loads(mask_json(MASK, MaskOrigin(name, "by hand", None, model_sha256="0" * 64)))
    path = tmp_path / "mask.json"
    path.write_text(json_text(document))
    for measure in (evaluate, cahp.latency, cahp.abilities):
        with pytest.raises(MaskError, match="is another model; name its own, or use it anyway with --force"):
            measure(settings, mask=path, store=store)
    forced = evaluate(settings, mask=path, force=True, store=store)
    assert f"the mask was made for {name} and is used on {name}" in forced["notices"]


def test_a_mask_is_used_on_the_model_of_its_run_unless_another_is_named(
    model: Path, data: Path, store: Store, tmp_path: Path
) -> None:
    run = cahp.prune(
        fakes.quick(model, data, limit=30, eval_limit=20, budget="6", latency=False), store=store, progress=False
    )
    run.save(tmp_path / "run")
    mask = tmp_path / "run" / "head_mask.json"
    options = {"mask": mask, "eval_limit": 20, "store": store}
    found = evaluate(data=str(data), **options)  # type: ignore[arg-type]
    assert (found["model"], found["kept"]["heads"]) == (model.name, 6)
    line = ["evaluate", "--mask", str(mask), "--data", str(data), "--limit", "20"]
    assert call(*line, "--json").document["model"] == model.name
    assert "6 x 12" in refused(call(*line, "--model", "minilm-bbc"))
