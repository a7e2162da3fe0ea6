"""Load a pruned transformer: layers with their own numbers of heads, from a folder beside this file.

Needs torch, transformers and safetensors, nothing else, and runs no code from the folder:

    from load_pruned import load_pruned
    model = load_pruned("folder")           # a transformers model in eval mode, smaller than its original
    model(**tokenizer("a text", return_tensors="pt")).logits

transformers itself cannot load such weights, because it gives every layer the same number of heads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
)

SCHEMA = "cahp.compact/1"
#: What a network ends in, and the class of transformers that builds it so.
HEADS: dict[str, Any] = {
    "classification": AutoModelForSequenceClassification,
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
}


def load_pruned(folder: str | Path = Path(__file__).parent, *, attn_implementation: str | None = None) -> Any:
    """The pruned network in ``folder``, in eval mode, with float32 weights.

    Its ``config.json`` holds, under ``cahp``: ``head``, what it ends in (a classifier's if it does not say); ``kept``,
    the heads that each layer has left, numbered as in the original; ``attributes``, numbers of heads and channels that
    some attention modules need to know; and ``position_bias``, which planes of a shared bias on attention scores some
    of them need.

    Raises:
        ValueError: If the folder holds no pruned model, or its files do not belong together.
    """
    folder = Path(folder)
    plan = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("cahp") or {}
    if plan.get("schema") != SCHEMA:
        raise ValueError(f"{folder} holds no pruned model of the schema {SCHEMA}")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    network = HEADS[plan.get("head", "classification")].from_config(config, **options)
    if (folder / "generation_config.json").is_file():
        network.generation_config = GenerationConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        _place(network, name, tensor)
    _check_complete(network, set(weights))
    for path, attributes in plan["attributes"].items():
        for name, value in attributes.items():
            setattr(network.get_submodule(path), name, value)
    for path, kept in plan["position_bias"].items():
        network.get_submodule(path).register_forward_pre_hook(_biased(kept))
    return network.eval()


def _place(network: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    there = getattr(module, leaf, None)
    if not isinstance(there, torch.Tensor):
        raise ValueError(f"the weights hold {name}, which the model has no place for")  # noqa: TRY004
    if there.shape == tensor.shape:
        # In place, so that weights that are shared stay shared.
        with torch.no_grad():
            there.copy_(tensor)
        return
    setattr(module, leaf, nn.Parameter(tensor, requires_grad=False))
    if leaf == "weight" and isinstance(module, nn.Linear):
        module.out_features, module.in_features = tensor.shape
    elif leaf == "weight" and hasattr(module, "nf"):
        # GPT-2 stores its weights the other way round.
        for size, value in zip(("nx", "nf"), tensor.shape, strict=True):
            setattr(module, size, value)


def _check_complete(network: nn.Module, names: set[str]) -> None:
    state = network.state_dict(keep_vars=True)
    loaded = {tensor.data_ptr() for name, tensor in state.items() if name in names}
    missing = [name for name, tensor in state.items() if name not in names and tensor.data_ptr() not in loaded]
    if missing:
        raise ValueError(f"the weights lack {missing[0]}")


def _biased(kept: list[int]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*args[:2], args[2][:, kept], *args[3:])

    return hook
