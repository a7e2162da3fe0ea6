"""Load a pruned transformer: layers with their own numbers of heads, from a folder beside this file.

It needs only torch, transformers and safetensors, and runs no code from the folder:

    from load_pruned import load_pruned
    model = load_pruned("folder")           # a transformers model in eval mode, smaller than its original
    model(**tokenizer("a text", return_tensors="pt")).logits

transformers itself cannot load such weights: its classes build all layers with the same number of heads.
"""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
)
from transformers.cache_utils import DynamicLayer, StaticLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

SCHEMA = "cahp.compact/2"
#: The start of the name under which transformers finds an attention function that leaves out cut heads.
_SELECTING = "cahp_selecting_"
#: The names of the cache of keys and values among the arguments of attention modules.
_CACHES = ("past_key_values", "past_key_value", "cache", "layer_past")
#: The class of transformers that builds a network, by its head.
HEADS: dict[str, Any] = {
    "classification": AutoModelForSequenceClassification,
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
}


def load_pruned(folder: str | Path = Path(__file__).parent, *, attn_implementation: str | None = None) -> Any:
    """Load the pruned network in ``folder``, in eval mode, with float32 weights.

    Its ``config.json`` holds these entries under ``cahp``: ``head``, the kind of the network's head (default: a
    classifier's); ``kept``, the kept heads of each layer, numbered as in the original; ``attributes``, the numbers of
    heads and channels that attention modules store; ``empty``, attention modules without heads with the options of
    ``empty_attention``; ``planes``, arguments with one plane of scores for each head, and the planes to keep; and
    ``selects``, the query heads to keep where queries, keys or a bias on scores are computed for all heads.

    Raises:
        ValueError: If the folder holds no pruned model, or its files do not belong together.
    """
    folder = Path(folder)
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    plan = content.get("cahp") or {}
    if plan.get("schema") != SCHEMA:
        raise ValueError(f"{folder} holds no pruned model of the schema {SCHEMA}")
    config = CONFIG_MAPPING[content["model_type"]].from_dict(content)
    options: dict[str, Any] = {"dtype": torch.float32}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    network = HEADS[plan.get("head", "classification")].from_config(config, **options)
    if (folder / "generation_config.json").is_file():
        network.generation_config = GenerationConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        _set_weights(network, name, tensor)
    state = network.state_dict(keep_vars=True)
    loaded = {tensor.data_ptr() for name, tensor in state.items() if name in weights}
    missing = [name for name, tensor in state.items() if name not in weights and tensor.data_ptr() not in loaded]
    if missing:
        raise ValueError(f"the weights lack {missing[0]}")
    for path, attributes in plan["attributes"].items():
        for name, value in attributes.items():
            set_size(network.get_submodule(path), name, value)
    for path, (output, entries) in plan.get("empty", {}).items():
        empty_attention(network.get_submodule(path), output, entries)
    for path, (argument, heads, kept) in plan.get("planes", {}).items():
        cut_planes(network.get_submodule(path), argument, heads, kept)
    selects = plan.get("selects", {})
    for path, (units, group, kept) in selects.items():
        network.get_submodule(path).cahp_selects = (units, group, torch.tensor(kept))
    if selects and network.config._attn_implementation != "cahp":
        network.set_attn_implementation(_selecting(network.config._attn_implementation))
    return network.eval()


