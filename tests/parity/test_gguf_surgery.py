"""A quantised file is cut without unpacking: kept blocks are equal, and the rest says what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import gguf_files
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from transformers import AutoConfig, AutoModelForCausalLM

from cahp import models
from cahp.exports import formats
from cahp.exports.checkpoints import write
from cahp.exports.form import Pruned
from cahp.models.head_model import HeadModel
from cahp.models.run_gguf import read_gguf
from cahp.models.surgery import cut
from cahp.models.to_gguf import _quantise, save_gguf
from cahp.values import HeadMask, OptionError

pytestmark = pytest.mark.usefixtures("one_thread", "read_back_here")

UNEVEN = HeadMask(np.array([[True, True], [False, True]]))
EVEN = HeadMask(np.array([[True, False], [False, True]]))
EMPTY = HeadMask(np.array([[True, True], [False, False]]))


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
    made = save_gguf(tmp_path / "cut.gguf", pruned, mask, types=True)
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
    made = save_gguf(tmp_path / "cut.gguf", pruned, EVEN, types=True)
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
    made = save_gguf(tmp_path / "cut.gguf", cut(model, EVEN), EVEN, types=True)
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
