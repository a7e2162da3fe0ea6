"""In which numbers a run computes: what it says of that, what it changes, and that results are not mixed up."""

from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from fakes import prune

from cahp.models import devices
from cahp.models.head_model import HeadModel
from cahp.run.settings import Settings, choose_precisions
from cahp.store import Store
from cahp.values import Precisions


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
