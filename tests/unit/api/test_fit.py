"""Models that are trained answer anywhere as reported, and what goes wrong leaves nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest
import torch
from fakes import prune
from safetensors.torch import load_file

import cahp
from cahp import models
from cahp.api.export import recover
from cahp.output import MARK, UnwrittenError
from cahp.run.settings import BOUNDS, Bounds, Settings
from cahp.store import Store
from cahp.values import CahpError, ModelError, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")


def fit(settings: Settings, encoder: Path, out: Path, **options: Any) -> dict[str, Any]:
    usual = {"epochs": 2, "learning_rate": 5e-3, "batch": 16, "rank": None if options.get("whole") else 4}
    return cahp.fit(encoder, settings.data, out=out, device="cpu", **{**usual, **options})


def test_a_whole_classifier_answers_anywhere_as_reported(
    settings: Settings, encoder: Path, data: Path, tmp_path: Path, plain_accuracy: Callable[[Path, Path], float]
) -> None:
    found = fit(settings, encoder, tmp_path / "mine", store=Store(tmp_path / "store"))
    assert found["test_opened"] == 0
    assert found["metrics"]["validation"]["accuracy"] == plain_accuracy(tmp_path / "mine", data)
    assert set(found["metrics"]) == {"validation"}
    assert len(found["epochs"]) == 2
    card = models.identify(str(tmp_path / "mine"))
    assert card.labels == ("bad", "good")
    run = prune(fakes.quick(card.folder, data, budget="4"), store=Store(tmp_path / "store"))
    assert run.document.outcomes["full"]["accuracy"].value == found["metrics"]["validation"]["accuracy"]


def test_an_adapter_alone_is_small_and_answers_as_the_whole(settings: Settings, encoder: Path, tmp_path: Path) -> None:
    kinds = ("model", "adapter")
    whole, part = (fit(settings, encoder, tmp_path / save, save=save, epochs=1, report="test") for save in kinds)
    assert whole["test_opened"] == 1
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
    found = fit(settings, encoder, tmp_path / "whole", whole=True, epochs=1, measured=())
    assert found["metrics"] == {}
    before, after = load_file(encoder / "model.safetensors"), load_file(tmp_path / "whole" / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    # Low-rank adapters leave the words as they were.
    assert not torch.equal(before[name], after[f"bert.{name}"])


def test_divergence_is_told(settings: Settings, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BOUNDS, "learning_rate", Bounds(0, 1e9))
    with pytest.raises(CahpError, match="--learning-rate"):
        fit(settings, encoder, tmp_path / "out", learning_rate=1e6, epochs=1)


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({"data": None}, {}, "--data"),
        ({"data": "nothing"}, {}, "no data named"),
        ({"model": "nothing"}, {}, "no model named"),
        ({"model": "bert-base-uncased"}, {}, "on the hub it is google-bert/bert-base-uncased"),
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


@pytest.mark.parametrize("how", ["refit", "finetune"])
def test_a_recovered_model_loads_anywhere_and_answers_as_reported(
    settings: Settings, mask: Path, data: Path, store: Store, tmp_path: Path, how: str, plain_accuracy: Any
) -> None:
    epochs = None if how == "refit" else 1
    found = recover(replace(settings, recover=how), mask=mask, out=tmp_path / "recovered", epochs=epochs, store=store)
    assert found["metrics"]["recovered"]["accuracy"] == plain_accuracy(tmp_path / "recovered", data)
    assert found["kept"] == {"heads": 6, "of": 12}
    if how == "refit":
        refit = found["refit"]
        assert refit.accepted is (refit.kl_after < refit.kl_before)
        assert "on 24 held-out texts" in refit.reason
    else:
        assert [epoch["epoch"] for epoch in found["epochs"]] == [1]


def test_a_recovered_model_can_be_pruned_further(settings: Settings, mask: Path, store: Store, tmp_path: Path) -> None:
    recover(replace(settings, recover="refit"), mask=mask, out=tmp_path / "recovered", store=store)
    again = fakes.quick(tmp_path / "recovered", settings.data, budget="4")
    assert prune(again, store=Store(tmp_path / "store")).mask.count == 4


@pytest.mark.parametrize("given", [{"epochs": 9}, {"learning_rate": 0.5}, {"batch": 7}])
def test_a_refit_takes_no_schedule(settings: Settings, mask: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    named = f"--{next(iter(given)).replace('_', '-')} .*--recover distill, auto, finetune"
    with pytest.raises(OptionError, match=named):
        recover(replace(settings, recover="refit"), mask=mask, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_the_model_itself_is_never_overwritten(settings: Settings, mask: Path, model: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    with pytest.raises(OptionError, match=r"--out.*itself|itself.*--out"):
        recover(replace(settings, recover="refit"), mask=mask, out=model)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_a_disk_that_fails_is_one_sentence_and_leaves_the_earlier_model(
    settings: Settings, mask: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = fakes.save_model(tmp_path / "out", "roberta")
    (out / MARK).write_text('{"schema": "cahp.folder/1", "files": ["config.json", "model.safetensors"]}')

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    with pytest.raises(UnwrittenError, match="No space left"):
        recover(replace(settings, recover="refit"), mask=mask, out=out, store=store)
    assert models.identify(str(out)).family == "roberta"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
