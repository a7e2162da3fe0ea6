"""A field of ``Settings`` is the one description of an option; and in which numbers a run computes."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fakes import prune

from cahp.models import devices
from cahp.models.head_model import HeadModel
from cahp.run.settings import Settings, choose_precisions, describe, flags, key_fields
from cahp.store import Store
from cahp.values import CahpError, Precisions


def test_numbers_and_paths_stand_for_texts_where_that_is_clear() -> None:
    asked = {"budget": 20, "latency_time": 5, "recover_time": 1.5, "model": Path("models/tiny"), "seed": np.int64(7)}
    settings = Settings(**asked)
    assert (settings.budget, settings.latency_time, settings.recover_time) == ("20", "5s", "1.5s")
    assert (settings.model, settings.seed, type(settings.seed)) == ("models/tiny", 7, int)
    assert Settings(answers=["bad", "good"], prompt="{text} It was").answers == ("bad", "good")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"method": 3}, {"model": None}, {"data": 3}, {"budget": 0.5}, {"budget": True}, {"budget": "few"}),
        *({"limit": 1}, {"limit": "many"}, {"limit": 2.5}, {"limit": True}, {"eval_limit": 0}, {"limit": 10_000_001}),
        *({"goal": "speed=2"}, {"goal": "agreement=95"}, {"goal": "time=20%"}, {"goal": "kv-cache=30%"}, {"goal": 3}),
        *({"min_per_layer": -1}, {"min_per_layer": None}, {"pool_size": 1}, {"poly_degree": 1}, {"seed": -1}),
        *({"pool_size": 129}, {"poly_degree": 11}),
        *({"seed": 2**32}, {"projection": "lda"}, {"sample": "tail"}, {"salience": "max"}, {"device": "tpu"}),
        *({"recover": "magic"}, {"precision": "int8"}, {"report": "train"}, {"representative": 2}),
        *({"latency": "yes"}, {"labels": 1}, {"latency_time": "soon"}, {"latency_time": -1}, {"recover_time": "31d"}),
        *({"label_map": "a=b"}, {"label_map": {"a": 1}}, {"splits": ["a"]}, {"answers": "bad,good"}, {"answers": [1]}),
        *({"prompt": "{text} It was"}, {"answers": ("bad", "good")}),
    ],
    ids=str,
)
def test_anything_invalid_is_an_error_when_the_settings_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(CahpError) as refused:
        Settings(**wrong)
    assert "\n" not in str(refused.value)
    with pytest.raises(CahpError):
        replace(Settings(), **wrong)


def test_every_field_is_described_an_option_of_prune_and_part_of_every_key() -> None:
    assert list(flags("prune")) == list(describe())
    assert key_fields(Settings(seed=7)) == asdict(Settings(seed=7))


@pytest.fixture(scope="module")
def settings(model: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data = fakes.write_data(tmp_path_factory.mktemp("data"), train=60, validation=20, test=5)
    return fakes.quick(model.card.folder, data, budget="5")


def test_products_in_bfloat16_leave_weights_and_gates_alone(model: HeadModel) -> None:
    (batch,) = model.batches(model.tokenize(fakes.sentences(40).inputs))
    shut, seen = model.gates(np.zeros((model.layers, model.heads))), []
    model.logits(batch, gates=shut, precision="bfloat16", tap=lambda site, _, one: seen.append((site, one.abs().max())))
    taken = [float(largest) for site, largest in seen if site == "output"]
    assert taken == [0.0] * model.layers
    assert {weight.dtype for weight in model.network.parameters()} == {torch.float32}


def test_auto_changes_nothing_where_bfloat16_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda where: False)
    assert choose_precisions(Settings(device="cpu", precision="auto")) == Precisions("float32", "float32")


def test_runs_of_two_precisions_are_two(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda where: True)
    store, runs = Store(tmp_path), {}
    for asked in ("float32", "auto", "bfloat16"):
        runs[asked] = prune(replace(settings, precision=asked), store=store)
        again = prune(replace(settings, precision=asked), store=store)
        assert again.document.outcomes == runs[asked].document.outcomes
        assert again.document.precision == runs[asked].document.precision
    exact, quick, rough = (runs[asked].document for asked in ("float32", "auto", "bfloat16"))
    assert [one.precision for one in (exact, quick, rough)] == [
        Precisions(),
        Precisions("bfloat16", "float32"),
        Precisions("bfloat16", "bfloat16"),
    ]
    # Answers differ in their losses, and were not found among those of float32.
    losses = [one.outcomes["full"]["nll"] for one in (exact, quick, rough)]
    assert losses[0] != losses[1] == losses[2]
    # With the same signatures, found again, the same heads.
    assert quick.kept == exact.kept
    assert "signatures" in quick.cached
    assert "signatures" not in rough.cached
    assert not np.array_equal(runs["float32"].arrays["mean"], runs["bfloat16"].arrays["mean"])
    said = ["\n".join(notice for notice in one.notices if "bfloat16" in notice) for one in (exact, quick, rough)]
    assert (said[0], len(set(said))) == ("", 3)
    assert quick.to_json()["precision"] == {"evaluation": "bfloat16", "signatures": "float32"}
