"""Load a pruned transformer: layers with their own numbers of heads, from a folder beside this file.

It needs only torch, transformers and safetensors, and runs no code from the folder:

    from load_pruned import load_pruned
    model = load_pruned("folder")           # a transformers model in eval mode, smaller than its original
    model(**tokenizer("a text", return_tensors="pt")).logits

transformers itself cannot load such weights: its classes build all layers with the same number of heads.
"""

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import Module
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
#: Arguments of a call, by place and by name.
Positional = tuple[Any, ...]
Keywords = dict[str, Any]
#: The states of bypasses by layer, and the number of tokens that each has seen.
States = dict[int, tuple[Tensor, int]]
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
    ``empty_attention``; ``planes``, arguments with one plane of scores for each head, and the planes to keep;
    ``selects``, the query heads to keep where queries, keys or a bias on scores are computed for all heads; and
    ``bypass``, attention modules with a ``Bypass``, with the paths of their output projections and its options.

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
    for path, (output, place, causal) in plan.get("bypass", {}).items():
        down, up = (torch.empty_like(weights[f"{path}.cahp_bypass.{name}"]) for name in ("down", "up"))
        bypass = Bypass(down, up, place=place, causal=causal)
        set_bypass(network, network.get_submodule(path), network.get_submodule(output), bypass)
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


def _set_weights(network: Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    current = getattr(module, leaf, None)
    if current is None and leaf == "bias" and isinstance(module, nn.Linear):
        # A recovery may add a bias to output projections that have none.
        module.bias = nn.Parameter(tensor)
        return
    if not isinstance(current, Tensor):
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


def set_size(module: Module, name: str, value: int) -> None:
    """Set the number of heads or channels that ``module`` stores as an attribute or in its own configuration."""
    if name.startswith("config."):
        module.config = copy.copy(module.config)
        setattr(module.config, name.removeprefix("config."), value)
    else:
        setattr(module, name, value)


def empty_attention(module: Module, output: str | None, entries: int | None) -> None:
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


def fill_attention(module: Module) -> None:
    """Undo ``empty_attention``."""
    for part in module.modules():
        for name in ("cahp_empty", "forward"):
            vars(part).pop(name, None)


def _without_heads(module: Any, *args: Any, **kwargs: Any) -> Any:
    output, entries = module.cahp_empty
    hidden = entering(args, kwargs)
    _count_tokens(module, kwargs, hidden)
    result = hidden.new_zeros(*hidden.shape[:-1], 0)
    if output is not None:
        result = module.get_submodule(output)(result)
    if entries is None:
        return result
    return (result, *[None] * (entries - 1))


def _intercept(module: Any, entering: Tensor) -> Tensor:
    out: Tensor = module.bias.expand(*entering.shape[:-1], -1)
    return out


class CountingLayer(DynamicLayer):  # type: ignore[misc]
    """The cache of an attention without heads: it holds no numbers, and knows how many tokens have passed."""

    keys: Tensor
    is_initialized: bool

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
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


def _find_cache(arguments: Keywords) -> Any:
    """The cache of keys and values among the named arguments of an attention module, if there is one."""
    return next((arguments[name] for name in _CACHES if arguments.get(name) is not None), None)


def _count_tokens(module: Any, arguments: Keywords, hidden: Tensor) -> None:
    """Count the tokens in a cache: its first layer tells the positions of the next ones."""
    cache = _find_cache(arguments)
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


def cut_planes(module: Module, argument: str, heads: int, kept: list[int]) -> None:
    """Make ``module`` leave out the planes of cut heads in ``argument``, which has one plane for each of ``heads``."""
    known = hasattr(module, "cahp_planes")
    module.cahp_planes = (argument, heads, torch.tensor(kept))  # type: ignore[assignment]
    if not known:
        module.register_forward_pre_hook(_without_planes, with_kwargs=True)


def _without_planes(module: Module, args: Positional, kwargs: Keywords) -> Any:
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


def selected(module: Module, query: Tensor, key: Tensor, options: Keywords) -> tuple[Tensor, Tensor, Keywords]:
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


def own_function(module: Module) -> Any:
    """The library's own function that computes a module's attention step by step."""
    return inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]


