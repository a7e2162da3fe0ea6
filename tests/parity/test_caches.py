"""The cache of keys and values: as large as counted, smaller by the cut heads, and generation with it stays true.

As ONNX reads and writes with it: one graph, each layer with its own number of heads.
"""

import re
from pathlib import Path
from typing import Any

import fakes
import guide
import numpy as np
import pytest
import torch
import zoo
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from cahp import models
from cahp.exports import formats
from cahp.exports.checkpoints import write
from cahp.exports.form import Pruned
from cahp.models import saving, to_onnx
from cahp.models.caching import decode_step, fill_cache
from cahp.models.cards import NO_ONNX, NO_ONNX_CACHE, REFUSED
from cahp.models.compact import load_pruned
from cahp.models.head_model import HeadModel
from cahp.models.loading import load_model
from cahp.models.saving import compare_writing
from cahp.models.surgery import cut
from cahp.stages.latency import measure_onnx
from cahp.values import HeadMask, OptionError

pytestmark = pytest.mark.usefixtures("one_thread", "read_back_here")
#: PyTorch's exporter uses what PyTorch has replaced, and warns that axes with one name have one size.
EXPORTS = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:# The axis name.*:UserWarning"
)

ONNX = formats.model_form("onnx")
#: Two groups of two query heads in each of three layers; the first layer keeps none.
MASK = HeadMask(np.array([[False, False], [False, True], [True, True]]))
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
#: Types of language models whose graph with a cache is tried.
TRIED = sorted({*TYPES} - {*UNCOUNTED, *NO_ONNX, *NO_ONNX_CACHE, "doge"})


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


@pytest.mark.parametrize("kind", fakes.rarely(TYPES, SAMPLE))
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


@EXPORTS
def test_the_code_in_the_readme_writes_what_the_pruned_model_writes(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="what runs ONNX files is not installed")
    shape = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama", **shape)), device="cpu")
    pruned, out = cut(model, MASK), tmp_path / "out"
    results = write(ONNX, out, Pruned(model, pruned, MASK, fakes.sentences(9).inputs), seconds=None)
    assert results["difference"] <= 1e-5
    assert results["written"] == 20
    session = runtime.InferenceSession(str(out / "model.onnx"))
    stored = {entry.name: entry.shape for entry in session.get_inputs()[2:]}
    size = model.card.head_size // model.card.group
    # The cache shrinks with the heads of each layer.
    assert {name: heads for name, (_, heads, _, channels) in stored.items() if channels == size} == {
        f"past_key_values.{layer}.{part}": heads for layer, heads in ((1, 1), (2, 2)) for part in ("key", "value")
    }
    # A person runs the lines of the README.
    code = (out / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("FOLDER", str(out)), names)
    prompt = names["inputs"]["input_ids"]
    assert names["ids"].shape[1] == prompt.shape[1] + 20
    # Shorter texts are padded before their first token, and go on as alone.
    ids, mask = np.array([[5, 6, 7, 8], [0, 0, 9, 10]]), np.array([[1, 1, 1, 1], [0, 0, 1, 1]])
    written = names["write"](ids, mask, 12)
    for found, start in ((names["ids"][0], prompt[0]), (written[0], ids[0]), (written[1, 2:], ids[1, 2:])):
        expected = fakes.write_on(pruned.network, torch.tensor(start[None]), len(found) - len(start))
        assert found.tolist() == expected[0].tolist()
    # A batch is timed with an empty cache.
    file = out / "model.onnx"
    (batch,) = measure_onnx(pruned, [file, file], seconds=0.05)
    assert batch.full.batch == 8
    assert batch.ratio.n >= 3


def test_a_file_that_writes_another_text_is_off_by_what_its_tokens_lack(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path, family="llama")), device="cpu")
    greedy = """
def write(ids, mask, count):
    import numpy, torch
    from transformers import AutoModelForCausalLM
    network = AutoModelForCausalLM.from_pretrained(folder)
    for _ in range(count):
        logits = network(input_ids=torch.from_numpy(ids)).logits[:, -1].detach().numpy()
        ids = numpy.concatenate([ids, logits.argmax(-1)[:, None]], 1)
    return ids
"""
    assert compare_writing(tmp_path, greedy, model) == 0.0
    assert compare_writing(tmp_path, greedy.replace("argmax", "argmin"), model) > 0.1


def test_a_language_model_whose_cache_a_graph_cannot_have_is_refused_but_not_as_a_classifier(tmp_path: Path) -> None:
    card = language_model(tmp_path / "model", "mpt").card
    for form in ("onnx", "onnx-int8"):
        with pytest.raises(
            OptionError, match=r"as onnx.*, since its position bias .*; export it as compact or drop-in$"
        ):
            formats.check_export(formats.model_form(form), card)
    formats.check_export(ONNX, models.identify(str(zoo.save(tmp_path / "classifier", "mpt"))))


def test_the_guide_names_the_types_that_are_tried() -> None:
    named = guide.PAGES["assets/docs/do/export.md"].partition("types are tested")[2].partition(".")[0]
    assert re.findall(r"`(.+?)`", named) == TRIED


@EXPORTS
@pytest.mark.nightly
@pytest.mark.parametrize("kind", TRIED)
def test_each_type_reads_in_pieces_as_without_cache(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    made = zoo.configuration

    def with_window(kind: str, **more: Any) -> Any:
        config = made(kind, **more)
        if getattr(config, "sliding_window", None):
            # Shorter than the texts.
            config.sliding_window = 4
        return config

    monkeypatch.setattr(zoo, "configuration", with_window)
    model = language_model(tmp_path / "model", kind)
    mask = uneven(model)
    (tmp_path / "compact").mkdir()
    saving.save_compact(tmp_path / "compact", cut(model, mask), mask)
    network, file = load_pruned(tmp_path / "compact", attn_implementation="eager"), tmp_path / "model.onnx"
    to_onnx.write(network, {}, file, cached=True)
    names: dict[str, Any] = {"folder": tmp_path}
    exec(ONNX.reads, names)
    ids = np.random.default_rng(0).integers(4, network.config.vocab_size, (3, 12))
    for real in (np.arange(12) < [[12], [9], [1]], np.arange(12)[::-1] < [[12], [9], [7]]):
        found = names["answer"]({"input_ids": ids, "attention_mask": real.astype(np.int64)})
        for row, there in enumerate(real):
            with torch.no_grad():
                expected = network(input_ids=torch.tensor(ids[row, there][None]), use_cache=False).logits[0].numpy()
            assert np.abs(found[row, there] - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
