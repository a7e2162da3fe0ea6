"""Write a language model whose layers keep all heads or none as a checkpoint of the type ``nemotron-nas``.

Its configuration describes each layer: no attention, or so many query heads for each key-value head. vLLM, SGLang,
MLX and the converter of llama.cpp read it (``DeciLMForCausalLM``). All layers with attention have the same number of
query heads, and the width of the feed-forward blocks is a multiple of 256.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cahp.models import configuration_nemotron_nas
from cahp.models.cards import ModelCard
from cahp.models.description import output_head
from cahp.models.head_model import HeadModel
from cahp.models.matching import SERVED
from cahp.models.stored import in_float32
from cahp.models.to_gguf import find_lost_part
from cahp.models.weights import CONFIG, WEIGHTS, name_rotation, read_json
from cahp.values import HeadMask

#: The subfolder with a configuration that names its class, for readers that know the type by that class only.
#: transformers would ask whether it may run the class if the configuration beside the weights named it.
CLASSED = "vllm"
#: Model types of transformers whose layers are Llama's, but for biases.
_FAMILIES = ("llama", "mistral", "qwen2")
#: Readers round the width of a feed-forward block up to a multiple of this.
_WIDTH = 256
#: Readers round ``ffn_mult`` to millionths.
_SCALE = 1_000_000
#: Entries that mean the same in Llama's configuration.
_SHARED = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "rms_norm_eps", "vocab_size"),
    *("max_position_embeddings", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"),
    "initializer_range",
)


def refuse_nemotron_nas(card: ModelCard, mask: HeadMask | None = None, *, adder: str = "") -> str | None:
    """Return why a model cannot be a checkpoint of this type, as a clause (None: it can).

    ``adder`` is the noun of a recovery that adds a bias to output projections without one (empty: it adds none). Of a
    model whose files are not located yet only its kind and its shape are known.
    """
    if output_head(card) != "causal":
        return "servers run causal language models only"
    reason = None
    if card.folder:
        reason = _refuse_model(card, mask)
    return reason or _refuse_mask(card, mask, adder)


def _refuse_model(card: ModelCard, mask: HeadMask | None) -> str | None:
    config = read_json(Path(card.folder) / CONFIG)
    if card.family not in _FAMILIES:
        return f"it is of the architecture {card.family}, and this form is written for {', '.join(_FAMILIES)}"
    lost = find_lost_part(config)
    if lost is not None:
        return f"it has {lost}, which this form leaves out"
    if card.hidden != card.heads * card.head_size:
        return (
            f"its {card.heads * card.group} heads have {card.heads * card.head_size} channels, and readers take the "
            f"width of the model for that ({card.hidden})"
        )
    width = int(config["intermediate_size"])
    if width % _WIDTH:
        return f"its feed-forward blocks are {width} wide, and readers round that up to a multiple of {_WIDTH}"
    if mask is not None and mask.empty_layers and config.get("attention_bias"):
        return "a layer without attention has no bias, and the output projections of this model have one"
    return None


def _refuse_mask(card: ModelCard, mask: HeadMask | None, adder: str) -> str | None:
    if mask is None:
        return None
    if not mask.count:
        return "readers need attention in at least one layer"
    for layer, kept in enumerate(mask.counts):
        if kept not in (0, card.heads):
            return (
                f"each layer must keep all heads or none, and layer {layer} keeps {kept} of {card.heads}; choose them "
                f"with --method fisher-layers --min-per-layer 0 and a budget that is a multiple of {card.heads}, or "
                "with --even for --format standard"
            )
    if mask.empty_layers and adder:
        return f"a layer without attention has no bias, and {adder} needs one; use --recover refit"
    return None


def save_nemotron_nas(folder: Path, pruned: HeadModel) -> str | None:
    """Save a network whose layers have all query heads or none; return what some readers need, if it lacks that.

    The number of key-value heads of each layer is that of its weights.
    """
    network = in_float32(pruned.network)
    blocks = [_describe_block(layer, network.config) for layer in network.model.layers]
    weights = dict(_name_weights(network, blocks))
    config = network.config
    rotation = dict(config.rope_parameters)
    content = {
        "architectures": ["DeciLMForCausalLM"],
        "model_type": SERVED,
        **{name: getattr(config, name) for name in _SHARED},
        "attention_bias": any(".self_attn." in name and name.endswith(".bias") for name in weights),
        "mlp_bias": False,
        "rope_parameters": rotation,
        "dtype": "float32",
        "block_configs": blocks,
    }
    unclassed = {**content, **name_rotation(rotation)}
    named = {"AutoConfig": "configuration_nemotron_nas.NemotronNasConfig"}
    (folder / CLASSED).mkdir()
    for place, entries in ((folder, unclassed), (folder / CLASSED, {**content, "auto_map": named})):
        (place / CONFIG).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    shutil.copy(configuration_nemotron_nas.__file__, folder / CLASSED)
    network.generation_config.save_pretrained(folder)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    if blocks[0]["attention"]["no_op"]:
        return "vLLM and SGLang need attention in the first layer, which this mask removes; MLX does not"
    return None


def _describe_block(layer: Any, config: Any) -> dict[str, Any]:
    """Return the entry of a layer in ``block_configs``."""
    keys = len(layer.self_attn.k_proj.weight) // layer.self_attn.head_dim
    attention: dict[str, Any] = {"no_op": True}
    if keys:
        attention = {"no_op": False, "n_heads_in_group": config.num_attention_heads // keys}
    factor = choose_factor(len(layer.mlp.up_proj.weight), config.hidden_size)
    return {"attention": attention, "ffn": {"no_op": False, "ffn_mult": factor}}


def choose_factor(width: int, hidden: int) -> float:
    """Return the ``ffn_mult`` from which readers compute the ``width`` of a feed-forward block.

    They compute ``2 * factor * hidden / 3`` and round it up to a multiple of 256, so the factor is rounded down.
    """
    return (_SCALE * 3 * width // (2 * hidden)) / _SCALE


def _name_weights(network: Any, blocks: list[dict[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a network by their names in the checkpoint, with zeros for missing biases of attention."""
    weights = network.state_dict()
    biased = any(".self_attn." in name and name.endswith(".bias") for name in weights)
    for name, tensor in weights.items():
        stem, _, end = name.rpartition(".")
        if stem == "lm_head" and network.config.tie_word_embeddings:
            continue
        _, _, part = stem.partition(".layers.")
        place, _, part = part.partition(".")
        attends = part.startswith(("self_attn.", "input_layernorm"))
        if attends and blocks[int(place)]["attention"]["no_op"]:
            continue
        yield name, tensor.contiguous()
        bias = f"{stem}.bias"
        if biased and part.startswith("self_attn.") and end == "weight" and bias not in weights:
            yield bias, torch.zeros(len(tensor))