def _selecting(name: str) -> str:
    """Register an attention function that calls ``selected`` before the function ``name``; return its new name."""

    def attention(module: Module, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        query, key, options = selected(module, query, key, options)
        function = own_function(module) if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        return function(module, query, key, value, mask, **options)

    AttentionInterface.register(_SELECTING + name, attention)
    AttentionMaskInterface.register(_SELECTING + name, ALL_MASK_ATTENTION_FUNCTIONS[name])
    return _SELECTING + name


# The bypass ----------------------------------------------------------------------------------------------------------
#
# What a layer without some of its heads adds to the output of the others: linear functions of the words, which need no
# cache that grows. Source: whole attention layers as linear maps (NBL, arXiv 2505.21077); beside kept heads it is ours.

#: The numbers of tokens over which exponential means run: they decay by ``1 - 1 / tokens`` a token.
SPANS = (8, 32)


class Words:
    """Which tokens of a batch are real, for the means over its words.

    ``mask`` (b, m + n) is 0 for padding and counts the ``m`` tokens that a cache holds (None: all are real).
    """

    def __init__(self, mask: Tensor | None) -> None:
        self._mask = mask
        self._decays: dict[tuple[int, bool], Tensor] = {}

    def check(self, hidden: Tensor, seen: int) -> None:
        """Check that ``hidden`` states and the ``seen`` tokens of a cache are those of the mask.

        Raises:
            ValueError: If they are not.
        """
        if self._mask is None:
            return
        if self._mask.ndim != 2 or self._mask.shape[1] != seen + hidden.shape[1]:
            raise ValueError("a bypass needs the mask of all tokens (b, n), and a cache that it has filled itself")

    def real(self, hidden: Tensor) -> Tensor:
        """Return 1 for real tokens and 0 for padding, ``(b, n, 1)``, for hidden states ``(b, n, width)``."""
        if self._mask is None:
            return hidden.new_ones(*hidden.shape[:2], 1)
        return self._mask[:, -hidden.shape[1] :, None].to(hidden.dtype)

    def counts(self, hidden: Tensor, past: int) -> Tensor:
        """Return the number of real tokens up to each one, ``(b, n, 1)``, with those of ``past`` ones in a cache."""
        if self._mask is None:
            return self.real(hidden).cumsum(1) + past
        return self._mask.to(hidden.dtype).cumsum(1)[:, -hidden.shape[1] :, None].clamp(min=1)

    def decays(self, hidden: Tensor, span: int, *, causal: bool) -> Tensor:
        """Return the weights ``(n, n)`` of an exponential mean: those of one token's mean are a row."""
        name = span, causal
        if name not in self._decays:
            places = torch.arange(hidden.shape[1], device=hidden.device)
            distances = (places[:, None] - places).to(hidden.dtype)
            rest = 1 - 1 / span
            if causal:
                weights = torch.where(distances < 0, 0.0, rest ** distances.clamp(min=0) / span)
            else:
                weights = rest ** distances.abs() * (1 - rest) / (1 + rest)
            self._decays[name] = weights
        return self._decays[name]


def mix_words(
    parts: Sequence[Tensor], words: Words, *, causal: bool, past: Tensor | None = None, seen: int = 0
) -> tuple[list[Tensor], Tensor | None]:
    """Return what a bypass sees of the words, and its state after them.

    ``parts`` are functions of each token ``(b, n, width)``, 0 at padding: that of the token itself; of the one before;
    of the one after, unless attention is ``causal``; and those of which exponential means over ``SPANS`` and the mean
    are taken, over the tokens so far or over the whole text. All are returned in this order. Parts of one width have a
    state ``(b, 4, width)`` if attention is causal; ``past`` is that of the ``seen`` tokens before (None: no tokens).
    """
    averaged = 1 + len(SPANS)
    now, before, *after = parts[:-averaged]
    spread = parts[-averaged:]
    none = torch.zeros_like(before[:, :1])
    earlier = none
    if past is not None:
        earlier = past[:, :1]
    mixed = [now, torch.cat([earlier, before[:, :-1]], dim=1)]
    mixed += [torch.cat([part[:, 1:], none], dim=1) for part in after]
    for place, (span, part) in enumerate(zip(SPANS, spread, strict=False), start=1):
        decays = words.decays(part, span, causal=causal)
        mean = decays @ part
        if past is not None:
            # The first row holds the weights of the first token, the first column those of the later ones.
            mean = mean + decays[:, :1] * span * (1 - 1 / span) * past[:, place : place + 1]
        mixed.append(mean)
    total = spread[-1].cumsum(1)
    if not causal:
        mixed.append((total[:, -1:] / words.counts(total, 0)[:, -1:]).expand_as(total))
        return mixed, None
    if past is not None:
        total = total + past[:, -1:]
    mixed.append(total / words.counts(total, seen))
    if len({part.shape[-1] for part in parts}) > 1:
        return mixed, None
    return mixed, torch.cat([before[:, -1:], *(mean[:, -1:] for mean in mixed[2:-1]), total[:, -1:]], dim=1)


class Bypass(Module):
    """The sum of linear functions of the words, of low rank, beside the heads of a layer.

    ``down (parts, rank, hidden)`` reads each of the parts of ``mix_words`` from the hidden states that enter the
    attention, ``up (out, rank)`` writes their sum. ``place`` tells the layers apart in a cache.
    """

    def __init__(self, down: Tensor, up: Tensor, *, place: int, causal: bool) -> None:
        super().__init__()
        self.down = nn.Parameter(down, requires_grad=False)
        self.up = nn.Parameter(up, requires_grad=False)
        self.place = place
        self.causal = causal

    def forward(self, hidden: Tensor, words: Words, cache: Any) -> Tensor:
        """Return its output ``(b, n, out)`` for hidden states ``(b, n, hidden)``; a ``cache`` holds its state."""
        read = nn.functional.linear(hidden * words.real(hidden), self.down.flatten(0, 1))
        parts = read.chunk(len(self.down), dim=-1)
        states: States = {}
        if cache is not None:
            states = keep_states(cache)
        past, seen = states.get(self.place, (None, 0))
        words.check(hidden, seen)
        mixed, state = mix_words(parts, words, causal=self.causal, past=past, seen=seen)
        if cache is not None and state is not None:
            # A new one: a copied cache keeps its own.
            cache.cahp_states = {**states, self.place: (state, seen + hidden.shape[1])}
        total = mixed[0]
        for part in mixed[1:]:
            total = total + part
        return nn.functional.linear(total, self.up)


class _KeepsStates:
    """A cache that also holds the states of bypasses, by layer, and the number of tokens that each has seen."""

    cahp_states: States

    def _select(self, rows: Any) -> None:
        self.cahp_states = {place: (rows(state), seen) for place, (state, seen) in self.cahp_states.items()}

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take other rows of the batch, as a beam search does."""
        super().reorder_cache(beam_idx)  # type: ignore[misc]
        self._select(lambda state: state.index_select(0, beam_idx.to(state.device)))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Take some rows of the batch."""
        super().batch_select_indices(indices)  # type: ignore[misc]
        self._select(lambda state: state[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of the batch."""
        super().batch_repeat_interleave(repeats)  # type: ignore[misc]
        self._select(lambda state: state.repeat_interleave(repeats, dim=0))

    def reset(self) -> None:
        """Forget all tokens."""
        super().reset()  # type: ignore[misc]
        self.cahp_states = {}

    def crop(self, *args: Any, **kwargs: Any) -> None:
        """Refuse to forget the last tokens only."""
        raise ValueError("the state of a bypass cannot go back; generate without an assistant model")


@cache
def _keeping(kind: type) -> type:
    return type(kind.__name__, (_KeepsStates, kind), {})


def keep_states(cache: Any) -> States:
    """Return the states of bypasses that a cache of transformers holds, by layer; from then on it keeps them."""
    if not isinstance(cache, _KeepsStates):
        cache.__class__ = _keeping(type(cache))  # type: ignore[arg-type]
        cache.cahp_states = getattr(cache, "cahp_states", {})
    states: States = cache.cahp_states
    return states


#: The words that are being read, and the output of the bypass of the layer that is being computed.
_words: ContextVar[Words] = ContextVar("cahp_words", default=Words(None))  # noqa: B039 - never changed
_beside: ContextVar[Tensor | None] = ContextVar("cahp_beside", default=None)


def read_words(mask: Tensor | None) -> None:
    """State which tokens of the next batch are real; a network whose layers run one by one does not state it."""
    _words.set(Words(mask))


def entering(args: Positional, kwargs: Mapping[str, Any]) -> Tensor:
    """Return the hidden states among the arguments of an attention module."""
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def set_bypass(network: Module, attention: Module, output: Module, bypass: Bypass) -> None:
    """Add a bypass to an ``attention`` module and its ``output`` projection, in place of one that it has."""
    known = hasattr(attention, "cahp_bypass")
    attention.cahp_bypass = bypass
    if not known:
        attention.register_forward_pre_hook(_before_attention, with_kwargs=True)
        output.register_forward_hook(_after_output)
    base: Module = network.base_model  # type: ignore[assignment]
    if not hasattr(base, "cahp_words"):
        base.cahp_words = True  # type: ignore[assignment]
        base.register_forward_pre_hook(_before_words, with_kwargs=True)


def _before_words(module: Module, args: Positional, kwargs: Keywords) -> None:
    read_words(inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments.get("attention_mask"))


def _before_attention(module: Module, args: Positional, kwargs: Keywords) -> None:
    _beside.set(module.cahp_bypass(entering(args, kwargs), _words.get(), _find_cache(kwargs)))  # type: ignore[operator]


def _after_output(module: Module, args: Positional, output: Tensor) -> Tensor:
    beside = _beside.get()
    assert beside is not None
    return output + beside
