"""Gates and probes inside the attention call.

transformers 5 has no head mask: a ``head_mask=`` argument is accepted and ignored. The gates therefore multiply the
input of each layer's output projection, in hooks that are installed once and read the options of the *current call*
from a ``ContextVar``. Nothing is set on the shared model, so threads may run it with different gates at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from cahp.models.cards import Site
from cahp.models.compact import Positional, own_function, selected
from cahp.models.devices import move_to
from cahp.values import JsonObject, setting

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: Called with a layer's index and its attention weights ``(batch, heads, queries, keys)``; heads that share keys and
#: values are one, with the mean of their weights.
Probe = Callable[[int, Tensor], None]
#: Called with a layer's index and the attention weights of every query head; returns their replacement.
Edit = Callable[[int, Tensor], Tensor]
#: Called with the site, the layer's index, and the input ``(batch, tokens, width)`` of the attention, or of the
#: projection, after all hooks.
Tap = Callable[[Site, int, Tensor], None]
#: Called with the output of each layer, ``(batch, tokens, hidden)``, in order; returns its replacement or None.
Leaving = Callable[[Tensor], Tensor | None]
#: The positional and named arguments of a layer, its hidden states first.
Arguments = tuple[Positional, JsonObject]

#: The padded inputs of a network, by name.
Tensors = Mapping[str, Tensor]

#: The name under which transformers finds our attention and mask functions.
IMPLEMENTATION = "cahp"


@dataclass(frozen=True)
class ForwardCall:
    """The options of one forward call."""

    gates: Tensor | None = None
    #: What takes the place of the context vectors that gates close, by layer, ``(width,)`` or ``(b, n, width)``; None:
    #: zeros.
    fill: Tensor | Sequence[Tensor | float] | None = None
    probe: Probe | None = None
    edit: Edit | None = None
    tap: Tap | None = None
    leaving: Leaving | None = None
    #: Stop before the first layer with heads.
    stop: bool = False
    #: The first hidden states of a network without its first layers.
    start: Tensor | None = None
    #: Collects the arguments of every layer.
    record: list[Arguments] | None = None
    #: Collects the outputs of the network.
    answers: list[Any] | None = None
    #: The probe, if it needs pooled maps only and no map is replaced: fused attention then makes no maps.
    pooled: PooledProbe | None = None


_current: ContextVar[ForwardCall] = ContextVar("cahp_call", default=ForwardCall())  # noqa: B039 - frozen


def calling(call: ForwardCall) -> AbstractContextManager[ForwardCall]:
    """Use ``call`` for the forward passes of this thread inside the block."""
    return setting(_current, call)


class FirstLayerReached(Exception):
    """Ends a forward call that stops before the first layer with heads."""


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
    query, key, kwargs = selected(module, query, key, kwargs)
    # A decoder beside the encoder has attention too, but its heads are not used here.
    own = getattr(module, "cahp_own", None)
    causal = kwargs.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", False)
    poolable = own is not None and module.cahp_fused and kwargs.get("position_bias") is None
    if poolable and call.pooled is not None and call.pooled.serves(query, key):
        call.pooled.pool(module, query, key, attention_mask, causal=causal, scaling=scaling)
        call = replace(call, probe=None)
    watched = own is not None and (call.probe is not None or call.edit is not None)
    if own is None or (module.cahp_fused and not watched):
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return out
    # Fused kernels never build the weights, so a watched call computes them step by step, with a mask that is added, as
    # do networks without a fused kernel.
    # Where other products are computed in bfloat16, this is done in float32: rows must sum to 1.
    precision = query.dtype
    query = query.float()
    key = key.float()
    value = value.float()
    if attention_mask is None and causal:
        # Without padding there is no mask, since fused kernels are told that attention is causal. No query attends to
        # keys after it; with a cache of earlier tokens, the last query is still the last key.
        queries = query.shape[2]
        keys = key.shape[2]
        every = torch.ones((queries, keys), dtype=torch.bool, device=query.device)
        attention_mask = every.tril(keys - queries)[None, None]
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        lowest = torch.finfo(query.dtype).min
        attention_mask = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill(~attention_mask, lowest)
    if scaling is not None:
        kwargs["scaling"] = scaling
    with torch.autocast(query.device.type, enabled=False):
        context, weights = own(module, query, key, value, attention_mask, dropout=dropout, **kwargs)
        if watched:
            shown = _show_weights(module, call, weights)
            if shown is not weights:
                context = (shown @ repeat_kv(value, shown.shape[1] // value.shape[1])).transpose(1, 2).contiguous()
    return context.to(precision), None


def _show_weights(module: nn.Module, call: ForwardCall, weights: Tensor) -> Tensor:
    layer: int = module.cahp_layer  # type: ignore[assignment]
    if call.edit is not None:
        weights = call.edit(layer, weights)
    if call.probe is not None:
        group: int = module.cahp_group  # type: ignore[assignment]
        maps = weights.detach()
        if group != 1:
            maps = maps.reshape(len(maps), -1, group, *maps.shape[2:]).mean(2)
        # It computes in float32, whatever the precision of the call.
        with torch.autocast(maps.device.type, enabled=False):
            call.probe(layer, maps)
    return weights


AttentionInterface.register(IMPLEMENTATION, _attention)
# Without a mask function of the same name transformers builds no mask and padding would be attended.
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


# Hooks -------------------------------------------------------------------------------------------------------------


def _before_weights(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    call = _current.get()
    if call.probe is None and call.edit is None:
        return None
    return (_show_weights(module, call, args[0]), *args[1:])


def _before_output(module: nn.Module, args: Positional) -> Positional | None:
    call = _current.get()
    open_channels: Tensor | None = getattr(module, "cahp_open", None)
    if call.gates is None and open_channels is None:
        return None
    context: Tensor = args[0]
    if not context.shape[-1]:
        return None
    if open_channels is not None:
        context = context * open_channels
    if call.gates is not None:
        gates = call.gates[..., module.cahp_layer, :]  # type: ignore[index]
        kept: Tensor | None = getattr(module, "cahp_kept", None)
        if kept is not None:
            gates = gates[..., kept]
        # (heads) or (batch, heads) -> one factor for every channel of a head, the same for all tokens.
        factors = gates.repeat_interleave(context.shape[-1] // gates.shape[-1], dim=-1)
        if factors.ndim != 1:
            factors = factors[:, None]
        context = context * factors
        if call.fill is not None:
            context = context + (1 - factors) * call.fill[module.cahp_layer]  # type: ignore[index, call-overload]
    return (context, *args[1:])


def _before_attention(module: nn.Module, args: Positional, kwargs: JsonObject) -> None:
    tap = _current.get().tap
    if tap is not None:
        # Some families compute attention from queries and keys.
        hidden = args[0] if args else kwargs.get("hidden_states")
        if hidden is not None:
            tap("attention", module.cahp_layer, hidden)  # type: ignore[arg-type]


def _after_projection(site: Site, module: nn.Module, args: Positional, output: Any) -> None:
    tap = _current.get().tap
    if tap is not None:
        tap(site, module.cahp_layer, args[0])  # type: ignore[arg-type]


def _before_layer(module: nn.Module, args: Positional, kwargs: JsonObject) -> Arguments | None:
    call = _current.get()
    has_heads = hasattr(module, "cahp_entry")
    if call.start is not None and has_heads and module.cahp_entry:
        return (call.start, *args[1:]), kwargs
    if call.record is not None:
        call.record.append((args, kwargs))
    if call.stop and has_heads:
        raise FirstLayerReached
    return None


def _after_layer(module: nn.Module, args: Positional, output: Any) -> Any:
    leaving = _current.get().leaving
    if leaving is None:
        return None
    if isinstance(output, Tensor):
        return leaving(output)
    replacement = leaving(output[0])
    if replacement is None:
        return None
    return (replacement, *output[1:])


def _after_network(module: nn.Module, args: Positional, output: Any) -> None:
    answers = _current.get().answers
    if answers is not None:
        answers.append(output)


def attach(model: HeadModel) -> None:
    """Install the permanent hooks, and note the layer's index on modules that need it."""
    network: nn.Module = model.network
    family = model.family
    network.register_forward_hook(_after_network)
    for layer in model.stack:
        layer.register_forward_pre_hook(_before_layer, with_kwargs=True)
    for index, layer in enumerate(model.layer_modules):
        layer.cahp_entry = False  # type: ignore[assignment]
        layer.register_forward_hook(_after_layer)
        attention = layer.get_submodule(family.attention)
        weighing = attention
        if family.weights is not None:
            weighing = attention.get_submodule(family.weights)
            weighing.register_forward_pre_hook(_before_weights)
        # Some families' attention modules carry no index of their own.
        attention.cahp_layer = index  # type: ignore[assignment]
        weighing.cahp_layer = index  # type: ignore[assignment]
        weighing.cahp_group = model.card.group  # type: ignore[assignment]
        attention.register_forward_pre_hook(_before_attention, with_kwargs=True)
        if family.interface:
            attention.cahp_own = own_function(attention)
            # Whether fused kernels compute the same.
            attention.cahp_fused = bool(getattr(network, "_supports_sdpa", True))  # type: ignore[assignment]
        layer.get_submodule(family.output).register_forward_pre_hook(_before_output)
        sites: tuple[Site, ...] = ("output", "feed_out", "feed_in")
        for site in sites:
            path = getattr(family, site)
            if path is not None:
                projection = layer.get_submodule(path)
                projection.register_forward_hook(partial(_after_projection, site))
                projection.cahp_layer = index  # type: ignore[assignment]


