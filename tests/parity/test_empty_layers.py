"""Layers without heads: their attention is left out, and masked, cut and exported models give the same."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
import zoo

import cahp
from cahp import models
from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, write
from cahp.exports.form import Pruned
from cahp.models.caching import continue_greedily, decode_step, fill_cache
from cahp.models.cards import KvCache
from cahp.models.head_model import HeadModel
from cahp.models.surgery import can_cut, cut
from cahp.stages.recovery import mean_ablate, solve
from cahp.values import HeadMask, MaskError

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = fakes.sentences(12).inputs
#: Its first layer is without heads, whose cache tells the positions.
LANGUAGE, CLASSIFIERS = ("gpt2", "llama"), ("bart", "bert", "deberta-v2", "llama", "modernbert")


def first_empty(model: HeadModel) -> HeadMask:
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[0], keep[-1, 0] = False, False
    return HeadMask(keep)


def load(folder: Path, family: str, *, language: bool) -> HeadModel:
    save = fakes.save_language_model if language else fakes.save_model
    return models.load(str(save(folder, family=family)), device="cpu")


@pytest.mark.usefixtures("read_back_here")
@pytest.mark.parametrize(
    ("family", "language"), [*((one, True) for one in LANGUAGE), *((one, False) for one in CLASSIFIERS)]
)
def test_masked_cut_and_reloaded_models_give_the_same_logits(tmp_path: Path, family: str, language: bool) -> None:
    model = load(tmp_path / "model", family, language=language)
    mask = first_empty(model)
    pruned = cut(model, mask)
    (batch,) = model.batches(model.tokenize(TEXTS[:5]))
    masked = model.logits(batch, gates=model.gates(mask.keep))
    assert not torch.equal(masked, model.logits(batch))
    assert pruned.head_counts[0] == 0
    bound = 1e-5 * max(1.0, float(masked.abs().max()))
    assert float((pruned.logits(batch) - masked).abs().max()) <= bound
    for form in ("compact", "drop-in"):
        folder = tmp_path / form
        write(formats.model_form(form), folder, Pruned(model, pruned, mask, TEXTS), seconds=None)
        again = models.load(str(folder), device="cpu")
        assert float((again.logits(batch) - masked).abs().max()) <= bound, form
    assert again.head_counts == model.head_counts
    assert models.identify(str(tmp_path / "compact")).kept == tuple(map(tuple, mask.by_layer))


@pytest.mark.parametrize("family", [*LANGUAGE, "bert"])
def test_a_refit_and_a_mean_ablation_serve_layers_without_heads(tmp_path: Path, family: str) -> None:
    model = load(tmp_path, family, language=family in LANGUAGE)
    mask, (batch,) = first_empty(model), model.batches(model.tokenize(TEXTS))
    wanted = model.logits(batch)
    before, mean, refit = (
        float((made.logits(batch) - wanted).abs().mean())
        for made in (cut(model, mask), mean_ablate(model, mask, TEXTS), solve(model, mask, TEXTS))
    )
    assert refit < before
    assert mean < 1.5 * before


@pytest.mark.parametrize("family", LANGUAGE)
def test_text_is_generated_with_a_cache_that_holds_nothing_of_the_layer(tmp_path: Path, family: str) -> None:
    model = load(tmp_path, family, language=True)
    mask = first_empty(model)
    pruned = cut(model, mask)
    made = list(continue_greedily(pruned, [2, 5, 6, 7], 6))
    ids = fakes.write_on(pruned.network, torch.tensor([[2, 5, 6, 7]]), len(made))
    assert ids[0, 4:].tolist() == made
    for options in ({}, {"cache_implementation": "static"}):
        written = pruned.network.generate(ids[:, :4], max_new_tokens=3, do_sample=False, **options)
        assert written[0, 4:].tolist() == made[:3], options
    cache = fill_cache(pruned, ids[:, :1], context=9)
    sizes = [layer.keys.numel() for layer in cache.layers]
    assert sizes[0] == 0 < sizes[1]
    assert cache.get_seq_length() == 9
    decode_step(pruned, ids[:, :1], cache)
    counted = KvCache.of(model.card.cache, mask)
    assert counted.pruned == 2 * 4 * sum(sizes) // 9


def test_a_generating_model_with_an_empty_layer_is_loaded_elsewhere(tmp_path: Path, read_back_here: None) -> None:
    model = load(tmp_path / "model", "llama", language=True)
    mask = first_empty(model)
    pruned, form = cut(model, mask), formats.model_form("compact")
    # The name of a file that is no UTF-8.
    command = Provenance(command="cahp export --mask caf\udce9.json")
    write(form, tmp_path / "out", Pruned(model, pruned, mask, TEXTS), provenance=command, seconds=None)
    assert "caf\\udce9.json" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    network, ids = cahp.load_pruned(tmp_path / "out"), torch.tensor([[2, 5, 6, 7]])
    made = network.generate(ids, max_new_tokens=4, do_sample=False)[0, 4:].tolist()
    assert made == list(continue_greedily(pruned, [2, 5, 6, 7], 4))[: len(made)]


@pytest.mark.parametrize("kind", ["albert", "t5"])
def test_attention_that_does_more_cannot_be_left_out(tmp_path: Path, kind: str) -> None:
    """ALBERT's holds the residual, too, and T5's first one computes a bias for all layers."""
    model = models.load(str(zoo.save(tmp_path, kind)), device="cpu")
    mask = first_empty(model)
    assert not can_cut(model, mask)
    with pytest.raises(MaskError, match="cannot do without the attention of a layer"):
        cut(model, mask)
