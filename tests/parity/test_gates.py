"""Gates travel with the call: threads with different masks on one model never see each other's."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
import zoo
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from cahp import models
from cahp.models import selftest
from cahp.models.head_model import Batch, HeadModel
from cahp.models.loading import load_model
from cahp.models.selftest import verify
from cahp.models.surgery import cut, masked
from cahp.values import HeadMask, MaskError, ModelError, SelfTestError


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
    with pytest.raises(SelfTestError, match="does not change its logits"):
        verify(deaf)


def load_deep(folder: Path) -> HeadModel:
    """A model of five layers that was not tested."""
    return load_model(models.identify(str(fakes.save_model(folder, num_hidden_layers=5))), device_name="cpu")


def rolled(module: torch.nn.Module, args: tuple[torch.Tensor], *, size: int) -> tuple[torch.Tensor]:
    """Undoes the gates and shuts the next head's channels instead."""
    return (args[0].roll(size, -1),)


@pytest.mark.parametrize("layer", [0, 2, 4])
@pytest.mark.parametrize("wrong", ["deaf", "the next head's", "not quite shut", "only the second head"])
def test_a_wrong_gate_is_detected_in_every_layer(tmp_path: Path, layer: int, wrong: str) -> None:
    broken = load_deep(tmp_path)
    module = broken.projection(layer).module
    size = broken.card.head_size
    (gate,) = module._forward_pre_hooks.values()

    def partly(module: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """Lets a part of what was shut past the gate."""
        (gated,) = gate(module, args) or args
        if wrong == "not quite shut":
            return (gated + 1e-3 * args[0],)
        return (torch.cat([gated[..., :size], args[0][..., size : 2 * size], gated[..., 2 * size :]], -1),)

    if wrong == "the next head's":
        module.register_forward_pre_hook(partial(rolled, size=size))
    else:
        module._forward_pre_hooks.clear()
        if wrong != "deaf":
            module.register_forward_pre_hook(partly)
    head = int(wrong == "only the second head")
    # A gate that closes something else, or not quite, differs from a cut.
    reason = "cutting heads out of"
    if wrong in ("deaf", "only the second head"):
        reason = f"layer {layer}, head {head}"
    with pytest.raises(SelfTestError, match=reason):
        verify(broken)


@pytest.mark.parametrize("layer", [0, 2, 4])
def test_a_cut_of_other_heads_than_masked_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: int) -> None:
    def wrong_cut(whole: HeadModel, mask: HeadMask) -> HeadModel:
        keep = mask.keep.copy()
        keep[layer] = np.roll(keep[layer], 1)
        return cut(whole, HeadMask(keep))

    monkeypatch.setattr(selftest, "cut", wrong_cut)
    with pytest.raises(SelfTestError, match="cutting heads out of"):
        verify(load_deep(tmp_path))


@pytest.mark.parametrize(("apart", "allowed"), [(1.8e-5, True), (1.8e-3, False)])
def test_rounding_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: float, allowed: bool) -> None:
    folder = fakes.save_language_model(tmp_path)
    prompt = models.make_prompt(fakes.PROMPTS["causal"], fakes.ANSWERS)
    card = models.identify(str(folder), prompt=prompt)
    model = load_model(card, device_name="cpu")
    (batch,) = model.batches(model.tokenize(model.examples(["a long film", "no film"])))
    scale = 18 / float(model.logits(batch, vocabulary=True).abs().max())
    answers = [answer.token for answer in model.prompt.answers]  # type: ignore[union-attr]
    with torch.no_grad():
        # Logits reach 18, and those of the answers stay small, as of two rare words among many.
        head = model.network.get_output_embeddings().weight
        model.network.get_output_embeddings().weight = torch.nn.Parameter(head * scale, requires_grad=False)
        model.network.get_output_embeddings().weight[answers] *= 1e-3
    assert float(model.logits(batch).abs().max()) < 1

    class Apart:
        def __init__(self, whole: HeadModel, mask: HeadMask) -> None:
            self._cut = cut(whole, mask)

        def logits(self, batch: Batch, **options: bool) -> torch.Tensor:
            return self._cut.logits(batch, **options) + apart

    monkeypatch.setattr(selftest, "cut", Apart)
    if allowed:
        # Rounding at logits of 18 adds up to as much again, which depends on the number of threads.
        assert verify(model).difference == pytest.approx(apart / 18, rel=0.9)
        mask = HeadMask.full(model.layers, model.heads)
        assert selftest.compare_masked_and_cut(model, mask, [batch]) == pytest.approx(apart / 18, rel=0.1)
    else:
        with pytest.raises(SelfTestError, match="cutting heads out of"):
            verify(model)


