"""Streaming heads, which see only the first tokens of a text and the latest: their cache does not grow.

Source: Xiao et al. 2024, arXiv 2309.17453 (first tokens), and arXiv 2410.10819 (by head).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cahp.features.peers.projections import find_parts
from cahp.models.head_model import HeadModel
from cahp.models.surgery import copy_network
from cahp.values import HeadMask, ModelError

#: How many of the first tokens a streaming head sees, and of the latest, with the token itself.
FIRST = 4
LATEST = 64


def find_seen(tokens: int, *, first: int = FIRST, latest: int = LATEST) -> Tensor:
    """Which of ``tokens`` a streaming head sees at each token, ``(tokens, tokens)``; none that comes after it."""
    place = torch.arange(tokens)
    back = place[:, None] - place
    return (back >= 0) & ((place < first) | (back < latest))


def stream_heads(model: HeadModel, mask: HeadMask) -> HeadModel:
    """Copy a model in which the key-value groups that ``mask`` drops are streaming heads, with all their queries.

    Raises:
        ModelError: If its attention takes no mask that differs between heads.
    """
    find_parts(model)
    copied = copy_network(model)
    for layer, keep in enumerate(mask.keep):
        if keep.all():
            continue
        streams = torch.from_numpy(~keep).repeat_interleave(model.card.group)
        attention = copied.layer_modules[layer].get_submodule(model.family.attention)
        attention.register_forward_pre_hook(partial(_hide, streams, model.card.id), with_kwargs=True)
    return copied


def _hide(
    streams: Tensor, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Let the query heads ``streams (heads,)`` of an attention module see what streaming heads see."""
    if "attention_mask" not in kwargs:
        raise ModelError(f"the attention of {name} takes no mask, so its heads cannot stream; leave that peer out")
    hidden: Tensor = (args or (kwargs["hidden_states"],))[0]
    tokens = hidden.shape[1]
    causal = find_seen(tokens, latest=tokens)
    seen = torch.where(streams[:, None, None], find_seen(tokens), causal)[None].to(hidden.device)
    mask = kwargs["attention_mask"]
    if mask is None:
        kwargs["attention_mask"] = seen
    elif mask.dtype == torch.bool:
        kwargs["attention_mask"] = mask & seen
    else:
        kwargs["attention_mask"] = mask.masked_fill(~seen, torch.finfo(mask.dtype).min)
    return args, kwargs
