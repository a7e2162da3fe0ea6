"""Pooled attention maps, without the maps where attention is fused.

A map ``A`` pooled to one size is ``R A R'`` with the matrix ``R`` of a bilinear resize. ``A R'`` is attention with
``R'`` in place of the values, and each row of ``R`` reads at most two queries. Fused attention of these queries
therefore gives the same numbers as whole maps, in memory that grows with the number of tokens and not with its square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from cahp.models.devices import move_to

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
    _made: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

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
        left, right = self._sides(weights.shape[1])
        pooled = torch.bmm(torch.bmm(left, weights.float().flatten(0, 1)), right)
        self.take(layer, pooled.reshape(*weights.shape[:2], *pooled.shape[1:]))

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
        where, shares = self._reads
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

    def _sides(self, heads: int) -> tuple[Tensor, Tensor]:
        """``R`` and ``R'`` of each head, made once a batch: broadcasting would copy them in every layer."""
        assert self.resize is not None
        if heads not in self._made:
            left = self.resize.repeat_interleave(heads, dim=0)
            self._made[heads] = left, left.transpose(1, 2).contiguous()
        return self._made[heads]

    @cached_property
    def _reads(self) -> tuple[Tensor, Tensor]:
        """The queries ``(batch, 2 pool)`` that each row of ``R`` reads, and their shares ``(batch, pool, 2)``."""
        assert self.resize is not None
        shares, where = self.resize.topk(2, dim=2)
        # A row may read one query only. The other place must not be padding, whose attention need not be finite.
        return torch.where(shares > 0, where, where[..., :1]).flatten(1), shares


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
