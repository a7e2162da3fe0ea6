"""A cache of keys and values with few bits, by simulation: what is cached is rounded, and computed with as before.

Keys have one scale for each channel and block of tokens, values one for each token and head (as KIVI, Liu et al. 2024,
arXiv 2402.02750). Keys are rounded before their rotation, where channels keep their size from token to token.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from cahp.features.peers.projections import Change, change_outputs, find_parts
from cahp.models.head_model import HeadModel

#: Tokens of a block of keys.
BLOCK = 64
#: Bits of the lowest number and of the step of a block, 16 each.
_OVERHEAD = 32


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


def round_values(values: Tensor, bits: int, *, groups: int) -> Tensor:
    """Round values ``(b, tokens, channels)``, each token of each of the ``groups`` heads by itself."""
    by_head = values.float().reshape(*values.shape[:-1], groups, -1)
    return round_to_bits(by_head, bits).reshape(values.shape)


def quantise_cache(model: HeadModel, bits: int, *, block: int = BLOCK) -> HeadModel:
    """Copy a model whose cached keys and values have so many ``bits`` each; inputs must have no padding.

    It may have been pruned or merged before.

    Raises:
        ModelError: If its keys and values cannot be told apart.
    """
    parts = find_parts(model)
    size = model.card.head_size // model.card.group

    def change(layer: int, path: str) -> Change | None:
        if path == parts.key:
            return partial(round_keys, bits=bits, block=block)
        return lambda values: round_values(values, bits, groups=values.shape[-1] // size)

    return change_outputs(model, change)


def count_bits(bits: int, size: int, *, block: int = BLOCK) -> float:
    """Count the bits of a cached number of heads of ``size`` channels, with their share of the scales."""
    return bits + (_OVERHEAD / block + _OVERHEAD / size) / 2