# Pooled maps -------------------------------------------------------------------------------------------------------
#
# A map ``A`` pooled to one size is ``R A R'`` with the matrix ``R`` of a bilinear resize. ``A R'`` is attention with
# ``R'`` in place of the values, and each row of ``R`` reads at most two queries. Fused attention of these queries
# therefore gives the same numbers as whole maps, in memory that grows with the number of tokens, not with its square.

#: Largest difference between pooled maps, which add up to at most 1 in a row, that are computed in two ways.
_CLOSE = 1e-5
#: Whole maps are made of batches up to this number of padded tokens per text, where they cost about the same.
MAPS_UP_TO = 128


@lru_cache(maxsize=1024)
def resizing(length: int, pool: int) -> Tensor:
    """The matrix ``(pool, length)`` that resizes a vector bilinearly, with half-pixel centres and no antialiasing.

    Resizing a map is separable, ``R A R'``, and depends on its length alone.
    """
    columns = nn.functional.interpolate(torch.eye(length)[None], size=pool, mode="linear", align_corners=False)
    return columns[0].T.contiguous()


@dataclass(frozen=True, eq=False)
class PooledProbe:
    """A probe that needs only pooled maps: ``take`` gets those of a layer, ``(batch, heads, pool, pool)``, to keep.

    ``resize (batch, pool, tokens)`` holds the matrix ``R`` of each text, whose rows have at most two entries above 0
    (None: nothing is pooled, and ``take`` is not called). Called as any other probe, it pools whole maps. Attention
    that is fused calls ``pool`` instead, for texts of more than ``maps_up_to`` padded tokens.
    """

    resize: Tensor | None
    take: Callable[[int, Tensor], None]
    maps_up_to: int = MAPS_UP_TO

    @classmethod
    def of(
        cls,
        real: Tensor,
        size: int,
        device: torch.device,
        take: Callable[[int, Tensor], None],
        *,
        maps_up_to: int = MAPS_UP_TO,
    ) -> PooledProbe:
        """A probe of maps pooled to ``size``, for texts whose real tokens are marked in ``real (batch, tokens)``."""
        resize = torch.zeros(len(real), size, real.shape[1])
        for row, mask in enumerate(real):
            # Padding becomes a zero column, on whichever side the tokenizer puts it.
            resize[row, :, mask] = resizing(int(mask.sum()), size)
        return cls(move_to(resize, device), take, maps_up_to)

    def __call__(self, layer: int, weights: Tensor) -> None:
        """Pool the whole maps ``(batch, heads, tokens, tokens)`` of a layer."""
        if self.resize is None:
            return
        resize = self.resize[:, None]
        self.take(layer, resize @ weights.float() @ resize.transpose(2, 3))

    def serves(self, query: Tensor, key: Tensor) -> bool:
        """Whether ``pool`` can replace whole maps of these queries and keys ``(batch, heads, tokens, size)``."""
        tokens = query.shape[2]
        fits = self.resize is None or (len(query), tokens) == (len(self.resize), self.resize.shape[2])
        return fits and tokens == key.shape[2] and tokens > self.maps_up_to

    @torch.no_grad()
    def pool(
        self, module: Any, query: Tensor, key: Tensor, mask: Tensor | None, *, causal: bool, scaling: float | None
    ) -> None:
        """Pool the maps of an attention module from its queries and keys ``(batch, heads, tokens, size)``.

        ``mask``, broadcast to ``(batch, heads, tokens, tokens)``, is boolean or added to the scores; without one,
        attention may be ``causal``.
        """
        if self.resize is None:
            return
        batch, heads, tokens, size = query.shape
        # The queries that each row of R reads, and their shares (batch, pool, 2).
        shares, where = self.resize.topk(2, dim=2)
        # A row may read one query only. The other place must not be padding, whose attention need not be finite.
        where = torch.where(shares > 0, where, where[..., :1]).flatten(1)
        places = where[:, None, :, None]
        query = query.float().gather(2, places.expand(-1, heads, -1, size))
        if mask is not None:
            mask = mask.expand(batch, -1, tokens, -1).gather(2, places.expand(-1, mask.shape[1], -1, tokens))
            if mask.dtype != torch.bool:
                mask = mask.float()
        elif causal:
            mask = torch.arange(tokens, device=query.device) <= places
        pool = self.resize.shape[1]
        # The fused kernel of processors takes contiguous values of the size of queries only.
        values = nn.functional.pad(self.resize.transpose(1, 2), (0, max(0, size - pool))).contiguous()
        values = values[:, None].expand(-1, key.shape[1], -1, -1)
        # In float32, whatever the precision.
        with torch.autocast(query.device.type, enabled=False):
            columns, _ = sdpa_attention_forward(
                module, query, key.float(), values, mask, scaling=scaling, is_causal=False
            )
            # (batch, 2 pool, heads, size) -> the sum over the queries of each row of R, and the mean over a group.
            pooled = (columns[..., :pool].unflatten(1, (pool, -1)) * shares[..., None, None]).sum(2)
            pooled = pooled.unflatten(2, (-1, module.cahp_group)).mean(3).transpose(1, 2)
            self.take(module.cahp_layer, pooled)


def pools_alike(run: Callable[[PooledProbe], object], maps: Mapping[int, Tensor], real: Tensor) -> bool:
    """Whether a forward pass without maps gives the same pooled maps as the whole ``maps`` of each layer.

    ``run`` passes a probe to the forward pass; ``real (batch, tokens)`` marks the tokens of its texts.
    """
    device = next(iter(maps.values())).device
    fused = dict[int, Tensor]()
    try:
        run(PooledProbe.of(real, 4, device, fused.__setitem__, maps_up_to=0))
    except Exception:  # masks of an unknown shape raise anything
        return False
    pooled = dict[int, Tensor]()
    probe = PooledProbe.of(real, 4, device, pooled.__setitem__)
    for layer, weights in maps.items():
        probe(layer, weights)
    return fused.keys() == pooled.keys() and all(
        bool((fused[layer] - pooled[layer]).abs().max() <= _CLOSE) for layer in pooled
    )
