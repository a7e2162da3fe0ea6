"""Gates travel with the call: threads with different masks on one model never see each other's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import fakes
import numpy as np
import pytest
import torch

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.loading import read
from cahp.models.selftest import verify
from cahp.models.surgery import cut
from cahp.values import HeadMask, ModelError, SelfTestError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return models.load(str(fakes.save_model(tmp_path_factory.mktemp("model"))), device="cpu")


def test_eight_threads_with_their_own_masks_get_their_own_answers_a_thousand_times(model: HeadModel) -> None:
    (batch,) = model.batches(model.tokenize(fakes.sentences(4).inputs))
    random = np.random.default_rng(0)
    masks = [model.gates(random.random((model.layers, model.heads)) < 0.5) for _ in range(8)]
    alone = [model.logits(batch, gates=gates) for gates in masks]
    assert len({tuple(logits.flatten().tolist()) for logits in alone}) == 8

    def wrong(thread: int) -> int:
        return sum(not torch.equal(model.logits(batch, gates=masks[thread]), alone[thread]) for _ in range(125))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(wrong, range(8))) == 0


def test_gates_of_each_example_are_the_same_as_one_call_an_example(model: HeadModel) -> None:
    (batch,) = model.batches(model.tokenize(fakes.sentences(6).inputs))
    gates = torch.rand(6, model.layers, model.heads, generator=torch.Generator().manual_seed(0))
    together = model.logits(batch, gates=gates)
    each = torch.stack([model.logits(batch, gates=gates[row])[row] for row in range(6)])
    assert torch.allclose(together, each, atol=1e-6)


def test_a_step_by_step_walk_ends_where_a_whole_pass_does(model: HeadModel) -> None:
    (batch,) = model.batches(model.tokenize(fakes.sentences(5).inputs))
    state = model.enter(batch)
    for _ in range(model.layers):
        state = model.step(state)
    base = model.network.base_model(**batch.tensors).last_hidden_state
    assert torch.allclose(state.hidden, base, atol=1e-6)


def test_the_self_test_refuses_a_model_whose_gates_do_nothing(model: HeadModel) -> None:
    deaf = models.load(model.card.folder, device="cpu")
    for layer in range(deaf.layers):
        # What a library does that accepts a head mask and ignores it.
        deaf.projection(layer).module._forward_pre_hooks.clear()
    with pytest.raises(SelfTestError, match="gated off"):
        verify(deaf)


def test_the_self_test_refuses_a_single_gate_that_does_nothing(model: HeadModel) -> None:
    deaf = models.load(model.card.folder, device="cpu")
    deaf.projection(1).module._forward_pre_hooks.clear()
    with pytest.raises(SelfTestError, match="layer 1, head 0"):
        verify(deaf)


def test_the_self_test_refuses_a_model_that_cannot_be_cut_truly(
    model: HeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cahp.models import selftest

    def wrong_cut(whole: HeadModel, mask: object) -> HeadModel:
        return whole

    monkeypatch.setattr(selftest, "cut", wrong_cut)
    with pytest.raises(SelfTestError, match="cannot be cut"):
        verify(model)


def test_a_head_that_was_zeroed_before_does_not_fail_the_self_test(model: HeadModel) -> None:
    zeroed = models.load(model.card.folder, device="cpu")
    projection = zeroed.projection(0)
    weight = projection.weight.clone()
    weight[:, : zeroed.card.head_size] = 0.0
    projection.replace(weight, projection.bias)
    found = verify(zeroed)
    assert (found.gates, found.idle) == (zeroed.layers * zeroed.heads - 1, 1)


def test_a_loaded_model_keeps_what_its_self_test_found_and_what_is_made_of_it_does_not(model: HeadModel) -> None:
    assert model.verified == verify(model)
    assert (model.verified.gates, model.verified.idle, model.verified.masks) == (model.layers * model.heads, 0, 2)
    assert model.verified.difference is not None
    assert 0 <= model.verified.difference <= 1e-5
    assert cut(model, HeadMask.full(model.layers, model.heads)).verified is None


def test_a_model_from_elsewhere_is_proven_once(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    own = read(model.card, device_name="cpu")
    assert own.verified is None
    assert models.proven(own) is own
    assert own.verified == model.verified
    monkeypatch.setattr(HeadModel, "logits", lambda *_, **__: pytest.fail("tested again"))
    assert models.proven(own) is own


def test_a_deaf_model_from_elsewhere_is_refused_and_stays_unproven(model: HeadModel) -> None:
    deaf = read(model.card, device_name="cpu")
    deaf.projection(1).module._forward_pre_hooks.clear()
    with pytest.raises(SelfTestError, match="layer 1, head 0"):
        models.proven(deaf)
    assert deaf.verified is None


def test_a_model_that_was_cut_here_is_not_taken_for_a_whole_one(model: HeadModel) -> None:
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[1, 2] = False
    with pytest.raises(ModelError, match="use the model that it was cut from"):
        models.proven(cut(model, HeadMask(keep)))