def test_a_head_that_was_zeroed_before_does_not_fail_the_self_test(model: HeadModel) -> None:
    zeroed = models.load(model.card.folder, device="cpu")
    projection = zeroed.projection(0)
    weight = projection.weight.clone()
    weight[:, : zeroed.card.head_size] = 0.0
    projection.replace(weight, projection.bias)
    verify(zeroed)
    # A loaded model keeps its self-test, and a cut one does not.
    assert model.verified == verify(model)
    assert 0 <= model.verified.difference <= 1e-5
    assert cut(model, HeadMask.full(model.layers, model.heads)).verified is None


def test_a_model_from_elsewhere_is_proven_once(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    own = load_model(model.card, device_name="cpu")
    assert own.verified is None
    assert models.verify_model(own) is own
    assert own.verified == model.verified
    monkeypatch.setattr(HeadModel, "logits", lambda *_, **__: pytest.fail("tested again"))
    assert models.verify_model(own) is own


def test_a_deaf_model_from_elsewhere_is_refused_and_stays_unproven(model: HeadModel) -> None:
    deaf = load_model(model.card, device_name="cpu")
    deaf.projection(1).module._forward_pre_hooks.clear()
    with pytest.raises(SelfTestError, match="layer 1, head 0"):
        models.verify_model(deaf)
    assert deaf.verified is None
    # Nor is a model that was cut here taken for a whole one.
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[1, 2] = False
    with pytest.raises(ModelError, match="use the model that it was cut from"):
        models.verify_model(cut(model, HeadMask(keep)))


@pytest.mark.parametrize(
    ("apart", "rounding", "right"), [(9e-6, 0.0, True), (2e-5, 6e-6, True), (2e-5, 4e-6, False), (2e-4, 1.0, False)]
)
def test_a_difference_is_held_to_what_the_processor_rounds(
    model: HeadModel, monkeypatch: pytest.MonkeyPatch, apart: float, rounding: float, right: bool
) -> None:
    monkeypatch.setattr(selftest, "relative_difference", lambda *_: apart)
    monkeypatch.setattr(selftest, "measure_rounding", lambda *_: rounding)
    mask = HeadMask.full(model.layers, model.heads)
    (batch,) = model.batches(model.tokenize(["a film"]))
    if right:
        assert selftest.compare_masked_and_cut(model, mask, [batch]) == apart
    else:
        with pytest.raises(SelfTestError, match="rounding explains"):
            selftest.compare_masked_and_cut(model, mask, [batch])


#: Structures that differ in where heads are.
STRUCTURES = (
    "bert distilbert modernbert deberta-v2 albert gpt2 llama qwen3 mixtral gemma3_text gpt_neox phi3 deepseek_v3 bart"
)


@pytest.mark.parametrize("kind", STRUCTURES.split())
def test_a_network_of_one_s_own_is_masked_inside_a_block_only(kind: str, tmp_path: Path) -> None:
    folder = str(zoo.save(tmp_path, kind, seed=3))
    model = models.load(folder, device="cpu")
    keep = np.ones((model.layers, model.heads), dtype=bool)
    keep[:, 1] = False
    (batch,) = model.batches(model.tokenize(fakes.sentences(5).inputs))
    expected = cut(model, HeadMask(keep)).logits(batch)
    own = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def answer() -> torch.Tensor:
        with torch.no_grad():
            return own(**batch.tensors).logits

    before = answer()
    with masked(own, keep) as same:
        assert same is own
        assert torch.allclose(answer(), expected, atol=1e-5)
    assert torch.equal(answer(), before)
    with pytest.raises(KeyError), masked(own, HeadMask(keep)):
        raise KeyError
    assert torch.equal(answer(), before)


def test_a_masked_network_generates_and_learns(tmp_path: Path) -> None:
    folder = fakes.save_language_model(tmp_path / "model")
    own = AutoModelForCausalLM.from_pretrained(folder)
    model = models.load(str(folder), device="cpu")
    keep = np.eye(model.layers, model.heads, dtype=bool)
    ids = torch.tensor([[5, 6, 7, 8]])
    pruned = cut(model, keep).network
    with masked(own, keep):
        assert torch.equal(own.generate(ids, max_new_tokens=8, do_sample=False), pruned.generate(ids, max_new_tokens=8))
        own(ids, labels=ids).loss.backward()
    output = own.base_model.h[0].attn.c_proj.weight.grad
    # The weights ``(in, out)`` of closed heads get no gradient, and those of the others do.
    assert output.abs().sum(1).view(model.heads, -1).sum(1).ne(0).tolist() == keep[0].tolist()


def test_what_cannot_be_masked_is_refused(model: HeadModel) -> None:
    with (
        pytest.raises(ModelError, match="masked takes a model of transformers, not HeadModel"),
        masked(model, [[True]]),
    ):  # type: ignore[arg-type]
        pass
    special = AutoModelForSequenceClassification.from_config(zoo.configuration("falcon"))
    with (
        pytest.raises(ModelError, match="computes queries, keys and values by special"),
        masked(special, np.ones((2, 4))),
    ):
        pass
    with pytest.raises(MaskError, match="The mask is for 1 x 4 heads"), masked(model.network, np.ones((1, 4))):
        pass
