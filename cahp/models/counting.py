"""What a forward pass computes, counted on a configuration alone: no weight is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from torch import nn

from cahp.cards import ModelCard
from cahp.models.language import Head, head_of
from cahp.models.sketch import sketched

#: The tokens of a usual text, which an attention score is computed of each pair of.
_TOKENS = 32


def operations(card: ModelCard) -> float:
    """Floating-point operations of a forward pass, for each token of a text of usual length.

    Two for each weight of the layers that a token passes (of experts those that are chosen), and of attention what its
    scores and their sums take.

    Raises:
        ModelError: If the configuration describes no network.
    """
    passes = (card.details or {}).get("passes") or card.layers
    weight_bytes = (card.details or {}).get("bytes") or 0
    weights = _weights(card.id, card.folder, card.labels or None, head_of(card), weight_bytes) * passes / card.layers
    return 2 * weights + 4 * passes * card.heads * card.head_size * _TOKENS


@lru_cache(maxsize=16)
def _weights(name: str, folder: str, labels: tuple[str, ...] | None, head: Head, weight_bytes: int) -> float:
    network = sketched(name, folder, labels, head, weight_bytes=weight_bytes)
    config = network.config
    experts = next((count for key in _EXPERTS if (count := getattr(config, key, None))), None)
    chosen = getattr(config, "num_experts_per_tok", None)
    share = chosen / experts if experts and chosen else 1.0
    return float(sum(math.prod(weight.shape) * (share if weight.ndim == 3 else 1) for weight in _multiplied(network)))


_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def _multiplied(network: Any) -> Iterator[Any]:
    """The weights that hidden states are multiplied with: of tables of words one row is looked up instead."""
    for module in network.base_model.modules():
        if not isinstance(module, nn.Embedding):
            yield from (weight for weight in module.parameters(recurse=False) if weight.ndim > 1)
