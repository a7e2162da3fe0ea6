"""Changes of a language model's cache: dropped layers, few bits, and streaming heads; used by ``peers``.

A cache of few bits and streaming heads are simulated: the outputs are real, and nothing is smaller or faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cahp.models.cards import Rows
from cahp.models.head_model import HeadModel
from cahp.models.surgery import copy_network
from cahp.tasks.texts import Item
from cahp.values import Floats, HeadMask, ModelError, Progress, report_progress, silent

#: Tokens of a block of keys that are rounded together.
BLOCK = 64
#: Bits of the lowest number and of the step of a block, 16 each.
OVERHEAD = 32
#: How many of the first tokens a streaming head sees, and of the latest, with the token itself.
FIRST = 4
LATEST = 64


def check_projections(model: HeadModel) -> tuple[str, str]:
    """Return the paths of the projections of keys and values below a layer, which must lie apart.

    Raises:
        ModelError: If the model has other ones, or caches something else.
    """
    family = model.family
    rows = list(family.inputs.values())
    if not family.interface or len(rows) != 3 or any(row != Rows() for row in rows) or model.card.saves != "cache":
        raise ModelError(
            f"{model.card.id} has no projections of queries, keys and values apart, or caches something else, so its "
            "cache cannot be changed here; name a model such as Llama or Mistral"
        )
    _, key, value = family.inputs
    return key, value


# Dropped layers (He et al. 2024, arXiv 2406.15786) -------------------------------------------------------------------


def measure_similarity(model: HeadModel, inputs: Sequence[Item], *, progress: Progress = silent) -> Floats:
    """Mean cosine similarity ``(L,)`` over tokens of what enters and leaves each attention sublayer.

    What leaves it is the sum of what enters the layer and the output of its attention, as published.
    """
    copied = copy_network(model)
    entering: dict[int, Tensor] = {}
    sums = np.zeros(model.layers)
    tokens = 0
    real: Tensor | None = None

    def enter(layer: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entering[layer] = (args or (kwargs["hidden_states"],))[0]

    def leave(layer: int, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        added = output
        if not isinstance(added, Tensor):
            added = added[0]
        before = entering[layer]
        similarity = torch.cosine_similarity(before.float(), (before + added).float(), dim=-1)
        sums[layer] += float(similarity[real].double().sum())

    for layer, module in enumerate(copied.layer_modules):
        module.register_forward_pre_hook(partial(enter, layer), with_kwargs=True)
        module.get_submodule(model.family.attention).register_forward_hook(partial(leave, layer))
    for batch in report_progress(copied.batches(copied.tokenize(inputs)), "similarity", progress):
        real = batch.tensors["attention_mask"].bool()
        tokens += int(real.sum())
        with torch.no_grad():
            copied.logits(batch, states=True)
    return sums / max(1, tokens)


def drop_layers(similarity: Floats, count: int, heads: int) -> HeadMask:
    """Drop all ``heads`` of the ``count`` layers that change least: those of highest ``similarity (L,)``."""
    keep = np.ones((len(similarity), heads), dtype=np.bool_)
    keep[np.argsort(-similarity, kind="stable")[:count]] = False
    return HeadMask(keep)


# Few bits (as KIVI, Liu et al. 2024, arXiv 2402.02750) ---------------------------------------------------------------


def round_to_bits(values: Tensor, bits: int) -> Tensor:
    """Round ``values (..., n)`` to ``2 ** bits`` equal steps from the lowest to the highest number of the last axis.

    The lowest number and the step are kept in 16 bits, so the error is at most half a step, and what these lose.
    """
    levels = 2**bits - 1
    low: Tensor = values.amin(-1, keepdim=True).half().float()
    step: Tensor = ((values.amax(-1, keepdim=True) - low) / levels).half().float()
    # Where all numbers are equal, the lowest stands for all.
    places: Tensor = ((values - low) / step.clamp(min=1e-8)).round().clamp(0, levels)
    return low + places * step


def round_keys(keys: Tensor, bits: int, *, block: int = BLOCK) -> Tensor:
    """Round keys ``(b, tokens, channels)``, each channel of a ``block`` of tokens by itself."""
    return torch.cat([round_to_bits(part.mT, bits).mT for part in torch.split(keys.float(), block, dim=1)], dim=1)


def round_values(values: Tensor, bits: int, *, size: int) -> Tensor:
    """Round values ``(b, tokens, channels)``, each token of each head of ``size`` channels by itself."""
    by_head = values.float().reshape(*values.shape[:-1], -1, size)
    return round_to_bits(by_head, bits).reshape(values.shape)


def count_bits(bits: int, size: int, *, block: int = BLOCK) -> float:
    """Count the bits of a cached number of heads of ``size`` channels, with their share of the scales."""
    return bits + (OVERHEAD / block + OVERHEAD / size) / 2


def quantise_cache(model: HeadModel, bits: int) -> HeadModel:
    """Copy a model whose cached keys and values have so many ``bits`` each; inputs must have no padding.

    Keys have one scale for each channel and block of tokens, and are rounded before their rotation, where channels keep
    their size from token to token; values have one for each token and head. The model may have been pruned before.

    Raises:
        ModelError: If its keys and values cannot be told apart.
    """
    key, value = check_projections(model)
    size = model.card.head_size // model.card.group
    copied = copy_network(model)

    def change_keys(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return round_keys(output, bits)

    def change_values(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return round_values(output, bits, size=size)

    for module in copied.layer_modules:
        module.get_submodule(key).register_forward_hook(change_keys)
        module.get_submodule(value).register_forward_hook(change_values)
    return copied


# Streaming heads (Xiao et al. 2024, arXiv 2309.17453 and 2410.10819) -------------------------------------------------


@dataclass(frozen=True)
class Span:
    """The tokens that a streaming head sees: so many of the ``first`` and of the ``latest``."""

    first: int = FIRST
    latest: int = LATEST

    def find_seen(self, tokens: int) -> Tensor:
        """Which of ``tokens`` are seen at each token, ``(tokens, tokens)``; none that comes after it."""
        place = torch.arange(tokens)
        back = place[:, None] - place
        return (back >= 0) & ((place < self.first) | (back < self.latest))


def stream_heads(model: HeadModel, mask: HeadMask, span: Span | None = None) -> HeadModel:
    """Copy a model in which the key-value groups that ``mask`` drops are streaming heads, with all their queries.

    Raises:
        ModelError: If its attention takes no mask that differs between heads.
    """
    check_projections(model)
    span = span or Span()
    copied = copy_network(model)
    for layer, keep in enumerate(mask.keep):
        if not keep.all():
            streams = torch.from_numpy(~keep).repeat_interleave(model.card.group)
            attention = copied.layer_modules[layer].get_submodule(model.family.attention)
            attention.register_forward_pre_hook(partial(_hide, streams, span, model.card.id), with_kwargs=True)
    return copied


def _hide(
    streams: Tensor, span: Span, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Let the query heads ``streams (heads,)`` of an attention module see what streaming heads see."""
    if "attention_mask" not in kwargs:
        raise ModelError(f"the attention of {name} takes no mask, so its heads cannot stream; leave that peer out")
    hidden: Tensor = (args or (kwargs["hidden_states"],))[0]
    tokens = hidden.shape[1]
    causal = Span(latest=tokens).find_seen(tokens)
    seen = torch.where(streams[:, None, None], span.find_seen(tokens), causal)[None].to(hidden.device)
    mask = kwargs["attention_mask"]
    if mask is None:
        kwargs["attention_mask"] = seen
    elif mask.dtype == torch.bool:
        kwargs["attention_mask"] = mask & seen
    else:
        kwargs["attention_mask"] = mask.masked_fill(~seen, torch.finfo(mask.dtype).min)
    return args, kwargs
