"""The most common architectures, each on a tiny random model: batches, signatures, a whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from fakes import prune
from torch import nn

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.stages.evaluation import evaluate
from cahp.stages.signatures import collect
from cahp.store import Store
from cahp.values import OptionError


@pytest.fixture(
    scope="module",
    params=[
        kind if kind in fakes.SAMPLE else pytest.param(kind, marks=pytest.mark.nightly) for kind in sorted(fakes.SHAPES)
    ],
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    folder = fakes.save_model(tmp_path_factory.mktemp("model"), request.param)
    return models.load(str(folder), device="cpu")


@pytest.mark.parametrize("pairs", [False, True])
def test_padding_and_batching_do_not_change_an_answer(model: HeadModel, pairs: bool) -> None:
    texts = fakes.sentences(20, pairs=pairs)
    together = evaluate(model, texts).scores
    alone = np.concatenate([evaluate(model, texts.take([row])).scores for row in range(len(texts))])
    assert np.allclose(together, alone, atol=1e-5)


def test_signatures_are_those_of_one_text_at_a_time(model: HeadModel) -> None:
    texts = fakes.sentences(18)
    found = collect(model, texts, pool_size=8)
    maps: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for row, label in enumerate(texts.labels):
        (batch,) = model.batches(model.tokenize(texts.take([row]).inputs))
        seen: list[torch.Tensor] = []
        model.logits(batch, probe=lambda _, weights, seen=seen: seen.append(weights))
        pooled = nn.functional.interpolate(torch.cat(seen, 1), size=(8, 8), mode="bilinear", align_corners=False)
        maps[int(label)].append(pooled[0].flatten(1).double().numpy())
    for label, each in maps.items():
        assert found.counts[label] == len(each)
        assert np.allclose(found.mean[:, label], np.mean(each, axis=0), atol=1e-6)
        assert np.allclose(found.variance[:, label], np.var(each, axis=0, ddof=1), atol=1e-6)


def test_a_run_keeps_the_requested_number_of_heads(model: HeadModel, tmp_path: Path) -> None:
    data = fakes.write_data(tmp_path / "data", train=60, validation=20, test=5)
    timed = {"latency": True, "latency_time": "0.05s"}
    settings = fakes.quick(model.card.folder, data, **timed, budget="5", recover="refit")
    if model.card.no_refit:
        with pytest.raises(OptionError, match="passes"):
            prune(settings, store=Store(tmp_path / "store"))
        settings = replace(settings, recover="distill")
    run = prune(settings, store=Store(tmp_path / "store"))
    assert run.mask.count == 5
    assert not run.mask.empty_layers
    assert run.document.outcomes["recovered"]["accuracy"].n == 20
    assert (run.document.distill is None) is (run.document.refit is not None)
    assert run.document.verified.mask_equals_surgery is True
