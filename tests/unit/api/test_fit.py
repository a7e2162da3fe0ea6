"""A fitted classifier answers anywhere as reported, and training that goes wrong leaves nothing."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import fakes
import pytest
import torch
from fakes import prune
from safetensors.torch import load_file

import cahp
from cahp import models
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import CahpError, ModelError

pytestmark = pytest.mark.usefixtures("one_thread")


def fit(settings: Settings, encoder: Path, out: Path, **options: Any) -> dict[str, Any]:
    usual = {"epochs": 2, "learning_rate": 5e-3, "batch": 16, "rank": None if options.get("whole") else 4}
    return cahp.fit(encoder, settings.data, out=out, device="cpu", **{**usual, **options})


def test_a_whole_classifier_answers_anywhere_as_reported(
    settings: Settings, encoder: Path, data: Path, tmp_path: Path, plain_accuracy: Callable[[Path, Path], float]
) -> None:
    found = fit(settings, encoder, tmp_path / "mine", store=Store(tmp_path / "store"))
    assert found["test_opened"] == 1
    assert found["metrics"]["validation"]["accuracy"] == plain_accuracy(tmp_path / "mine", data)
    assert set(found["metrics"]) == {"validation", "test"}
    assert len(found["epochs"]) == 2
    card = models.identify(str(tmp_path / "mine"))
    assert card.labels == ("bad", "good")
    run = prune(fakes.quick(card.folder, data, budget="4"), store=Store(tmp_path / "store"))
    assert run.document.outcomes["full"]["accuracy"].value == found["metrics"]["validation"]["accuracy"]


def test_an_adapter_alone_is_small_and_answers_as_the_whole(settings: Settings, encoder: Path, tmp_path: Path) -> None:
    whole, part = (fit(settings, encoder, tmp_path / save, save=save, epochs=1) for save in ("model", "adapter"))
    # In half precision, so equal but for rounding.
    for split in ("validation", "test"):
        assert part["metrics"][split]["loss"] == pytest.approx(whole["metrics"][split]["loss"], abs=2e-3)
    names = sorted(path.name for path in (tmp_path / "adapter").iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", "cahp.json", "config.json"]
    with pytest.raises(ModelError, match="--save model"):
        models.identify(str(tmp_path / "adapter"))
    # Nothing of this machine goes into a file that is passed on.
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text()


def test_a_classifier_of_other_classes_gets_a_new_head(settings: Settings, tmp_path: Path) -> None:
    three = fakes.save_model(tmp_path / "three", labels=("a", "b", "c"))
    fit(settings, three, tmp_path / "two", epochs=1, limit=16)
    assert models.identify(str(tmp_path / "two")).labels == ("bad", "good")


def test_all_weights_are_trained_when_that_is_asked(settings: Settings, encoder: Path, tmp_path: Path) -> None:
    found = fit(settings, encoder, tmp_path / "whole", whole=True, epochs=1, measured=("validation",))
    assert set(found["metrics"]) == {"validation"}
    before, after = load_file(encoder / "model.safetensors"), load_file(tmp_path / "whole" / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    # Low-rank adapters leave the words as they were.
    assert not torch.equal(before[name], after[f"bert.{name}"])


def test_training_that_goes_astray_says_what_to_lower(
    settings: Settings, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("cahp.api.fit"), "check_bounds", lambda **_: None)
    with pytest.raises(CahpError, match="--learning-rate"):
        fit(settings, encoder, tmp_path / "out", learning_rate=1e6, epochs=1)


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({"data": None}, {}, "--data"),
        ({"data": "nothing"}, {}, "no data named"),
        ({"model": "nothing"}, {}, "no model named"),
        ({}, {"save": "half"}, "choose one of model, adapter"),
        ({"text_column": "body"}, {}, "--text-column"),
        ({"label_column": "(none)"}, {}, "no labels to learn from"),
        ({}, {"epochs": 0}, r"epochs=0 is out of range; it must be in 1\.\.1000"),
        ({}, {"rank": 0}, "rank=0 is out of range"),
        ({}, {"learning_rate": -1.0}, "learning_rate=-1 is out of range"),
        ({}, {"whole": True, "rank": 4}, "--whole trains all weights"),
        ({}, {"measured": ["tset"]}, "there is no split 'tset'; choose one of train, validation, test"),
        ({}, {"whole": True, "save": "adapter"}, "--save"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    settings: Settings, encoder: Path, change: dict[str, Any], options: dict[str, Any], named: str, tmp_path: Path
) -> None:
    asked = replace(settings, **{"model": str(encoder), **change})
    with pytest.raises(CahpError, match=named):
        cahp.fit(asked, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_training_leaves_nothing(settings: Settings, encoder: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "fit" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(settings, encoder, tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []
