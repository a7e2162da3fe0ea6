"""Every method without training chooses heads of a language model that is measured on its next tokens."""

from __future__ import annotations

from dataclasses import replace

import fakes
import pytest

from cahp import models
from cahp.methods.shared import registry
from cahp.models.head_model import HeadModel
from cahp.models.windows import cut_windows
from cahp.run.evidence import HeadEvidence
from cahp.run.texts import ALL
from cahp.tasks.texts import Texts

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    folder = fakes.save_language_model(tmp_path_factory.mktemp("models"), family="llama")
    return models.load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def windows(model: HeadModel) -> Texts:
    return replace(cut_windows(model.card, fakes.sentences(60), window=12, tokens=240), classes=ALL)


@pytest.fixture(scope="module")
def evidence(model: HeadModel, windows: Texts, tmp_path_factory: pytest.TempPathFactory) -> HeadEvidence:
    return fakes.gather(model, windows, tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("name", [name for name in registry.names() if not registry.facts(name).learned])
def test_every_method_keeps_as_many_heads_as_asked(evidence: HeadEvidence, name: str) -> None:
    chosen = fakes.quick_method(name).choose(evidence, budget=7, min_per_layer=1)
    assert chosen.mask.count == 7
    assert not chosen.mask.empty_layers
