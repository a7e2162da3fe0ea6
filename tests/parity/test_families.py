"""The most common architectures, each on a tiny random model: gates, surgery, reload, signatures, a whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from fakes import prune
from torch import nn
from transformers import AutoModelForSequenceClassification

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.saving import save_network
from cahp.models.surgery import cut, restore_shapes, tail
from cahp.run.settings import Settings
from cahp.stages.signatures import collect
from cahp.store import Store
from cahp.values import HeadMask, OptionError, Texts

TOLERANCE = 1e-5


@pytest.fixture(
    scope="module",
    params=[
        kind if kind in fakes.SAMPLE else pytest.param(kind, marks=pytest.mark.nightly) for kind in sorted(fakes.SHAPES)
    ],
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    folder = fakes.save_model(tmp_path_factory.mktemp("model"), request.param)
    return models.load(str(folder), device="cpu")


def uneven(model: HeadModel, seed: int) -> HeadMask:
    random = np.random.default_rng(seed)
    keep = random.random((model.layers, model.heads)) < 0.5
    keep[np.arange(model.layers), random.integers(model.heads, size=model.layers)] = True
    return HeadMask(keep)


def answers(model: HeadModel, texts: Texts, mask: HeadMask | None = None) -> torch.Tensor:
    gates = None if mask is None else model.gates(mask.keep)
    logits = torch.zeros(len(texts), len(texts.classes))
    for batch in model.batches(model.tokenize(texts.inputs)):
        logits[batch.rows] = model.logits(batch, gates=gates)
    return logits


@pytest.mark.parametrize("pairs", [False, True])
def test_padding_and_batching_do_not_change_an_answer(model: HeadModel, pairs: bool) -> None:
    texts = fakes.sentences(20, pairs=pairs)
    together = answers(model, texts)
    alone = torch.cat([answers(model, texts.take([row])) for row in range(len(texts))])
    assert torch.allclose(together, alone, atol=TOLERANCE)


def test_the_answers_are_those_of_the_library_itself(model: HeadModel) -> None:
    plain = AutoModelForSequenceClassification.from_pretrained(model.card.folder, attn_implementation="eager").eval()
    (batch,) = model.batches(model.tokenize(fakes.sentences(12).inputs))
    with torch.no_grad():
        expected = plain(**batch.tensors).logits
    assert torch.allclose(model.logits(batch), expected, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(4))
def test_masked_cut_and_reloaded_answer_alike(model: HeadModel, seed: int, tmp_path: Path) -> None:
    texts, mask = fakes.sentences(16), uneven(model, seed)
    masked = answers(model, texts, mask)
    pruned = cut(model, mask)
    assert pruned.head_counts == mask.counts
    assert torch.allclose(answers(pruned, texts), masked, atol=TOLERANCE)
    save_network(restore_shapes(model, pruned, mask), model.tokenizer, tmp_path / "saved")
    reloaded = models.load(str(tmp_path / "saved"), device="cpu")
    assert torch.allclose(answers(reloaded, texts), masked, atol=TOLERANCE)


def test_cutting_leaves_the_model_as_it_was(model: HeadModel) -> None:
    texts = fakes.sentences(8)
    before, weights = answers(model, texts), model.parameters
    pruned = cut(model, uneven(model, 1))
    answers(pruned, texts)
    assert torch.equal(answers(model, texts), before)
    assert model.parameters == weights > pruned.parameters


def test_probed_weights_are_the_library_s_attention(model: HeadModel) -> None:
    plain = AutoModelForSequenceClassification.from_pretrained(model.card.folder, attn_implementation="eager").eval()
    (batch,) = model.batches(model.tokenize(fakes.sentences(6).inputs))
    with torch.no_grad():
        out = plain(**batch.tensors, output_attentions=True)
    maps = torch.stack(out.encoder_attentions if hasattr(out, "encoder_attentions") else out.attentions)
    # A layer that serves several passes shows their mean, heads that share keys and values show theirs.
    passes, group = len(maps) // model.layers, model.card.group
    expected = maps.unflatten(0, (model.layers, passes)).mean(1).unflatten(2, (model.heads, group)).mean(3)
    seen: dict[int, torch.Tensor] = {}
    probed = model.logits(batch, probe=lambda layer, weights: seen.update({layer: weights}))
    assert torch.allclose(probed, model.logits(batch), atol=TOLERANCE)
    real = batch.tensors["attention_mask"].bool()[:, None, :, None]
    for layer in range(model.layers):
        assert torch.allclose(seen[layer] * real, expected[layer] * real, atol=TOLERANCE)


def test_a_tail_goes_on_where_the_layers_before_it_stopped(model: HeadModel) -> None:
    (batch,) = model.batches(model.tokenize(fakes.sentences(9).inputs))
    gates = model.gates(uneven(model, 2).keep)
    whole, state = model.logits(batch, gates=gates), model.enter(batch)
    for layer in range(model.layers):
        rest = tail(model, layer)
        assert (rest is not None) is model.has_tails is (model.card.no_refit is None)
        if rest is not None:
            assert torch.allclose(rest.logits(batch, gates=gates, start=state.hidden), whole, atol=TOLERANCE)
        state = model.step(state, gates=gates)
    assert torch.equal(model.logits(batch, gates=gates), whole)


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
    settings = Settings(
        model=model.card.folder,
        data=str(data),
        budget="5",
        pool_size=8,
        recover="refit",
        latency_time="0.05s",
        device="cpu",
    )
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