def _set_weights(network: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    current = getattr(module, leaf, None)
    if current is None and leaf == "bias" and isinstance(module, nn.Linear):
        # A recovery may add a bias to output projections that have none.
        module.bias = nn.Parameter(tensor)
        return
    if not isinstance(current, torch.Tensor):
        raise ValueError(f"the weights contain {name}, which the model does not have")  # noqa: TRY004
    if current.shape == tensor.shape:
        # In place, so that shared weights stay shared.
        with torch.no_grad():
            current.copy_(tensor)
        return
    setattr(module, leaf, nn.Parameter(tensor, requires_grad=current.requires_grad))
    if leaf == "weight" and isinstance(module, nn.Linear):
        module.out_features, module.in_features = tensor.shape
    elif leaf == "weight" and hasattr(module, "nf"):
        # GPT-2 stores its weights the other way round.
        for size, value in zip(("nx", "nf"), tensor.shape, strict=True):
            setattr(module, size, value)


def set_size(module: nn.Module, name: str, value: int) -> None:
    """Set the number of heads or channels that ``module`` stores as an attribute or in its own configuration."""
    if name.startswith("config."):
        module.config = copy.copy(module.config)
        setattr(module.config, name.removeprefix("config."), value)
    else:
        setattr(module, name, value)


def empty_attention(module: nn.Module, output: str | None, entries: int | None) -> None:
    """Let an attention ``module`` without heads return what it returns of closed heads, without computing anything.

    ``output`` is the path in it of its output projection, of which only the intercept is left; None: the projection
    lies outside, and gets no channels. ``module`` returns a tuple of so many ``entries``, or a tensor (None).
    """
    module.cahp_empty = (output, entries)  # type: ignore[assignment]
    module.forward = MethodType(_without_heads, module)
    if output is None:
        return
    projection = module.get_submodule(output)
    if not isinstance(projection, nn.Linear):
        # GPT-2's cannot multiply nothing.
        projection.forward = MethodType(_intercept, projection)


def fill_attention(module: nn.Module) -> None:
    """Undo ``empty_attention``."""
    for part in module.modules():
        for name in ("cahp_empty", "forward"):
            vars(part).pop(name, None)


def _without_heads(module: Any, *args: Any, **kwargs: Any) -> Any:
    output, entries = module.cahp_empty
    if args:
        hidden: torch.Tensor = args[0]
    else:
        hidden = kwargs["hidden_states"]
    _count_tokens(module, kwargs, hidden)
    result = hidden.new_zeros(*hidden.shape[:-1], 0)
    if output is not None:
        result = module.get_submodule(output)(result)
    if entries is None:
        return result
    return (result, *[None] * (entries - 1))


def _intercept(module: Any, entering: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = module.bias.expand(*entering.shape[:-1], -1)
    return out


class CountingLayer(DynamicLayer):  # type: ignore[misc]
    """The cache of an attention without heads: it holds no numbers, and knows how many tokens have passed."""

    keys: torch.Tensor
    is_initialized: bool

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Count further tokens: both tensors have a size of 0."""
        if self.is_initialized:
            key_states = torch.cat([self.keys, key_states], dim=-2)
        self.device = key_states.device
        self.is_initialized = True
        self.keys = self.values = key_states
        return key_states, key_states

    def get_seq_length(self) -> int:
        """The number of tokens that have passed."""
        if not self.is_initialized:
            return 0
        # While a graph is traced this is a symbol, and no whole number.
        return self.keys.shape[-2]


def _count_tokens(module: Any, arguments: dict[str, Any], hidden: torch.Tensor) -> None:
    """Count the tokens in a cache: its first layer tells the positions of the next ones."""
    cache = next((arguments[name] for name in _CACHES if arguments.get(name) is not None), None)
    layers = getattr(cache, "layers", None)
    index = getattr(module, "layer_idx", None)
    if cache is None or layers is None or index is None:
        return
    while len(layers) <= index:
        layers.append(cache.layer_class_to_replicate())
    # A static cache counts by itself, and knows its masks by the kind of its layers.
    if not isinstance(layers[index], (CountingLayer, StaticLayer)):
        layers[index] = CountingLayer()
    none = hidden.new_zeros(hidden.shape[0], 0, hidden.shape[-2], 1)
    layers[index].update(none, none)


def cut_planes(module: nn.Module, argument: str, heads: int, kept: list[int]) -> None:
    """Make ``module`` leave out the planes of cut heads in ``argument``, which has one plane for each of ``heads``."""
    known = hasattr(module, "cahp_planes")
    module.cahp_planes = (argument, heads, torch.tensor(kept))  # type: ignore[assignment]
    if not known:
        module.register_forward_pre_hook(_without_planes, with_kwargs=True)


def _without_planes(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    argument, heads, kept = module.cahp_planes  # type: ignore[misc]
    bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
    planes = bound.arguments.get(argument)
    if planes is None or len(kept) == heads:
        return None
    kept = kept.to(planes.device)
    if planes.ndim == 4:
        # (texts, heads, queries, keys)
        bound.arguments[argument] = planes.index_select(1, kept)
    else:
        # Texts and heads in one dimension.
        by_head = planes.unflatten(0, (-1, heads))
        bound.arguments[argument] = by_head.index_select(1, kept).flatten(0, 1)
    return bound.args, bound.kwargs


def selected(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, options: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Remove the heads that were cut out of values from queries, keys and a bias on scores that still have all.

    ``module.cahp_selects`` holds the number of units before the cut, the query heads of each, and the kept units.
    """
    units, group, kept = getattr(module, "cahp_selects", (0, 1, None))
    if kept is None or len(kept) == units:
        return query, key, options
    kept = kept.to(query.device)
    heads = (kept[:, None] * group + torch.arange(group, device=kept.device)).flatten()
    if query.shape[1] == units * group:
        query = query[:, heads]
    if key.shape[1] == units:
        key = key[:, kept]
    bias = options.get("position_bias")
    if bias is not None and bias.shape[1] == units * group:
        options = {**options, "position_bias": bias[:, heads]}
    return query, key, options


def own_function(module: nn.Module) -> Any:
    """The library's own function that computes a module's attention step by step."""
    return inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]


def _selecting(name: str) -> str:
    """Register an attention function that calls ``selected`` before the function ``name``; return its new name."""

    def attention(module: nn.Module, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        query, key, options = selected(module, query, key, options)
        function = own_function(module) if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        return function(module, query, key, value, mask, **options)

    AttentionInterface.register(_SELECTING + name, attention)
    AttentionMaskInterface.register(_SELECTING + name, ALL_MASK_ATTENTION_FUNCTIONS[name])
    return _SELECTING + name
