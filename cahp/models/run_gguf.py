"""Read a GGUF file alone as a network of transformers, whose logits then follow from its tensors and metadata.

The text of this file runs in a fresh process that cannot import the package around it: it proves that a written file
holds the model in memory. The tests compute the logits of such files by the conventions of llama.cpp, step by step.
"""

from pathlib import Path
from typing import Any

import torch
from gguf import MODEL_ARCH, GGUFReader, get_tensor_name_map
from gguf.quants import dequantize
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM


def read_gguf(file: Path) -> Any:
    """Read the network in a file; layers may have their own numbers of heads."""
    reader = GGUFReader(file)
    fields = {name.partition(".")[2]: entry for name, entry in reader.fields.items() if "tokenizer" not in name}
    own = {name: entry.contents() for name, entry in fields.items()}
    tensors = {entry.name: dequantize(entry.data, entry.tensor_type) for entry in reader.tensors}
    size = own["attention.key_length"]
    # The architectures of Llama's layers rotate neighbouring channels of a head, and transformers its two halves.
    kind = "llama"
    if own["architecture"] == "qwen3":
        kind = "qwen3"
    # The numbers of heads are those of the weights.
    config = AutoConfig.for_model(
        kind,
        hidden_size=own["embedding_length"],
        intermediate_size=own["feed_forward_length"],
        num_hidden_layers=own["block_count"],
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=size,
        rms_norm_eps=own["attention.layer_norm_rms_epsilon"],
    )
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    names = get_tensor_name_map(MODEL_ARCH[own["architecture"].upper()], own["block_count"])
    tensors.setdefault("output.weight", tensors["token_embd.weight"])
    for path, module in network.named_modules():
        stored = str(names.get_name(path))
        for end in ("weight", "bias"):
            values = tensors.get(f"{stored}.{end}")
            if values is not None and kind == "llama" and stored.endswith(("attn_q", "attn_k")):
                values = values.reshape(-1, size // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
            if values is not None:
                module.register_parameter(end, nn.Parameter(torch.tensor(values), requires_grad=False))
    for layer in network.model.layers:
        attention = layer.self_attn
        if attention.k_proj.weight.is_meta:
            # It keeps no head.
            layer.input_layernorm = nn.Identity()
            attention.forward = lambda hidden_states, **_: (torch.zeros_like(hidden_states), None)
        else:
            attention.num_key_value_groups = len(attention.q_proj.weight) // len(attention.k_proj.weight)
    angles = own["rope.freq_base"] ** (-torch.arange(0, size, 2).float() / size)
    network.model.rotary_emb.inv_freq = angles / torch.tensor(tensors.get("rope_freqs.weight", 1.0))
    return network
