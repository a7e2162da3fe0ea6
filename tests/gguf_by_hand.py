"""Compute the logits of a language model from a GGUF file by the conventions of llama.cpp, step by step.

It shares nothing with the network in memory: it proves that the tensors and metadata of a written file mean that model.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

#: Architectures that rotate the two halves of a head; the others rotate neighbouring channels.
HALVES = ("qwen3",)


def _unpack(entry: Any) -> NDArray[np.float32]:
    """Return the weights of a stored tensor, whatever its type."""
    return np.array(dequantize(entry.data, entry.tensor_type), dtype=np.float32)


def read_gguf(file: Path) -> Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]:
    """Read a file; return a function from a batch (arrays by name) to the logits of all its tokens."""
    reader = GGUFReader(file)
    metadata = {name: field.contents() for name, field in reader.fields.items() if "tokenizer" not in name}
    tensors = {entry.name: torch.from_numpy(_unpack(entry)) for entry in reader.tensors}
    kind = metadata["general.architecture"]
    own = {name.removeprefix(f"{kind}."): value for name, value in metadata.items()}

    def per_layer(name: str) -> list[int]:
        value = own[name]
        if isinstance(value, list):
            return value
        return [value] * own["block_count"]

    heads = per_layer("attention.head_count")
    units = per_layer("attention.head_count_kv")
    size = own["attention.key_length"]
    epsilon = own["attention.layer_norm_rms_epsilon"]
    angles = own["rope.freq_base"] ** (-torch.arange(0, size, 2).float() / size)
    angles = angles / tensors.get("rope_freqs.weight", torch.ones(1))

    def normalise(values: Tensor, name: str) -> Tensor:
        return functional.rms_norm(values, (values.shape[-1],), tensors[f"{name}.weight"], epsilon)

    def linear(values: Tensor, name: str) -> Tensor:
        return functional.linear(values, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def rotate(values: Tensor, positions: Tensor) -> Tensor:
        turns = (positions[..., None].float() * angles)[:, None]
        # Of a pair's two channels: neighbours, or one in each half.
        apart = (-1, 2)
        axis = -1
        if kind in HALVES:
            apart = (2, -1)
            axis = -2
        left, right = values.reshape(*values.shape[:-1], *apart).unbind(axis)
        turned = torch.stack(
            [left * turns.cos() - right * turns.sin(), left * turns.sin() + right * turns.cos()], dim=axis
        )
        return turned.flatten(-2)

    def attend(hidden: Tensor, layer: int, positions: Tensor, allowed: Tensor) -> Tensor:
        entering = normalise(hidden, f"blk.{layer}.attn_norm")
        queries, keys, values = (
            linear(entering, f"blk.{layer}.attn_{name}").reshape(*hidden.shape[:2], count, size).transpose(1, 2)
            for name, count in (("q", heads[layer]), ("k", units[layer]), ("v", units[layer]))
        )
        if f"blk.{layer}.attn_q_norm.weight" in tensors:
            queries = normalise(queries, f"blk.{layer}.attn_q_norm")
            keys = normalise(keys, f"blk.{layer}.attn_k_norm")
        queries = rotate(queries, positions)
        group = heads[layer] // units[layer]
        keys = rotate(keys, positions).repeat_interleave(group, dim=1)
        values = values.repeat_interleave(group, dim=1)
        scores = (queries @ keys.transpose(-1, -2)) * size**-0.5
        weights = scores.masked_fill(~allowed[:, None], -torch.inf).softmax(-1)
        return hidden + linear((weights @ values).transpose(1, 2).flatten(-2), f"blk.{layer}.attn_output")

    def answer(batch: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        real = torch.from_numpy(batch["attention_mask"]).bool()
        positions = real.long().cumsum(1).sub(1).clamp(min=0)
        # A token that is no text attends to itself, so that its sums stay numbers.
        length = real.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool).tril() & real[:, None]
        allowed = allowed | torch.eye(length, dtype=torch.bool)
        with torch.inference_mode():
            hidden = tensors["token_embd.weight"][torch.from_numpy(batch["input_ids"])]
            for layer in range(own["block_count"]):
                if heads[layer]:
                    hidden = attend(hidden, layer, positions, allowed)
                entering = normalise(hidden, f"blk.{layer}.ffn_norm")
                gate = functional.silu(linear(entering, f"blk.{layer}.ffn_gate"))
                hidden = hidden + linear(gate * linear(entering, f"blk.{layer}.ffn_up"), f"blk.{layer}.ffn_down")
            head = tensors.get("output.weight", tensors["token_embd.weight"])
            return functional.linear(normalise(hidden, "output_norm"), head).numpy()

    return answer
