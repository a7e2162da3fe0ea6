"""Tiny GGUF files: of a random network, as llama.cpp's converter writes them, or of any header."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fakes
import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

#: Two answers of one token each, as the byte-level tokenizer spells them after a space.
ANSWERS = ("a", "b")
_MERGES = ("Ġ a", "Ġ b")
_TOKENS = [*bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in _MERGES), "<|end|>"]

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}


def network(family: str = "llama", *, tied: bool = True) -> Any:
    """A random network of ``family`` with 2 layers of 4 query heads in 2 groups."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(_TOKENS),
        intermediate_size=64,
        max_position_embeddings=80,
        rms_norm_eps=1e-6,
        tie_word_embeddings=tied,
        **_SHAPE,
    )
    made = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.25)
    return made.eval()


def write(
    path: Path,
    made: Any,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    *,
    architecture: str | None = None,
    without: Sequence[str] = (),
    **more: int,
) -> Path:
    """Write a network as a GGUF file, its matrices in numbers of a ``kind``.

    ``without`` names tensors to leave out; ``more`` are entries of metadata to add or change.
    """
    config = made.config
    architecture = architecture or config.model_type
    writer = gguf.GGUFWriter(path, architecture)
    sizes = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    for name, value in sizes.items():
        writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(_TOKENS)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(_TOKENS) - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges(list(_MERGES))
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(len(_TOKENS) - 1)
    for name, weight in made.state_dict().items():
        stem, _, end = name.rpartition(".")
        if stem == "lm_head" and config.tie_word_embeddings:
            continue
        block = stem.split(".")
        short = _NAMES.get(stem) or f"blk.{block[2]}.{_NAMES['.'.join(block[3:])]}"
        if short in without:
            continue
        array = weight.numpy()
        if architecture == "llama" and short.endswith(("attn_q", "attn_k")):
            # llama.cpp rotates neighbouring channels, transformers both halves.
            heads = config.num_attention_heads if short.endswith("q") else config.num_key_value_heads
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        plain = array.ndim < 2 or kind == gguf.GGMLQuantizationType.F32
        data = np.ascontiguousarray(array) if plain else gguf.quantize(array, kind)
        writer.add_tensor(f"{short}.{end}", data, raw_dtype=None if plain else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str | bytes) -> bytes:
    """A string of the format."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(key: str, kind: int, value: bytes) -> bytes:
    """An entry of metadata."""
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, dimensions: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    """A row of the table of tensors."""
    shape = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
    return text(name) + shape + struct.pack("<IQ", kind, offset)


ARCHITECTURE = entry("general.architecture", 8, text("llama"))


def raw(
    path: Path,
    entries: Sequence[bytes] = (ARCHITECTURE,),
    tensors: Sequence[bytes] = (tensor("a", [32]),),
    *,
    data: int = 128,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> Path:
    """Write a header of these parts and so many bytes of weights; ``counts`` of tensors and entries may be wrong."""
    head = b"GGUF" + struct.pack("<I", version) + struct.pack("<QQ", *(counts or (len(tensors), len(entries))))
    head += b"".join((*entries, *tensors))
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(data))
    return path


def prompted(path: Path) -> Any:
    """The card of a file with a prompt."""
    from cahp import models

    return models.identify(str(path), prompt=models.make_prompt(fakes.PROMPTS["causal"], ANSWERS))
