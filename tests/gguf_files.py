"""Tiny GGUF files: of a random network, as llama.cpp's converter writes them, or of any header."""

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
_LETTERS = [chr(code) for code in range(33, 127)]
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
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
#: The words of a tokenizer as Gemma has one, whose merges follow from them.
_PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *_LETTERS, "▁a", "▁b"]
_PIECES += [f"<unused{number}>" for number in range(len(_TOKENS) - len(_PIECES))]
#: Gemma 3 has two more norms in a layer, and other names for one.
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
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
    byte_level: bool = False,
    **more: int | str,
) -> Path:
    """Write a network as a GGUF file, its matrices in numbers of a ``kind``.

    ``without`` names tensors to leave out; ``byte_level`` gives Gemma a tokenizer of another kind; ``more`` are entries
    of metadata to add or change.
    """
    config = made.config
    is_gemma = config.model_type == "gemma3_text"
    architecture = architecture or ("gemma3" if is_gemma else config.model_type)
    names = {**_NAMES, **(_GEMMA if is_gemma else {})}
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
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        add(f"{architecture}.{name}", value)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base((rope["full_attention"] if is_gemma else rope)["rope_theta"])
    _add_tokenizer(writer, is_gemma=is_gemma and not byte_level)
    for name, weight in made.state_dict().items():
        stem, _, end = name.rpartition(".")
        if stem == "lm_head" and config.tie_word_embeddings:
            continue
        block = stem.split(".")
        short = names.get(stem) or f"blk.{block[2]}.{names['.'.join(block[3:])]}"
        if short in without:
            continue
        # Norms of Gemma are stored with the one that it adds to them.
        array = weight.numpy() + np.float32(is_gemma and "norm" in short)
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


def _add_tokenizer(writer: gguf.GGUFWriter, *, is_gemma: bool) -> None:
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    if is_gemma:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(_PIECES)
        writer.add_token_scores([float(-index) for index in range(len(_PIECES))])
        writer.add_token_types([control] * 4 + [normal] * (len(_PIECES) - 4))
        pad, eos, bos = 0, 1, 2
        writer.add_unk_token_id(3)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(_TOKENS)
        writer.add_token_types([normal] * (len(_TOKENS) - 1) + [control])
        writer.add_token_merges(list(_MERGES))
        pad = eos = bos = len(_TOKENS) - 1
    writer.add_pad_token_id(pad)
    writer.add_eos_token_id(eos)
    writer.add_bos_token_id(bos)


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
