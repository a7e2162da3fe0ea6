"""The logits of a language model from a GGUF file by the conventions of llama.cpp, with no code of its network."""

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


def read_gguf(file: Path) -> Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]:
    """Read a file; return a function from a batch (arrays by name, padded on the right) to the logits of its tokens."""
    reader = GGUFReader(file)
    metadata = {name: field.contents() for name, field in reader.fields.items() if "tokenizer" not in name}
    tensors = {one.name: torch.tensor(np.array(dequantize(one.data, one.tensor_type))) for one in reader.tensors}
    kind = metadata["general.architecture"]
    own = {name.removeprefix(f"{kind}."): value for name, value in metadata.items()}
    layers, size, epsilon = own["block_count"], own["attention.key_length"], own["attention.layer_norm_rms_epsilon"]
    heads, units = (np.broadcast_to(own[f"attention.head_count{end}"], layers).tolist() for end in ("", "_kv"))
    angles = own["rope.freq_base"] ** (-torch.arange(0, size, 2).float() / size)
    angles = angles / tensors.get("rope_freqs.weight", torch.ones(1))
    # Of a pair's two channels: one in each half, or neighbours.
    apart, axis = ((2, -1), -2) if kind == "qwen3" else ((-1, 2), -1)

    def normalise(values: Tensor, name: str) -> Tensor:
        return functional.rms_norm(values, (values.shape[-1],), tensors[f"{name}.weight"], epsilon)

    def linear(values: Tensor, name: str) -> Tensor:
        return functional.linear(values, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def rotate(values: Tensor) -> Tensor:
        turns = torch.arange(values.shape[2])[:, None] * angles
        left, right = values.reshape(*values.shape[:-1], *apart).unbind(axis)
        turned = [left * turns.cos() - right * turns.sin(), left * turns.sin() + right * turns.cos()]
        return torch.stack(turned, dim=axis).flatten(-2)

    def attend(hidden: Tensor, block: str, layer: int) -> Tensor:
        entering = normalise(hidden, f"{block}.attn_norm")
        queries, keys, values = (
            linear(entering, f"{block}.attn_{name}").reshape(*hidden.shape[:2], count, size).transpose(1, 2)
            for name, count in (("q", heads[layer]), ("k", units[layer]), ("v", units[layer]))
        )
        if f"{block}.attn_q_norm.weight" in tensors:
            queries, keys = normalise(queries, f"{block}.attn_q_norm"), normalise(keys, f"{block}.attn_k_norm")
        keys, values = (part.repeat_interleave(heads[layer] // units[layer], dim=1) for part in (rotate(keys), values))
        scores = rotate(queries) @ keys.transpose(-1, -2) * size**-0.5
        weights = (scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)).softmax(-1)
        return linear((weights @ values).transpose(1, 2).flatten(-2), f"{block}.attn_output")

    def answer(batch: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        hidden = tensors["token_embd.weight"][torch.from_numpy(batch["input_ids"])]
        for layer in range(layers):
            block = f"blk.{layer}"
            if heads[layer]:
                hidden = hidden + attend(hidden, block, layer)
            entering = normalise(hidden, f"{block}.ffn_norm")
            gate = functional.silu(linear(entering, f"{block}.ffn_gate"))
            hidden = hidden + linear(gate * linear(entering, f"{block}.ffn_up"), f"{block}.ffn_down")
        head = tensors.get("output.weight", tensors["token_embd.weight"])
        return functional.linear(normalise(hidden, "output_norm"), head).numpy()

    return answer
