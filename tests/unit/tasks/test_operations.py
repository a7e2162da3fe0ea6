"""Evaluate, time, repair, fit: each on a tiny model, and each result held against what any other tool makes of it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cahp import models
from cahp.export.masks import mask_to_json
from cahp.files import json_text
from cahp.run.prune import prune
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.tasks import operations
from cahp.values import CahpError, DataError, HeadMask, MaskError, ModelError, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS, HEADS = 3, 4
#: Heads 0 and 3 of every layer.
MASK = HeadMask(np.tile(np.array([True, False, False, True]), (LAYERS, 1)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_data(tmp_path_factory.mktemp("data") / "reviews")


@pytest.fixture(scope="module")
def settings(model: Path, data: Path) -> Settings:
    return Settings(model=str(model), data=str(data), device="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mask(tmp_path_factory.mktemp("mask") / "head_mask.json", MASK)


def write_mask(path: Path, mask: HeadMask, *, made_for: str = "tiny") -> Path:
    document = mask_to_json(mask, model=made_for, method="by hand", budget=None, metrics=None)
    path.write_text(json_text(document))
    return path


def plain_accuracy(folder: Path, data: Path) -> float:
    """What transformers alone makes of a saved classifier, one text at a time."""
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    right = 0
    for row in rows:
        with torch.no_grad():
            logits = network(**tokenizer(row["text"], return_tensors="pt")).logits
        right += network.config.id2label[int(logits.argmax())] == row["label"]
    return right / len(rows)


# --- evaluate


def test_without_a_mask_the_full_model_alone_is_measured(
    settings: Settings, model: Path, data: Path, store: Store
) -> None:
    found = operations.evaluate(settings, store=store)
    assert found["kept"] is None
    assert found["metrics"]["pruned"] is found["metrics"]["recovered"] is None
    assert found["metrics"]["full"]["accuracy"] == plain_accuracy(model, data)
    assert (found["data"]["split"], found["data"]["examples"]) == ("validation", 40)


def test_a_mask_is_measured_as_the_run_that_chose_it_did(settings: Settings, store: Store, tmp_path: Path) -> None:
    run = prune(replace(settings, pool_size=8, projection="pca", latency=False, budget="5"), store=store)
    found = operations.evaluate(settings, mask=write_mask(tmp_path / "mask.json", run.mask), store=Store(tmp_path))
    assert found["kept"] == {"heads": 5, "of": 12}
    assert found["metrics"] == run.document["metrics"]
    assert found["delta"] == run.document["delta"]


def test_other_mask_formats_say_the_same(settings: Settings, mask: Path, store: Store, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", MASK.keep)
    (tmp_path / "pruned.json").write_text(json.dumps({str(layer): [1, 2] for layer in range(LAYERS)}))
    expected = operations.evaluate(settings, mask=mask, store=store)
    for name in ("mask.npy", "pruned.json"):
        assert operations.evaluate(settings, mask=tmp_path / name, store=store) == expected


def test_the_test_split_is_counted_when_it_is_opened(settings: Settings, tmp_path: Path) -> None:
    store, test = Store(tmp_path), replace(settings, eval_split="test")
    assert operations.evaluate(settings, store=store)["test_opened"] == 0
    assert [operations.evaluate(test, store=store)["test_opened"] for _ in range(2)] == [1, 2]
    assert operations.evaluate(settings, store=store)["test_opened"] == 2


def test_a_mask_of_another_model_of_this_shape_is_used_with_a_warning(
    settings: Settings, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = write_mask(tmp_path / "mask.json", MASK, made_for="another")
    with caplog.at_level(logging.WARNING):
        operations.evaluate(settings, mask=foreign, store=store)
    assert "another" in caplog.text


@pytest.mark.parametrize("keep", [np.ones((2, 4), dtype=bool), np.ones((3, 12), dtype=bool)])
def test_a_mask_of_another_shape_is_refused_before_data_are_read(
    settings: Settings, keep: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    foreign = write_mask(tmp_path / "mask.json", HeadMask(keep))
    with pytest.raises(MaskError, match="3 x 4"):
        operations.evaluate(replace(settings, data="nothing"), mask=foreign)
    with pytest.raises(MaskError, match="3 x 4"):
        operations.latency(settings.model, foreign)


def test_an_encoder_has_no_answers_to_evaluate(settings: Settings, encoder: Path) -> None:
    with pytest.raises(ModelError, match="cahp fit"):
        operations.evaluate(replace(settings, model=str(encoder), data="nothing"))


# --- latency


def test_costs_are_those_of_the_cut_model(model: Path, mask: Path, store: Store) -> None:
    found = operations.latency(str(model), mask, batch=2, length=8, repeats=5, device="cpu", store=store)
    full, pruned = found["cost"]["full"], found["cost"]["pruned"]
    # Half of the heads: half of every query, key and value row and bias, and half of the output projection's columns.
    assert full["parameters"] - pruned["parameters"] == LAYERS * (3 * (16 * 32 + 16) + 16 * 32)
    assert pruned["flops"] < full["flops"]
    assert pruned["latency_ms"] | {"batch": 2, "length": 8, "repeats": 5} == pruned["latency_ms"]
    assert found["kept"] == {"heads": 6, "of": 12}


def test_a_text_longer_than_the_model_takes_is_refused(model: Path, mask: Path, store: Store) -> None:
    with pytest.raises(OptionError, match="at most 64 tokens"):
        operations.latency(str(model), mask, length=128, device="cpu", store=store)


def test_a_layer_without_heads_cannot_be_timed(model: Path, store: Store, tmp_path: Path) -> None:
    keep = MASK.keep.copy()
    keep[1] = False
    with pytest.raises(MaskError, match="layer 1"):
        operations.latency(str(model), write_mask(tmp_path / "mask.json", HeadMask(keep)), device="cpu", store=store)


# --- recover


@pytest.mark.parametrize("how", ["refit", "finetune"])
def test_a_repaired_model_loads_anywhere_and_answers_as_reported(
    settings: Settings, mask: Path, data: Path, store: Store, tmp_path: Path, how: str
) -> None:
    found = operations.recover(settings, mask=mask, out=tmp_path / "recovered", how=how, epochs=1, store=store)
    assert found["metrics"]["recovered"]["accuracy"] == plain_accuracy(tmp_path / "recovered", data)
    assert found["kept"] == {"heads": 6, "of": 12}
    if how == "refit":
        assert found["refit"]["accepted"] in (True, False)
    else:
        assert [epoch["epoch"] for epoch in found["epochs"]] == [1]
        beside = operations.recover(settings, mask=mask, out=tmp_path / "refitted", store=store)
        for table in ("metrics", "delta"):
            assert found[table]["refitted"] == beside[table]["recovered"]
            assert found[table]["pruned"] == beside[table]["pruned"]
        assert found["refit"] == beside["refit"]


def test_the_pruned_heads_of_a_repaired_model_are_there_with_zero_output(
    settings: Settings, mask: Path, store: Store, tmp_path: Path
) -> None:
    operations.recover(settings, mask=mask, out=tmp_path / "recovered", store=store)
    weights = load_file(tmp_path / "recovered" / "model.safetensors")
    for layer in range(LAYERS):
        by_head = weights[f"bert.encoder.layer.{layer}.attention.output.dense.weight"].reshape(32, HEADS, 8)
        assert [bool(by_head[:, head].any()) for head in range(HEADS)] == [True, False, False, True]


def test_a_repaired_model_can_be_pruned_further(settings: Settings, mask: Path, store: Store, tmp_path: Path) -> None:
    operations.recover(settings, mask=mask, out=tmp_path / "recovered", store=store)
    again = replace(
        settings, model=str(tmp_path / "recovered"), pool_size=8, projection="pca", latency=False, budget="4"
    )
    assert prune(again, store=Store(tmp_path / "store")).mask.count == 4


def test_an_unknown_repair_is_refused(settings: Settings, mask: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="refit or finetune"):
        operations.recover(settings, mask=mask, out=tmp_path / "out", how="pray")


def test_too_few_texts_cannot_judge_a_refit(settings: Settings, mask: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--limit"):
        operations.recover(replace(settings, limit=4), mask=mask, out=tmp_path / "out", store=store)
    assert not (tmp_path / "out").exists()


# --- what must not be overwritten


def lost(settings: Settings, mask: Path, out: Path) -> str:
    with pytest.raises(OptionError, match="--out") as refused:
        operations.recover(settings, mask=mask, out=out)
    return str(refused.value)


def test_the_model_itself_is_never_overwritten(settings: Settings, mask: Path, model: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert "itself" in lost(settings, mask, model)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


@pytest.mark.parametrize("name", ["thesis.docx", "config.json.old", ".git", "data"])
def test_a_folder_with_other_things_in_it_is_never_replaced(
    settings: Settings, encoder: Path, mask: Path, name: str, tmp_path: Path
) -> None:
    if name in (".git", "data"):
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("mine")
    assert name in lost(settings, mask, tmp_path)
    with pytest.raises(OptionError, match="would be lost"):
        operations.fit(replace(settings, model=str(encoder)), out=tmp_path, schedule={})
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_earlier_model_is_replaced_whole(settings: Settings, mask: Path, store: Store, tmp_path: Path) -> None:
    out = fakes.save_model(tmp_path / "out", "roberta")
    (out / "README.md").write_text("of an earlier model")
    operations.recover(settings, mask=mask, out=out, store=store)
    assert models.identify(str(out)).family == "bert"
    assert not (out / "README.md").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_disk_that_fails_is_one_sentence_and_leaves_the_earlier_model(
    settings: Settings, mask: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = fakes.save_model(tmp_path / "out", "roberta")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    with pytest.raises(CahpError, match="No space left"):
        operations.recover(settings, mask=mask, out=out, store=store)
    assert models.identify(str(out)).family == "roberta"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- fit


def fit(settings: Settings, encoder: Path, out: Path, **options: Any) -> dict[str, Any]:
    schedule = {"epochs": 2, "learning_rate": 5e-3, "batch": 16, **options.pop("schedule", {})}
    return operations.fit(replace(settings, model=str(encoder)), out=out, schedule=schedule, **{"rank": 4, **options})


def test_a_whole_classifier_answers_anywhere_as_reported(
    settings: Settings, encoder: Path, data: Path, tmp_path: Path
) -> None:
    found = fit(settings, encoder, tmp_path / "mine")
    assert found["metrics"]["validation"]["accuracy"] == plain_accuracy(tmp_path / "mine", data)
    assert set(found["metrics"]) == {"validation", "test"}
    assert len(found["epochs"]) == 2
    card = models.identify(str(tmp_path / "mine"))
    assert card.labels == ("bad", "good")
    run = prune(
        replace(settings, model=card.folder, pool_size=8, projection="pca", latency=False, budget="4"),
        store=Store(tmp_path / "store"),
    )
    assert run.document["metrics"]["full"]["accuracy"] == found["metrics"]["validation"]["accuracy"]


def test_an_adapter_alone_is_small_and_answers_as_the_whole(settings: Settings, encoder: Path, tmp_path: Path) -> None:
    whole, part = (
        fit(settings, encoder, tmp_path / save, save=save, schedule={"epochs": 1}) for save in ("model", "adapter")
    )
    # In half precision, so equal but for rounding.
    for split in ("validation", "test"):
        assert part["metrics"][split]["loss"] == pytest.approx(whole["metrics"][split]["loss"], abs=2e-3)
    names = sorted(path.name for path in (tmp_path / "adapter").iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", "config.json"]
    with pytest.raises(ModelError, match="--save model"):
        models.identify(str(tmp_path / "adapter"))
    # Nothing of this machine goes into a file that is passed on.
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text()


def test_the_same_seed_trains_the_same_classifier(settings: Settings, encoder: Path, tmp_path: Path) -> None:
    first, again = (fit(settings, encoder, tmp_path / name, schedule={"epochs": 1}) for name in ("a", "b"))
    assert first["epochs"] == again["epochs"]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_classifier_of_other_classes_gets_a_new_head(settings: Settings, data: Path, tmp_path: Path) -> None:
    three = fakes.save_model(tmp_path / "three", labels=("a", "b", "c"))
    fit(settings, three, tmp_path / "two", schedule={"epochs": 1}, limit=16)
    assert models.identify(str(tmp_path / "two")).labels == ("bad", "good")


def test_training_that_goes_astray_says_what_to_lower(settings: Settings, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(CahpError, match="--learning-rate"):
        fit(settings, encoder, tmp_path / "out", schedule={"learning_rate": 1e6, "epochs": 1})


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({"data": None}, {}, "--data"),
        ({"data": "nothing"}, {}, "no data named"),
        ({"model": "nothing"}, {}, "no model named"),
        ({}, {"save": "half"}, "model or adapter"),
        ({"text_column": "body"}, {}, "--text-column"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    settings: Settings, encoder: Path, change: dict[str, Any], options: dict[str, Any], named: str, tmp_path: Path
) -> None:
    asked = replace(settings, **{"model": str(encoder), **change})
    with pytest.raises(CahpError, match=named):
        operations.fit(asked, out=tmp_path / "out", schedule={}, **options)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_training_leaves_nothing(settings: Settings, encoder: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "fit" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(settings, encoder, tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []
