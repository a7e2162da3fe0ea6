"""A pruned model as a GGUF file: what is written, read back by the package ``gguf`` and by llama.cpp's conventions.

A quantised file is cut without unpacking: kept blocks are equal, and the rest says what became of it.
"""

import importlib.util
from pathlib import Path
from typing import Any

import fakes
import gguf
import gguf_files
import numpy as np
import pytest
import torch
import zoo
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from gguf_by_hand import read_gguf
from transformers import AutoConfig, AutoModelForCausalLM

from cahp import models
from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, write
from cahp.exports.form import Pruned
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.models.to_gguf import _quantise, find_lost_part, refuse_gguf, save_gguf
from cahp.stages.recovery import mean_ablate
from cahp.values import HeadMask, OptionError

pytestmark = pytest.mark.usefixtures("one_thread", "read_back_here")

GGUF = formats.model_form("gguf")
EVEN, UNEVEN = HeadMask(np.array([[True, False], [False, True]])), HeadMask(np.array([[True, True], [False, True]]))
EMPTY = HeadMask(np.array([[True, True], [False, False]]))


def tiny(folder: Path, kind: str = "llama") -> HeadModel:
    """A model from a GGUF file: 2 layers of 4 query heads in 2 groups, with a tokenizer that merges bytes."""
    return models.load(str(gguf_files.write(folder / "model.gguf", gguf_files.network(kind))), device="cpu")


def export(model: HeadModel, mask: HeadMask, folder: Path) -> gguf.GGUFReader:
    write(GGUF, folder, Pruned(model, cut(model, mask), mask))
    return gguf.GGUFReader(folder / "model.gguf")


def metadata(reader: gguf.GGUFReader) -> dict[str, object]:
    return {name: field.contents() for name, field in reader.fields.items()}


def test_an_even_model_is_of_its_own_architecture_with_fewer_heads(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    reader = export(model, EVEN, tmp_path / "out")
    found, shapes = metadata(reader), {one.name: one.shape.tolist() for one in reader.tensors}
    assert found["general.architecture"] == "llama"
    assert [found[f"llama.attention.{name}"] for name in ("head_count", "head_count_kv", "key_length")] == [2, 1, 8]
    # The format lists columns first: 32 channels enter, 2 query heads of 8 leave.
    assert shapes["blk.0.attn_q.weight"] == [32, 16]
    assert shapes["blk.1.attn_k.weight"] == shapes["blk.1.attn_v.weight"] == [32, 8]
    assert shapes["blk.1.attn_output.weight"] == [16, 32]
    # The head shares the weights of the embeddings.
    assert "output.weight" not in shapes
    # transformers reads such a file by itself, and finds the pruned model.
    again = models.load(str(tmp_path / "out" / "model.gguf"), device="cpu")
    asked = torch.tensor([[1, 7, 30, 4]])
    pruned = cut(model, EVEN)
    torch.testing.assert_close(
        again.network(input_ids=asked).logits, pruned.network(input_ids=asked).logits, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("kind", "name"), [("qwen2", "llama"), ("qwen3", "qwen3")])
def test_an_even_qwen_is_of_an_architecture_that_takes_fewer_heads(kind: str, name: str, tmp_path: Path) -> None:
    assert metadata(export(tiny(tmp_path, kind), EVEN, tmp_path / "out"))["general.architecture"] == name


@pytest.mark.parametrize("mask", [UNEVEN, EMPTY], ids=["uneven", "a layer without heads"])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_layers_with_their_own_numbers_of_heads_are_listed(kind: str, mask: HeadMask, tmp_path: Path) -> None:
    model = tiny(tmp_path, kind)
    reader = export(model, mask, tmp_path / "out")
    found, names = metadata(reader), {one.name for one in reader.tensors}
    kept = list(mask.counts)
    assert found["general.architecture"] == "deci"
    assert found["deci.attention.head_count_kv"] == kept
    assert found["deci.attention.head_count"] == [2 * count for count in kept]
    assert ("blk.1.attn_norm.weight" in names) is (kept[1] > 0)
    # The logits of a batch with padding are those of the masked model.
    answer = read_gguf(tmp_path / "out" / "model.gguf")
    ids = np.array([[5, 6, 7, 8], [9, 10, 3, 3]])
    real = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    pruned = cut(model, mask).network(input_ids=torch.tensor(ids), attention_mask=torch.tensor(real)).logits
    found_logits = answer({"input_ids": ids, "attention_mask": real})
    assert np.abs(found_logits - pruned.detach().numpy())[real.astype(bool)].max() <= 1e-5 * pruned.abs().max()


def test_the_number_of_key_value_heads_of_a_layer_is_that_of_its_weights(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    whole = HeadMask(np.ones((2, 2), dtype=bool))
    merged = cut(model, whole)
    attention = merged.network.model.layers[0].self_attn
    # All four query heads share one key-value head.
    for name in ("k_proj", "v_proj"):
        setattr(attention, name, torch.nn.Linear(32, 8, bias=False))
    attention.num_key_value_groups = 4
    save_gguf(tmp_path / "out.gguf", merged, whole)
    found = metadata(gguf.GGUFReader(tmp_path / "out.gguf"))
    assert [found[f"deci.attention.head_count{end}"] for end in ("", "_kv")] == [[4, 4], [1, 2]]
    ids = np.array([[5, 6, 7, 8]])
    expected = merged.network(input_ids=torch.tensor(ids)).logits.detach().numpy()
    found_logits = read_gguf(tmp_path / "out.gguf")({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert np.abs(found_logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_tokenizer_of_a_folder_travels_with_its_merges_and_special_tokens(tmp_path: Path) -> None:
    # A converted file is a folder like any other, which has the tokenizer of its source.
    model = models.load(tiny(tmp_path).card.folder, device="cpu")
    assert model.card.source is None
    found, source = metadata(export(model, EVEN, tmp_path / "out")), metadata(gguf.GGUFReader(tmp_path / "model.gguf"))
    assert found["tokenizer.ggml.tokens"] == source["tokenizer.ggml.tokens"]
    assert found["tokenizer.ggml.merges"] == source["tokenizer.ggml.merges"]
    assert found["tokenizer.ggml.token_type"] == source["tokenizer.ggml.token_type"]
    assert found["tokenizer.ggml.eos_token_id"] == source["tokenizer.ggml.eos_token_id"]
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")


def test_a_mean_ablation_is_written_as_a_bias_where_llama_cpp_reads_one(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    pruned = mean_ablate(model, EVEN, ["ab a b", "bb a"])
    write(GGUF, tmp_path / "out", Pruned(model, pruned, EVEN), provenance=Provenance(recovery="mean"))
    assert "blk.0.attn_output.bias" in {one.name for one in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors}
    assert "no bias" in str(refuse_gguf(tiny(tmp_path, "qwen3").card, EVEN, adder="mean ablation"))


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("gemma", {}, "is written for llama, mistral, qwen2, qwen3"),
        ("mistral", {"sliding_window": 8}, "it has a sliding window"),
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rotary positions of the kind dynamic"),
        ("llama", {"mlp_bias": True}, "it has biases in its feed-forward blocks"),
        ("llama", {}, "its tokenizer does not merge bytes"),
    ],
)
def test_what_the_form_changes_is_refused(kind: str, options: dict[str, object], reason: str, tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, **options}
    card = models.identify(str(fakes.save_language_model(tmp_path / "model", family=kind, **shape)))
    assert reason in str(refuse_gguf(card))
    with pytest.raises(OptionError, match=r"cannot be exported as gguf, since .*; export it as compact"):
        formats.check_export(GGUF, card)


@pytest.mark.parametrize("scaling", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("kind", ["rope_type", "type"])
def test_rotary_positions_are_found_by_their_older_names_too(scaling: str, kind: str) -> None:
    config = {scaling: {kind: "dynamic", "factor": 4.0}}
    assert find_lost_part(config) == "rotary positions of the kind dynamic"


def test_an_empty_layer_whose_output_has_a_bias_is_refused(tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    folder = fakes.save_language_model(tmp_path / "model", family="llama", attention_bias=True, **shape)
    assert "a layer without attention has no bias" in str(refuse_gguf(models.identify(str(folder)), EMPTY))


def test_norms_of_queries_and_a_classifier_s_head_are_what_the_format_lacks(tmp_path: Path) -> None:
    card = tiny(tmp_path, "qwen3").card
    assert refuse_gguf(card, EVEN) is None
    assert "choose heads with --even" in str(refuse_gguf(card, UNEVEN))
    classifier = models.identify(str(zoo.save(tmp_path / "classifier", "llama")))
    assert refuse_gguf(classifier) == "llama.cpp runs causal language models only"


def wide(family: str) -> Any:
    """A random network whose groups are 32 channels wide: whole blocks of a quantised row."""
    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}
    options = {"intermediate_size": 64, "max_position_embeddings": 80, "rms_norm_eps": 1e-6, "head_dim": 16}
    config = AutoConfig.for_model(family, vocab_size=gguf_files.network().config.vocab_size, **shape, **options)
    made = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.2)
    return made.eval()


def quantised(folder: Path, kind: Type, family: str = "llama") -> HeadModel:
    return models.load(str(gguf_files.write(folder / "model.gguf", wide(family), kind)), device="cpu")


def logits(file: Path, model: HeadModel) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The logits of a file, and those of the model in memory."""
    ids = np.array([[40, 50, 60, 70, 80]])
    found = read_gguf(file)({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return found, model.network(input_ids=torch.from_numpy(ids)).logits.numpy()


@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q4_1, Type.Q4_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("mask", [EVEN, UNEVEN, EMPTY], ids=["even", "uneven", "empty"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_what_stays_equals_the_source_byte_for_byte(tmp_path: Path, kind: Type, mask: HeadMask, family: str) -> None:
    model = quantised(tmp_path, kind, family)
    pruned = cut(model, mask)
    made = save_gguf(tmp_path / "cut.gguf", pruned, mask, kind="source")
    before = {one.name: one for one in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    after = {one.name: one for one in gguf.GGUFReader(tmp_path / "cut.gguf").tensors}
    assert made == f"{len(after)} tensors equal those of the source, block by block"
    for name, one in after.items():
        assert one.tensor_type == before[name].tensor_type
        assert set(np.unique(one.data)) <= set(np.unique(before[name].data))
    # The rows of the second group of values of layer 1, and its columns of the output.
    if mask is not EMPTY:
        value, output = "blk.1.attn_v.weight", "blk.1.attn_output.weight"
        assert np.array_equal(after[value].data, before[value].data[16:])
        half = before[output].data.shape[1] // 2
        assert np.array_equal(after[output].data, before[output].data[:, half:])
    found, expected = logits(tmp_path / "cut.gguf", pruned)
    assert np.abs(found - expected).max() <= 1e-4
    # Smaller by what was cut.
    cut_bytes = sum(one.data.nbytes for one in before.values()) - sum(one.data.nbytes for one in after.values())
    assert cut_bytes > 0


def test_what_a_recovery_changed_is_quantised_anew_and_said(tmp_path: Path) -> None:
    model = quantised(tmp_path, Type.Q4_1)
    pruned = cut(model, EVEN)
    output = pruned.projection(0)
    output.replace(output.weight * 1.25, output.bias)
    made = save_gguf(tmp_path / "cut.gguf", pruned, EVEN, kind="source")
    assert str(made).endswith("block by block; quantised anew: 1 as Q4_1")
    (written,) = (
        one for one in gguf.GGUFReader(tmp_path / "cut.gguf").tensors if one.name == "blk.0.attn_output.weight"
    )
    error = np.abs(dequantize(written.data, written.tensor_type) - output.weight.numpy())
    assert 0 < error.max() < 0.1


def test_a_cut_through_a_block_is_quantised_anew(tmp_path: Path) -> None:
    # Groups of 16 channels are half of a block, so that a row of the output is too short for any block.
    network = gguf_files.network()
    model = models.load(str(gguf_files.write(tmp_path / "model.gguf", network, Type.Q8_0)), device="cpu")
    made = save_gguf(tmp_path / "cut.gguf", cut(model, EVEN), EVEN, kind="source")
    assert str(made).endswith("; quantised anew: 2 as F32")
    found, expected = logits(tmp_path / "cut.gguf", cut(model, EVEN))
    assert np.abs(found - expected).max() <= 1e-4


def test_a_type_that_cannot_be_written_becomes_8_bits() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 256)).astype(np.float32)
    packed, kind = _quantise(rows, Type.Q4_K)
    assert kind == Type.Q8_0
    assert np.abs(dequantize(packed, kind) - rows).max() < 0.02


def test_the_form_is_checked_in_a_new_process_and_says_what_it_wrote(tmp_path: Path) -> None:
    model = quantised(tmp_path, Type.Q8_0)
    form = formats.model_form("gguf-types")
    results = write(form, tmp_path / "out", Pruned(model, cut(model, UNEVEN), UNEVEN))
    assert results["agreement"] == 1.0
    count = len(gguf.GGUFReader(tmp_path / "out/model.gguf").tensors)
    assert results["note"] == f"{count} tensors equal those of the source, block by block"
    assert "equal those of the source" in (tmp_path / "out" / "README.md").read_text()


def test_a_model_from_another_source_has_no_types_to_keep(tmp_path: Path) -> None:
    gguf_files.network().save_pretrained(tmp_path / "folder")
    model = quantised(tmp_path, Type.Q8_0)
    card = model.card
    formats.check_export(formats.model_form("gguf-types"), card, EVEN)
    with pytest.raises(OptionError, match="its source is not a GGUF file"):
        formats.check_export(formats.model_form("gguf-types"), models.identify("minilm-bbc"), None)


@pytest.mark.nightly
@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python, which is built from source, is missing"
)
@pytest.mark.parametrize(
    ("kind", "mask"),
    [
        *(("llama", mask) for mask in (EVEN, UNEVEN, EMPTY)),
        *(("qwen2", mask) for mask in (EVEN, UNEVEN)),
        ("qwen3", EVEN),
    ],
)
def test_llama_cpp_predicts_what_the_masked_model_predicts(kind: str, mask: HeadMask, tmp_path: Path) -> None:
    from llama_cpp import Llama

    model = tiny(tmp_path, kind)
    export(model, mask, tmp_path / "out")
    ids = np.random.default_rng(0).integers(0, model.network.config.vocab_size, 64)
    runtime = Llama(str(tmp_path / "out" / "model.gguf"), n_ctx=128, logits_all=True, type_k=0, type_v=0, verbose=False)
    runtime.eval(ids.tolist())
    found = np.array(runtime.scores[: len(ids)])
    expected = cut(model, mask).network(input_ids=torch.tensor(ids[None])).logits[0].detach().numpy()
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert np.abs(found - expected).max() <= 1e-3 * max(1.0, np.abs(expected).max())
