"""The cache of keys and values of a causal language model: its size, and steps of generation that use it."""

import copy
import inspect
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from cahp.models.attention import ForwardCall, calling
from cahp.models.cards import CacheShape, count_positions
from cahp.models.head_model import HeadModel, Projection

#: The projection to a compressed vector, of which latent attention computes the keys and values of all heads. It is
#: cached in their place, so pruning heads does not shrink the cache.
_COMPRESSED = "kv_a_proj_with_mqa"
#: The only kinds of layers whose cache is counted here; the first one stores nothing.
_NONE = "DummyLayer"
_KNOWN = ("DynamicLayer", "DynamicSlidingWindowLayer")
_HYBRID = ("LinearAttentionAndFullAttentionLayer", "LinearAttentionAndSlidingWindowAttentionLayer")


def describe_cache(
    config: Any,
    modules: Sequence[nn.Module],
    places: Sequence[int],
    *,
    names: tuple[str, str],
    fused: int | None,
    cut: Collection[str],
    units: int,
    offset: bool,
) -> CacheShape | None:
    """Count the cache of a network from its attention ``modules``, which lie in the layers ``places``.

    ``names`` are the projections of keys and values, and ``cut`` those whose channels leave with one of the ``units``
    of a layer. A ``fused`` projection has so many channels of keys, and as many of values. With ``offset`` positions
    are counted from the padding token's index. None: the layers differ, or cache something else.
    """
    # Numbers per token: of all units of a layer, and of those that stay as long as the layer has a unit.
    sizes = set[tuple[int, int]]()
    for module in modules:
        rows = [fused or len(Projection(module.get_submodule(name)).weight) for name in names]
        own = sum(count for name, count in zip(names, rows, strict=True) if name in cut)
        shared = sum(rows) - own
        compressed = getattr(module, _COMPRESSED, None)
        if compressed is not None:
            own = 0
            shared = len(Projection(compressed).weight)
        sizes.add((own, shared))
    with suppress(Exception):  # an unknown configuration raises anything
        layers = DynamicCache(config=config).layers
        kinds = [type(layers[place]).__name__ for place in places]
        if len(sizes) == 1 and set(kinds) <= {_NONE, *_KNOWN, *_HYBRID}:
            own, shared = sizes.pop()
            windows = {index: 0 for index, kind in enumerate(kinds) if kind == _NONE}
            # A step adds its own token to those in the window.
            windows |= {
                index: layers[place].sliding_window - 1
                for index, place in enumerate(places)
                if layers[place].is_sliding
            }
            positions = count_positions(config.get_text_config(), offset=offset)
            width = CacheShape.width
            if own % units == 0:
                return CacheShape(width * own // units, width * shared, tuple(windows.items()), positions)
    return None


def fill_cache(model: HeadModel, tokens: Tensor, *, context: int) -> Any:
    """A cache of ``context`` tokens for the batch ``tokens (b, 1)``; all but the first have random keys and values.

    The time of a step does not depend on the values.
    """
    cache = getattr(model.network(input_ids=tokens, use_cache=True), _argument(model))
    for layer in cache.layers:
        keys: Tensor | None = getattr(layer, "keys", None)
        if keys is not None and keys.ndim == 4 and context > 1:
            pair = (keys, layer.values)
            layer.update(*(torch.rand_like(part[:, :, :1].expand(-1, -1, context - 1, -1)) for part in pair))
    return cache


def decode_step(model: HeadModel, tokens: Tensor, cache: Any) -> None:
    """Compute the logits of the token after ``tokens (b, 1)`` in the context of ``cache``, which stays as it is."""
    step = copy.copy(cache)
    # A step replaces the tensors of a layer, and does not change them.
    step.layers = [copy.copy(layer) for layer in cache.layers]
    model.network(input_ids=tokens, use_cache=True, **{_argument(model): step})


def continue_greedily(
    model: HeadModel, tokens: Sequence[int], count: int, *, gates: Tensor | None = None
) -> Iterator[int]:
    """Yield the ``count`` most probable tokens after ``tokens``, one after the other, each from one forward pass.

    ``gates`` are those of all passes. Nothing of a pass outlasts it, so other passes may run between two tokens. Of
    tokens that leave no room, the end is continued, after the first one: many models attend to it from everywhere.
    """
    room = max(2, model.longest_context - count)
    if len(tokens) > room:
        tokens = [tokens[0], *tokens[1 - room :]]
    ids = torch.tensor([list(tokens)], device=model.device)
    name = _argument(model)
    options: dict[str, Any] = {}
    if model.family.caches:
        options["use_cache"] = True
    for _ in range(count):
        with torch.no_grad(), calling(ForwardCall(gates=gates)):
            out = model.network(input_ids=ids, **options)
        cache = None
        if model.family.caches:
            cache = getattr(out, name)
        best = out.logits[:, -1:].argmax(-1)
        if cache is None:
            # Every step reads the whole text.
            ids = torch.cat([ids, best], dim=1)
        else:
            options[name] = cache
            ids = best
        yield int(best)


def _argument(model: HeadModel) -> str:
    """The name of the cache among a network's arguments and results, which transformers changed."""
    if "cache" in inspect.signature(model.network.forward).parameters:
        return "cache"
    return "past_key_values"
