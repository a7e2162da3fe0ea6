"""Build a network from the files of a checkpoint of the type ``nemotron-nas``.

transformers has no class of this type. The text of this file runs in a fresh process that cannot import the package
around it: it proves that the written configuration and weights mean the model in memory.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer


class RemovedAttention(nn.Module):
    """The attention of a layer without one."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        """Add nothing to the residual stream."""
        return torch.zeros_like(hidden_states), None


def read_nemotron_nas(folder: Path) -> LlamaForCausalLM:
    """Build the network in ``folder`` from Llama's layers, in eval mode.

    Raises:
        ValueError: If configuration and weights do not fit together.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    blocks = config.pop("block_configs")
    for entry in ("model_type", "architectures", "rope_theta", "rope_scaling"):
        config.pop(entry, None)
    network = LlamaForCausalLM(LlamaConfig(**{**config, "num_hidden_layers": 0}))
    for place, block in enumerate(blocks):
        sizes = copy.deepcopy(network.config)
        width = int(2 * block["ffn"]["ffn_mult"] * config["hidden_size"] / 3)
        sizes.intermediate_size = width + -width % 256
        if not block["attention"]["no_op"]:
            sizes.num_key_value_heads = config["num_attention_heads"] // block["attention"]["n_heads_in_group"]
        layer = LlamaDecoderLayer(sizes, place)
        if block["attention"]["no_op"]:
            layer.input_layernorm = nn.Identity()
            layer.self_attn = RemovedAttention()
        network.model.layers.append(layer)
    network.config.num_hidden_layers = len(blocks)
    found = network.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    tied = config["tie_word_embeddings"] and found.missing_keys == ["lm_head.weight"]
    if found.unexpected_keys or (found.missing_keys and not tied):
        raise ValueError(f"configuration and weights differ: {found}")
    return network.eval()
