"""A linear map inside a network, whatever module holds it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def is_linear(module: object) -> bool:
    """Whether ``module`` is a plain linear map; modules that are made of one and do more are not."""
    return type(module) in (nn.Linear, Conv1D)


def find_module(layer: nn.Module, path: str) -> nn.Module | None:
    """The module at ``path`` below a layer, None if there is none."""
    try:
        return layer.get_submodule(path)
    except AttributeError:
        return None


@dataclass(frozen=True, eq=False)
class Projection:
    """A ``Linear``, or GPT-2's ``Conv1D`` that stores the same weights the other way round."""

    module: nn.Module

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Linear | Conv1D):
            raise TypeError(f"a {type(self.module).__name__} is no linear projection")

    @property
    def weight(self) -> Tensor:
        """The weights ``(out, in)``."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        if isinstance(self.module, Conv1D):
            return weight.T
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The intercept ``(out,)``, if there is one."""
        return self.module.bias  # type: ignore[return-value]

    def replace(self, weight: Tensor, bias: Tensor | None) -> None:
        """Give the module other weights ``(out, in)``; it keeps its hooks.

        New tensors are made, since the old ones may be shared with another network.
        """
        stored = weight.detach()
        if isinstance(self.module, Conv1D):
            self.module.nf, self.module.nx = weight.shape
            stored = stored.T
        else:
            self.module.out_features, self.module.in_features = map(int, weight.shape)  # type: ignore[assignment]
        self.module.weight = nn.Parameter(stored.contiguous(), requires_grad=False)
        if bias is None:
            self.module.register_parameter("bias", None)
        else:
            self.module.register_parameter("bias", nn.Parameter(bias.detach().contiguous(), requires_grad=False))
