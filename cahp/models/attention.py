"""Gates and probes inside the attention call.

transformers 5 has no head mask: a ``head_mask=`` argument is accepted and ignored. The gates therefore multiply the
input of each layer's output projection, in hooks that are installed once and read the options of the *current call*
from a ``ContextVar``. Nothing is set on the shared model, so threads may run it with different gates at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from cahp.models.compact import own_function, selected
from cahp.models.families import Family, Site

#: Called with a layer's index and its attention weights ``(batch, heads, queries, keys)``; heads that share keys and
#: values are one, with the mean of their weights.
Probe = Callable[[int, Tensor], None]
#: Called with a layer's index and the attention weights of every query head; returns their replacement.
Edit = Callable[[int, Tensor], Tensor]
#: Called with the site, the layer's index, and the vectors ``(batch, tokens, width)``.
Tap = Callable[[Site, int, Tensor], None]

#: Called with the output of each layer, ``(batch, tokens, hidden)``, in order; returns its replacement or None.
Leaving = Callable[[Tensor], Tensor | None]

#: Called with a layer's index and the input of its output projection, ``(batch, tokens, width)``, after all hooks.
Taken = Callable[[int, Tensor], None]

#: The name under which transformers finds our attention and mask functions.
IMPLEMENTATION = "cahp"


#: The positional and named arguments of a layer, its hidden states first.
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class ForwardCall:
    """The options of one forward call."""

    gates: Tensor | None = None
    probe: Probe | None = None
    edit: Edit | None = None
    tap: Tap | None = None
    leaving: Leaving | None = None
    taken: Taken | None = None
    #: Stop before the first layer, with its arguments.
    stop: bool = False
    #: The first hidden states of a network without its first layers.
    start: Tensor | None = None
    #: Collects the arguments of every layer.
    record: list[Arguments] | None = None
    #: Collects the outputs of the network, with attention weights.
    answers: list[Any] | None = None


_current: ContextVar[ForwardCall] = ContextVar("cahp_call", default=ForwardCall())  # noqa: B039 - frozen


@contextmanager
def calling(call: ForwardCall) -> Iterator[None]:
    """Use ``call`` for the forward passes of this thread inside the block."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


