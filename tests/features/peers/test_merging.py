"""Merged key-value heads: exact where heads are equal up to rotation, the same written and read back, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo
from torch import Tensor
from transformers import AutoModelForCausalLM

from cahp import models
from cahp.features.peers import merging
from cahp.features.peers.projections import Change, change_outputs, find_parts
from cahp.features.peers.saving import save_merged
from cahp.models.head_model import HeadModel
from cahp.stages.moments import collect_moments
from cahp.tasks import NEXT_TOKEN
from cahp.tasks.texts import Texts
from cahp.tasks.window import Window
from cahp.values import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

#: Model types with grouped queries whose keys are rotated in halves, in neighbours, in part, or with biases.
MERGED = (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "gemma",
    "gemma2",
    "phimoe",
    "stablelm",
    "glm",
    "starcoder2",
    "helium",
)
TEXTS = [" ".join(fakes.WORDS[start : start + 12]) for start in (0, 7, 14)]


def load(folder: Path, kind: str, **more: Any) -> HeadModel:
    """A tiny random language model of a type."""
    torch.manual_seed(3)
    # Some tokenizers add a token of their own.
    network = AutoModelForCausalLM.from_config(zoo.configuration(kind, vocab_size=48, **more))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if (parameter.ndim > 1 and "embed" not in name) or name.endswith("bias"):
                parameter.normal_(0.0, 0.2)
    network.save_pretrained(folder)
    fakes.tokenizer(type_ids=False).save_pretrained(folder)
    return models.load(str(folder), device="cpu")


def windows(model: HeadModel) -> Texts:
    """The texts as windows whose every token but the first is predicted."""
    ids = [np.array(entry["input_ids"]) for entry in model.tokenize(TEXTS)]
    made = tuple(Window("", one, np.zeros(len(one) - 1), np.zeros(len(one) - 1)) for one in ids)
    return Texts(made, None, np.full(len(made), -1, dtype=np.int64), ("all texts",), NEXT_TOKEN)


def find_merges(model: HeadModel) -> tuple[dict[int, merging.Merge], merging.Pairs]:
    """The merge of each layer, from a few texts."""
    pairs = merging.find_pairs(model)
    cached = merging.collect_cache_moments(model, TEXTS)
    predictions = collect_moments(model, windows(model))
    merges = merging.find_merges(cached, predictions, find_parts(model), pairs)
    return dict(enumerate(merges)), pairs


def simulate_merges(model: HeadModel, merges: Mapping[int, merging.Merge], pairs: merging.Pairs) -> HeadModel:
    """Copy a model whose keys and values are those that follow from merged ones; its shapes stay as they are."""
    parts = find_parts(model)

    def rebuild_keys(merge: merging.Merge, keys: Tensor) -> Tensor:
        flat = keys.flatten(0, -2).T
        joined = pairs.join(flat.float())
        encode, decode = (torch.from_numpy(one).to(torch.complex64) for one in (merge.encode_keys, merge.decode_keys))
        merged = (encode[..., None] * joined).sum(0)
        return pairs.split(decode[..., None] * merged).T.reshape(keys.shape)

    def rebuild_values(merge: merging.Merge, values: Tensor) -> Tensor:
        encode, decode = (torch.from_numpy(one).float() for one in (merge.encode_values, merge.decode_values))
        return values @ encode.T @ decode.flatten(0, 1).T

    def change(layer: int, path: str) -> Change | None:
        if layer not in merges:
            return None
        merge = merges[layer]
        if path == parts.key:
            return lambda keys: rebuild_keys(merge, keys)
        return lambda values: rebuild_values(merge, values)

    return change_outputs(model, change)


@pytest.mark.parametrize("kind", MERGED)
def test_a_merged_model_is_its_simulation_and_reads_back_as_a_plain_checkpoint(kind: str, tmp_path: Path) -> None:
    model = load(tmp_path / "model", kind)
    merges, pairs = find_merges(model)
    merged = merging.merge_layers(model, merges, pairs)
    batch, *_ = model.batches(model.tokenize(TEXTS))
    expected = simulate_merges(model, merges, pairs).logits(batch)
    torch.testing.assert_close(merged.logits(batch), expected, atol=1e-5, rtol=1e-5)
    assert (expected - model.logits(batch)).abs().max() > 1e-3
    save_merged(tmp_path / "merged", merged)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert read.config.num_key_value_heads == 1
    with torch.no_grad():
        ids, real = batch.tensors["input_ids"], batch.tensors["attention_mask"]
        logits = read(input_ids=ids, attention_mask=real).logits
        last = logits[torch.arange(len(ids)), real.sum(1) - 1]
    torch.testing.assert_close(last, expected, atol=1e-5, rtol=1e-5)


def test_heads_that_are_equal_up_to_a_rotation_merge_without_a_change(tmp_path: Path) -> None:
    model = load(tmp_path, "llama")
    pairs = merging.find_pairs(model)
    assert (pairs.real.tolist(), pairs.imaginary.tolist()) == ([0, 1, 2, 3], [4, 5, 6, 7])
    for layer in model.layer_modules:
        key, value = layer.self_attn.k_proj.weight, layer.self_attn.v_proj.weight
        with torch.no_grad():
            # A quarter turn of the first frequency, and twice the second: (re, im) -> (-im, re), and 2 (re, im).
            key[8:] = key[:8]
            key[8], key[12] = -key[4], key[0].clone()
            key[9], key[13] = 2 * key[1], 2 * key[5]
            value[8:] = -3 * value[:8]
    merges, _ = find_merges(model)
    batch, *_ = model.batches(model.tokenize(TEXTS))
    merged = merging.merge_layers(model, merges, pairs)
    torch.testing.assert_close(merged.logits(batch), model.logits(batch), atol=1e-4, rtol=1e-4)
    turn = merges[0].decode_keys[1] / merges[0].decode_keys[0]
    np.testing.assert_allclose(turn, [1j, 2, 1, 1], atol=1e-6)


def test_a_partly_merged_model_has_fewer_weights_by_those_of_the_merged_layer(tmp_path: Path) -> None:
    model = load(tmp_path, "llama")
    merges, pairs = find_merges(model)
    merged = merging.merge_layers(model, {1: merges[1]}, pairs)
    # A key and a value head of 8 channels of 32 inputs each.
    assert model.parameters - merged.parameters == 2 * 8 * 32
    assert [len(layer.self_attn.k_proj.weight) for layer in merged.layer_modules] == [16, 8]


def test_layers_are_ordered_by_the_cost_of_their_change_and_the_quick_refit_comes_nearer(tmp_path: Path) -> None:
    model = load(tmp_path, "llama")
    merges, pairs = find_merges(model)
    predictions = collect_moments(model, windows(model))
    moments = merging.collect_merged_moments(model, list(merges.values()), pairs, TEXTS)
    costs: list[float] = []
    gaps: list[tuple[float, float]] = []
    for layer in (0, 1):
        own = {layer: merges[layer]}
        simulated = simulate_merges(model, own, pairs)
        plain = merging.merge_layers(model, own, pairs)
        refitted = merging.refit_outputs(model, merging.merge_layers(model, own, pairs), [layer], moments)
        cost = before = after = 0.0
        for batch in model.batches(model.tokenize(TEXTS), size=1):
            state = model.enter(batch)
            for below in range(layer):
                assert below < layer
                state = model.step(state)
            ours, theirs, merged = (merging._step(one, state)[0][0] for one in (model, simulated, plain))
            change = (theirs - ours).double().numpy()
            cost += float(np.einsum("ti,ij,tj->", change, predictions.gradients[layer], change))
            wanted = ours @ model.projection(layer).weight.T
            before += float((merged @ plain.projection(layer).weight.T - wanted).square().sum())
            after += float((merged @ refitted.projection(layer).weight.T - wanted).square().sum())
        costs.append(cost)
        gaps.append((before, after))
    assert merging.order_layers(list(merges.values()), moments, predictions) == np.argsort(costs).tolist()
    assert all(after < before for before, after in gaps)


@pytest.mark.parametrize(
    ("kind", "more", "reason"),
    [
        ("qwen3", {}, "its keys are normalised head by head before their rotation"),
        ("llama", {"num_key_value_heads": 4}, "it has no grouped queries"),
        ("llama", {"num_key_value_heads": 1}, "it has no grouped queries, or one key-value head already"),
        ("phi3", {}, "has no projections of queries, keys and values apart"),
    ],
)
def test_models_whose_heads_do_not_merge_are_refused_with_the_reason(
    kind: str, more: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model = load(tmp_path, kind, **more)
    with pytest.raises(ModelError, match=reason) as error:
        merging.find_pairs(model)
    assert "\n" not in str(error.value)


def test_the_proof_tells_halves_from_neighbours(tmp_path: Path) -> None:
    model = load(tmp_path, "llama")
    every = np.arange(8)
    neighbours = merging.Pairs(every[::2], every[1::2])
    assert not merging._is_proven(model, find_parts(model), neighbours)
