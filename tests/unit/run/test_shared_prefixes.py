from __future__ import annotations

import fakes
import numpy as np
import pytest

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.run.shared_prefixes import SharedPrefixes, gains
from cahp.stages.evaluation import evaluate
from cahp.values import Cancelled, HeadMask

TEXTS = fakes.sentences(24)


@pytest.fixture(scope="module", params=["bert", "gpt2", "modernbert", "bart"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return models.load(str(fakes.save_model(tmp_path_factory.mktemp("model"), request.param)), device="cpu")


def masks(model: HeadModel) -> list[HeadMask]:
    """All ways to take two heads of each layer or all of them: many first layers are alike."""
    few = np.zeros((model.layers, model.heads), dtype=np.bool_)
    few[:, :2] = True
    choices = range(2**model.layers)
    return [HeadMask(few | (choice >> np.arange(model.layers) & 1 == 1)[:, None]) for choice in choices]


@pytest.mark.parametrize("room", [0, 1 << 20])
def test_answers_are_those_of_each_cut_model_to_the_last_digit(model: HeadModel, room: int) -> None:
    shared = SharedPrefixes(model, TEXTS, masks(model), room=room)
    for mask in masks(model):
        ours, alone = shared.evaluate(mask), evaluate(cut(model, mask), TEXTS)
        assert np.array_equal(ours.predictions, alone.predictions)
        assert np.array_equal(ours.losses, alone.losses)


def test_each_set_of_first_layers_runs_once(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def watched(model: HeadModel, mask: HeadMask) -> HeadModel:
        made = cut(model, mask)
        for layer in made.layer_modules:
            layer.register_forward_hook(lambda *_: runs.append(1))
        return made

    monkeypatch.setattr("cahp.run.shared_prefixes.cut", watched)
    shared = SharedPrefixes(model, TEXTS, masks(model))
    for mask in masks(model):
        shared.evaluate(mask)
    # Of three layers of two kinds each: 2 first layers, 4 pairs, 8 triples. One by one it would be 8 times 3.
    each = sum(2**layer for layer in range(1, model.layers + 1))
    assert len(runs) == each * len(model.batches(model.tokenize(TEXTS.inputs)))
    assert shared._states == {}


def test_what_is_cancelled_leaves_nothing_and_what_others_answered_is_not_waited_for(model: HeadModel) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise Cancelled

    all_masks = masks(model)
    shared = SharedPrefixes(model, TEXTS, all_masks)
    with pytest.raises(Cancelled):
        shared.evaluate(all_masks[0], progress=stop)
    assert shared._states == {}
    for mask in all_masks[1:]:
        shared.answered(mask)
    shared.evaluate(all_masks[0])
    assert shared._states == {}


def test_a_place_is_worth_the_layers_that_it_saves_beyond_the_next_best() -> None:
    # Of the places 0 and 2 known: the first mask saves two layers at 2, one more than at 0; the third one at 0.
    assert gains([(0, 2, 5), (0, 2, 6), (0, 3, 7), (1, 4, 8)], {0, 2}) == {2: 1 + 1, 0: 1}
    # A mask's own last layer is its answer, which nobody goes on from.
    assert gains([(0, 2, 5)], {5}) == {}
