"""The cache of keys and values: as large as counted, smaller by the cut heads, and generation with it stays true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from cahp import models
from cahp.models.caching import decode_step, fill_cache
from cahp.models.cards import REFUSED
from cahp.models.head_model import HeadModel
from cahp.models.loading import load_model
from cahp.models.surgery import cut
from cahp.values import HeadMask

#: Fused, grouped, windowed, latent, normalised over all heads, one key for all heads, with sinks, and hybrid.
SAMPLE = ("gpt2", "llama", "gemma2", "deepseek_v3", "olmo2", "gpt_bigcode", "gpt_oss", "jamba")
#: Encoders and parts of other models, which are no causal language models; one whose tokenizer joins the test's words.
NOT_CAUSAL = {
    *("bart", "bert", "bigbird_pegasus", "camembert", "electra", "mbart", "mvp", "plbart", "roberta", "xlm"),
    *("xlm-roberta", "qwen2"),
}
TYPES = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(zoo.TYPES) - {*REFUSED, *NOT_CAUSAL})
#: Types that cache more than keys and values, or nothing; among these are encoders with the head of a decoder.
UNCOUNTED = {
    *("axk2", "openai-gpt"),
    *("big_bird", "data2vec-text", "ernie", "megatron-bert", "rembert", "roberta-prelayernorm", "roc_bert"),
    *("roformer", "xlm-roberta-xl", "xmod"),
}
TOKENS = 5


def language_model(folder: Path, kind: str) -> HeadModel:
    logging.disable_progress_bar()
    prompt = models.make_prompt("{text} it was", ("good", "bad"))
    return load_model(models.identify(str(zoo.save_language_model(folder, kind)), prompt=prompt))


def uneven(model: HeadModel) -> HeadMask:
    keep = np.zeros((model.layers, model.heads), dtype=np.bool_)
    for layer in range(model.layers):
        keep[layer, : 1 + layer % model.heads] = True
    return HeadMask(keep[:, ::-1].copy())


def cached_bytes(network: Any, tokens: torch.Tensor) -> int:
    layers = network(input_ids=tokens, use_cache=True).cache.layers
    tensors = (getattr(layer, name, None) for layer in layers for name in ("keys", "values"))
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


@pytest.mark.parametrize(
    "kind", [kind if kind in SAMPLE else pytest.param(kind, marks=pytest.mark.nightly) for kind in TYPES]
)
def test_the_cache_has_the_size_that_is_counted_and_a_step_reads_it(kind: str, tmp_path: Path) -> None:
    model = language_model(tmp_path, kind)
    shape, mask = model.card.cache, uneven(model)
    if kind in UNCOUNTED:
        assert shape is None
        return
    tokens, full = torch.tensor([[7, 9, 11, 13, 15]]), HeadMask.full(model.layers, model.heads)
    pruned = cut(model, mask)
    for one, kept in ((model, full), (pruned, mask)):
        assert cached_bytes(one.network, tokens) == 5 * shape.per_token(kept) == shape.of_context(kept, 5)
        # With a cache that was filled at random, a step of any type runs, and leaves it as it was.
        cache = fill_cache(one, tokens[:, :1], context=20)
        decode_step(one, tokens[:, :1], cache)
        stored = [layer.keys.shape[-2] for layer in cache.layers if getattr(layer, "keys", None) is not None]
        assert max(stored) <= 20


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt_oss"])
def test_a_cut_model_with_uneven_layers_writes_on_with_its_cache_as_without(kind: str, tmp_path: Path) -> None:
    model = language_model(tmp_path, kind)
    pruned = cut(model, uneven(model)).network
    given = torch.tensor([[7, 9, 11, 13, 15]])
    written = pruned.generate(given, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert torch.equal(written, fakes.write_on(pruned, given, 12))


def test_the_counted_share_of_attention_in_the_weights_is_that_of_its_projections(tmp_path: Path) -> None:
    model = language_model(tmp_path, "llama")
    # Two layers: 4 query heads of 8 channels in 2 groups, so 2 x 32 x 32 and 2 x 16 x 32 weights each.
    assert model.card.details["attention"] == 2 * (2 * 32 * 32 + 2 * 16 * 32)
    assert model.card.attention_weights == 6144 / model.card.details["parameters"]
