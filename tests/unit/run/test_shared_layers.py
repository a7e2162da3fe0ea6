"""Masks that are evaluated on the same texts run the lower layers that they have in common once."""

import fakes
import numpy as np
import pytest

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.reading import Reader
from cahp.models.surgery import cut
from cahp.stages.evaluation import SharedLayers, evaluate
from cahp.tasks.answers import Evaluation
from cahp.values import HeadMask

TEXTS = fakes.sentences(24)


@pytest.fixture(scope="module", params=["bert", "bart"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return models.load(str(fakes.save_model(tmp_path_factory.mktemp("model"), request.param)), device="cpu")


def masks(model: HeadModel) -> list[HeadMask]:
    """All ways to take half of each layer's heads or all of them: many first layers are alike."""
    few = np.zeros((model.layers, model.heads), dtype=np.bool_)
    few[:, : model.heads // 2] = True
    choices = range(2**model.layers)
    return [HeadMask(few | (choice >> np.arange(model.layers) & 1 == 1)[:, None]) for choice in choices]


def answer(shared: SharedLayers, model: HeadModel, mask: HeadMask) -> Evaluation:
    return shared.evaluate(mask, cut(model, mask), TEXTS, reader=Reader(TEXTS))


@pytest.mark.parametrize("layers", [0.5, 2.5, 100])
def test_answers_are_those_without_sharing(model: HeadModel, layers: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.models.head_model.batch_size", lambda _: (10_000, 2))
    batches = model.batches(model.tokenize(TEXTS.inputs))
    size = 4 * model.network.config.hidden_size * sum(batch.tensors["input_ids"].numel() for batch in batches)
    shared = SharedLayers(masks(model), room=int(layers * size))
    for mask in masks(model):
        answer(shared, model, mask)
        assert sum(state.nbytes for states in shared._states.values() for state in states) <= layers * size
    shared = SharedLayers(masks(model), room=int(layers * size))
    for mask in masks(model):
        assert np.array_equal(answer(shared, model, mask).losses, evaluate(cut(model, mask), TEXTS).losses)
    assert not shared._states


def test_each_set_of_first_layers_runs_once(model: HeadModel) -> None:
    runs: list[int] = []
    shared = SharedLayers(masks(model))
    for mask in masks(model):
        pruned = cut(model, mask)
        for layer in pruned.layer_modules:
            layer.register_forward_hook(lambda *_: runs.append(1))
        shared.evaluate(mask, pruned, TEXTS, reader=Reader(TEXTS))
    # Of three layers of two kinds each: 2 first layers, 4 pairs, 8 triples. One by one it would be 8 times 3.
    each = sum(2**layer for layer in range(1, model.layers + 1))
    assert len(runs) == each * len(model.batches(model.tokenize(TEXTS.inputs)))
