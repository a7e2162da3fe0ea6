"""Signatures, features and salience against what the reference computes on the same sentences and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cahp import data
from cahp.models.head_model import HeadModel
from cahp.models.identity import identify
from cahp.models.loading import load_model
from cahp.stages.salience import gate_gradients, salience
from cahp.stages.signatures import Collector, collect
from cahp.stages.space import features
from cahp.tasks.texts import Texts

SHARED = Path(__file__).parents[2].parent / "shared"
GOLDEN = SHARED / "golden" / "sst5_256.npz"
SENTENCES = SHARED / "data" / "sst5"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (GOLDEN.is_file() and SENTENCES.is_dir()), reason="no reference results beside the checkout"
    ),
]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model(golden: dict[str, np.ndarray]) -> HeadModel:
    model = load_model(identify("minilm"), device_name="cpu", labels=tuple("01234"))
    with torch.no_grad():
        model.network.classifier.weight.copy_(torch.tensor(golden["classifier_weight"]))
        model.network.classifier.bias.copy_(torch.tensor(golden["classifier_bias"]))
    return model


@pytest.fixture(scope="module")
def texts() -> Texts:
    return data.load(str(SENTENCES)).split("train").take(range(256))


def test_one_shared_pass_gives_the_reference_s_features_and_salience(
    model: HeadModel, texts: Texts, golden: dict[str, np.ndarray]
) -> None:
    collector = Collector(model, classes=5)
    gradients = gate_gradients(model, texts, watch=collector.watch)
    signatures = collect(model, texts, rows=range(len(gradients), 256), into=collector)
    assert np.array_equal(signatures.counts, golden["class_counts"])
    assert np.abs(features(signatures) - golden["features"]).max() < 1e-3
    assert np.abs(salience(gradients).ravel() - golden["salience"]).max() < 1e-3


def test_the_pass_on_its_own_gives_the_same_statistics(
    model: HeadModel, texts: Texts, golden: dict[str, np.ndarray]
) -> None:
    halves = [collect(model, texts.take(range(start, start + 128))) for start in (0, 128)]
    merged = halves[0].merge(halves[1])
    assert np.abs(features(merged) - golden["features"]).max() < 1e-3