class FirstLayerReached(Exception):
    """Carries the arguments of the first layer out of a forward call that stops there."""

    def __init__(self, arguments: Arguments) -> None:
        super().__init__()
        self.arguments = arguments


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    call = _current.get()
    query, key, kwargs = selected(module, query, key, value, kwargs)
    # A decoder beside the encoder has attention too, but its heads are not used here.
    watched = hasattr(module, "cahp_layer") and (call.probe is not None or call.edit is not None)
    own = getattr(module, "cahp_own", None)
    if not watched and (own is None or module.cahp_fused):
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return out
    # Fused kernels never build the weights, so a probed call computes them step by step.
    if own is not None:
        mask = _additive_mask(module, query, key, attention_mask, kwargs)
        if scaling is not None:
            kwargs["scaling"] = scaling
        context, weights = own(module, query, key, value, mask, dropout=dropout, **kwargs)
        if not watched:
            return context, None
        seen = _show_weights(module, call, weights)
        if seen is weights:
            return context, None
        return (seen @ repeat_kv(value, seen.shape[1] // value.shape[1])).transpose(1, 2).contiguous(), None
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif kwargs.get("is_causal", getattr(module, "is_causal", False)):
        # Without padding there is no mask, since fused kernels are told that attention is causal.
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(ahead, torch.finfo(scores.dtype).min)
    # Where products are computed in bfloat16, rows must still sum to 1.
    weights = scores.softmax(-1, dtype=torch.float32)
    weights = _show_weights(module, call, weights)
    if module.training and dropout:
        weights = nn.functional.dropout(weights, dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None


def _additive_mask(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> Tensor | None:
    """A mask to be added to the scores, as the library's own step-by-step functions take it."""
    causal = options.get("is_causal")
    if mask is None and (getattr(module, "is_causal", False) if causal is None else causal):
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)


def _show_weights(module: nn.Module, call: ForwardCall, weights: Tensor) -> Tensor:
    layer: int = module.cahp_layer  # type: ignore[assignment]
    if call.edit is not None:
        weights = call.edit(layer, weights)
    if call.probe is not None:
        group: int = module.cahp_group  # type: ignore[assignment]
        seen = weights.detach()
        call.probe(layer, seen if group == 1 else seen.reshape(len(seen), -1, group, *seen.shape[2:]).mean(2))
    return weights


AttentionInterface.register(IMPLEMENTATION, _attention)
# Without a mask function of the same name transformers builds no mask and padding would be attended.
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


def _before_weights(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    call = _current.get()
    if call.probe is None and call.edit is None:
        return None
    return (_show_weights(module, call, args[0]), *args[1:])


def _before_output(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    call = _current.get()
    shut: Tensor | None = getattr(module, "cahp_open", None)
    if call.gates is None and call.tap is None and shut is None:
        return None
    context: Tensor = args[0]
    if shut is not None:
        context = context * shut
    layer: int = module.cahp_layer  # type: ignore[assignment]
    if call.gates is not None:
        gates = call.gates[..., layer, :]
        kept: Tensor | None = getattr(module, "cahp_kept", None)
        if kept is not None:
            gates = gates[..., kept]
        # (heads) or (batch, heads) -> one factor for every channel of a head, the same for all tokens.
        factors = gates.repeat_interleave(context.shape[-1] // gates.shape[-1], dim=-1)
        context = context * (factors if factors.ndim == 1 else factors[:, None])
    if call.tap is not None:
        call.tap("output", layer, context)
    return (context, *args[1:])


def _after_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    taken = _current.get().taken
    if taken is not None:
        taken(module.cahp_layer, args[0])  # type: ignore[arg-type]


def _before_feed(site: Site) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        tap = _current.get().tap
        if tap is not None:
            tap(site, module.cahp_layer, args[0])  # type: ignore[arg-type]

    return hook


def _before_layer(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    call = _current.get()
    if call.start is not None and getattr(module, "cahp_entry", False):
        return (call.start, *args[1:]), kwargs
    if call.stop:
        raise FirstLayerReached((args, kwargs))
    if call.record is not None:
        call.record.append((args, kwargs))
    return None


def _before_other_layer(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    record = _current.get().record
    if record is not None:
        record.append((args, kwargs))


def _after_layer(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    leaving = _current.get().leaving
    if leaving is None:
        return None
    whole = isinstance(output, Tensor)
    instead = leaving(output if whole else output[0])
    return instead if instead is None or whole else (instead, *output[1:])


def watch_answers(network: nn.Module) -> None:
    """Install the hooks that collect the attention weights that the network itself returns."""
    network.register_forward_pre_hook(_before_network, with_kwargs=True)
    network.register_forward_hook(_after_network)


def _before_network(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    return None if _current.get().answers is None else (args, {**kwargs, "output_attentions": True})


def _after_network(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    answers = _current.get().answers
    if answers is not None:
        answers.append(output)


def attach(
    layers: Sequence[nn.Module],
    family: Family,
    *,
    group: int = 1,
    stack: Sequence[nn.Module] = (),
    fused: bool = True,
) -> None:
    """Install the permanent hooks, and note the layer's index on modules that need it.

    ``group`` is the number of query heads that share keys and values, ``stack`` all layers, also those without heads;
    ``fused`` says that fused kernels compute the same as the library's own functions.
    """
    for between in stack:
        if not any(between is layer for layer in layers):
            between.register_forward_pre_hook(_before_other_layer, with_kwargs=True)
    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(_before_layer, with_kwargs=True)
        layer.register_forward_hook(_after_layer)
        attention = layer.get_submodule(family.attention)
        weighing = attention if family.weights is None else attention.get_submodule(family.weights)
        # Some families' attention modules carry no index of their own.
        weighing.cahp_layer, weighing.cahp_group = index, group  # type: ignore[assignment]
        if family.weights is not None:
            weighing.register_forward_pre_hook(_before_weights)
        if family.interface and family.matched is not None:
            attention.cahp_own, attention.cahp_fused = own_function(attention), fused  # type: ignore[assignment]
        output = layer.get_submodule(family.output)
        output.register_forward_pre_hook(_before_output)
        output.register_forward_hook(_after_output)
        if family.feed_out is not None:
            layer.get_submodule(family.feed_out).register_forward_pre_hook(_before_feed("feed_out"))
        if family.feed_in is not None:
            layer.get_submodule(family.feed_in).register_forward_pre_hook(_before_feed("feed_in"))
        for path in (family.output, family.feed_out, family.feed_in):
            if path is not None:
                layer.get_submodule(path).cahp_layer = index  # type: ignore[assignment]
