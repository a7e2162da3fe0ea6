from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.stages.evaluation import SharedPrefixes, evaluate, gains
from cahp.values import Cancelled, HeadMask

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


#: Models whose layers depend on their places or on those before them, or are used in many passes.
WHOLE = {
    "gpt_oss": (zoo.save, {"sliding_window": 3}),
    "t5": (zoo.save, {}),
    "albert": (fakes.save_model, {"num_hidden_layers": 6}),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_model_without_tails_is_answered_whole_and_nothing_is_kept(kind: str, tmp_path: Path) -> None:
    save, options = WHOLE[kind]
    model = models.load(str(save(tmp_path, kind, **options)), device="cpu")
    assert not model.has_tails
    shared = SharedPrefixes(model, TEXTS, masks(model))
    for mask in masks(model):
        assert np.array_equal(shared.evaluate(mask).losses, evaluate(cut(model, mask), TEXTS).losses)
        assert kept(shared) == 0


class Alive:
    """Counts the bytes of hidden states that left a layer and that anybody still holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._there: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
        self.peak = 0
        forward = HeadModel.logits

        def watched(model: HeadModel, batch: Any, *, leaving: Any = None, **options: Any) -> torch.Tensor:
            def left(hidden: torch.Tensor) -> torch.Tensor | None:
                self._there.add(hidden)
                instead: torch.Tensor | None = None if leaving is None else leaving(hidden)
                self.peak = max(self.peak, sum(state.nbytes for state in self._there))
                return instead

            return forward(model, batch, leaving=left, **options)

        monkeypatch.setattr(HeadModel, "logits", watched)


@pytest.mark.parametrize("layers", [0.5, 2.5])
def test_states_never_take_more_than_their_room(
    model: HeadModel, layers: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cahp.models.head_model.batch_size", lambda _: (10_000, 2))
    # One part, so that all of the room is its own.
    monkeypatch.setattr("cahp.stages.evaluation._FEWEST_BATCHES", 100)
    sizes = [
        4 * model.network.config.hidden_size * batch.tensors["input_ids"].numel()
        for batch in model.batches(model.tokenize(TEXTS.inputs))
    ]
    room = int(layers * sum(sizes))
    wanted = [evaluate(cut(model, mask), TEXTS) for mask in masks(model)]
    alive = Alive(monkeypatch)
    shared = SharedPrefixes(model, TEXTS, masks(model), room=room)
    for mask, answered in zip(masks(model), wanted, strict=True):
        assert np.array_equal(shared.evaluate(mask).losses, answered.losses)
    # What enters a layer and what leaves it are there beside.
    assert alive.peak <= room + 2 * max(sizes)


def kept(shared: SharedPrefixes) -> int:
    return sum(len(part._states) for part in (shared._some, shared._others))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three texts a batch: eight batches, of which two are looked at first."""
    monkeypatch.setattr("cahp.models.head_model.batch_size", lambda _: (10_000, 3))


@pytest.mark.usefixtures("small_batches")
def test_a_glimpse_is_a_part_of_the_answer_that_is_not_computed_twice(
    model: HeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedPrefixes(model, TEXTS, masks(model))
    answered: list[int] = []
    forward = HeadModel.logits
    monkeypatch.setattr(
        HeadModel,
        "logits",
        lambda self, batch, **options: answered.extend(batch.rows) or forward(self, batch, **options),
    )
    for mask in masks(model):
        answered.clear()
        rows, glimpsed = shared.glimpse(mask)  # type: ignore[misc]
        assert sorted(answered) == sorted(rows)
        shared.glimpse(mask)
        ours = shared.evaluate(mask)
        assert sorted(answered) == list(range(len(TEXTS)))
        alone = evaluate(cut(model, mask), TEXTS)
        assert np.array_equal(ours.predictions, alone.predictions)
        assert np.array_equal(ours.losses, alone.losses)
        assert np.array_equal(glimpsed.losses, alone.losses[rows])
        assert np.array_equal(glimpsed.labels, TEXTS.labels[rows])
    assert kept(shared) == len(shared._glimpses) == 0


@pytest.mark.usefixtures("small_batches")
def test_a_glimpse_sees_a_third_of_the_texts_short_and_long_ones(model: HeadModel) -> None:
    rows, _ = SharedPrefixes(model, TEXTS, masks(model)).glimpse(masks(model)[0])  # type: ignore[misc]
    lengths = np.array([len(one["input_ids"]) for one in model.tokenize(TEXTS.inputs)])
    assert len(rows) in (6, 9)
    assert lengths[rows].min() < np.median(lengths) < lengths[rows].max()


def test_few_texts_are_not_parted(model: HeadModel) -> None:
    assert SharedPrefixes(model, TEXTS, masks(model)).glimpse(masks(model)[0]) is None


@pytest.mark.usefixtures("small_batches")
def test_what_is_cancelled_after_a_glimpse_goes_on_from_it(model: HeadModel) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        seen.append((done, total))
        raise Cancelled

    seen: list[tuple[int, int]] = []
    mask = masks(model)[0]
    shared = SharedPrefixes(model, TEXTS, masks(model))
    rows, _ = shared.glimpse(mask)  # type: ignore[misc]
    with pytest.raises(Cancelled):
        shared.evaluate(mask, progress=stop)
    assert seen == [(len(rows), len(TEXTS))]
    assert np.array_equal(shared.evaluate(mask).losses, evaluate(cut(model, mask), TEXTS).losses)


def test_each_set_of_first_layers_runs_once(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def watched(model: HeadModel, mask: HeadMask) -> HeadModel:
        made = cut(model, mask)
        for layer in made.layer_modules:
            layer.register_forward_hook(lambda *_: runs.append(1))
        return made

    monkeypatch.setattr("cahp.models.surgery.cut", watched)
    shared = SharedPrefixes(model, TEXTS, masks(model))
    for mask in masks(model):
        shared.evaluate(mask)
    # Of three layers of two kinds each: 2 first layers, 4 pairs, 8 triples. One by one it would be 8 times 3.
    each = sum(2**layer for layer in range(1, model.layers + 1))
    assert len(runs) == each * len(model.batches(model.tokenize(TEXTS.inputs)))
    assert kept(shared) == 0


def test_what_is_cancelled_leaves_nothing_and_what_others_answered_is_not_waited_for(model: HeadModel) -> None:
    all_masks = masks(model)
    shared = SharedPrefixes(model, TEXTS, all_masks)
    with pytest.raises(Cancelled):
        shared.evaluate(all_masks[0], progress=fakes.stop_at())
    assert kept(shared) == 0
    for mask in all_masks[1:]:
        shared.forget(mask)
    shared.evaluate(all_masks[0])
    assert kept(shared) == 0


def test_a_place_is_worth_the_layers_that_it_saves_beyond_the_next_best() -> None:
    # Of the places 0 and 2 known: the first mask saves two layers at 2, one more than at 0; the third one at 0.
    assert gains([(0, 2, 5), (0, 2, 6), (0, 3, 7), (1, 4, 8)], {0, 2}) == {2: 1 + 1, 0: 1}
    # A mask's own last layer is its answer, which nobody goes on from.
    assert gains([(0, 2, 5)], {5}) == {}
