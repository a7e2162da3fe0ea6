"""The projections of queries, keys and values of a causal language model, which changes of its cache need apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cahp.models.cards import Rows
from cahp.models.head_model import HeadModel, Projection
from cahp.models.surgery import copy_network
from cahp.values import ModelError

#: Changes what a projection returns ``(b, tokens, channels)``.
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AttentionParts:
    """The paths of the projections of queries, keys and values below a layer, and how many heads each layer has."""

    query: str
    key: str
    value: str
    queries: int
    groups: int

    @property
    def group(self) -> int:
        """The number of query heads that share a key-value head."""
        return self.queries // self.groups


def find_parts(model: HeadModel) -> AttentionParts:
    """Find the projections of a model, which must lie apart.

    Raises:
        ModelError: If it has other ones.
    """
    family = model.family
    rows = list(family.inputs.values())
    if not family.interface or len(rows) != 3 or any(row != Rows() for row in rows) or model.card.saves != "cache":
        raise ModelError(
            f"{model.card.id} has no projections of queries, keys and values apart, or caches something else, so its "
            "cache cannot be changed here; name a model such as Llama or Mistral"
        )
    query, key, value = family.inputs
    return AttentionParts(query, key, value, queries=model.heads * model.card.group, groups=model.heads)


def get_projection(model: HeadModel, layer: int, path: str) -> Projection:
    """Return the projection at ``path`` of a layer."""
    return Projection(model.layer_modules[layer].get_submodule(path))


def change_outputs(model: HeadModel, changes: Callable[[int, str], Change | None]) -> HeadModel:
    """Copy a model, in which ``changes(layer, path)`` change what projections of keys and values return."""
    parts = find_parts(model)
    copied = copy_network(model)
    for layer in range(copied.layers):
        for path in (parts.key, parts.value):
            change = changes(layer, path)
            if change is not None:
                get_projection(copied, layer, path).module.register_forward_hook(_Changing(change))
    return copied


class _Changing:
    """A hook that replaces the output of a module."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return self._change(output)
