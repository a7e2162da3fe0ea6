"""Weights that stay as their file stores them, in memory or on the disk, and are read whenever an operation needs them.

Operations see float32, so a model computes exactly what it computes with float32 weights. Weights of 16 bits take half
the memory, and weights on the disk none. accelerate finds the place of each weight in the files (``device_map``).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_module
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from cahp.models.devices import check_room
from cahp.values import Fields
from cahp.words import size_of

#: Bytes of a number in float32.
_FLOAT_BYTES = 4

_aten = torch.ops.aten
#: Operations whose result is kept as its input is: views, copies, and some rows or columns.
_ALIKE = {
    *(_aten.detach.default, _aten.alias.default, _aten.clone.default, _aten.index.Tensor, _aten.view.default),
    *(_aten.t.default, _aten.transpose.int, _aten.permute.default, _aten.unsqueeze.default),
    *(_aten.select.int, _aten.slice.Tensor, _aten._unsafe_view.default),
}


class StoredWeight(Tensor):
    """A float32 weight on ``device``, whose numbers are ``kept`` in another type or place.

    ``rounded`` is the type to which its numbers are rounded, where that is not done yet.
    """

    kept: Tensor
    rounded: torch.dtype | None

    def __new__(cls, kept: Tensor, device: torch.device, rounded: torch.dtype | None = None) -> StoredWeight:
        """A weight with the shape of ``kept``; a tensor must be made so."""
        weight = Tensor._make_wrapper_subclass(
            cls, kept.shape, strides=kept.stride(), dtype=torch.float32, device=device
        )
        weight.kept = kept
        weight.rounded = rounded
        return weight

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def read(self, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
        """The numbers as a plain tensor, which shares memory with ``kept`` where type and place are the same."""
        kept = self.kept
        if self.rounded is not None:
            kept = kept.to(self.rounded)
        if device is None:
            device = self.device
        # The device converts faster than the processor, and fewer bytes are moved.
        return kept.to(device).to(dtype)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        if isinstance(first, cls):
            place = first.kept.device
            if function in _ALIKE:
                rest = tree_map_only(Tensor, lambda tensor: tensor.to(place), args[1:])
                # A view must be of the same mode as what it is a view of.
                with torch.inference_mode(first.is_inference()):
                    return cls(function(first.kept, *rest, **kwargs), first.device, first.rounded)
            if function is _aten._to_copy.default:
                return first.read(kwargs.get("dtype") or torch.float32, kwargs.get("device"))
            if function is _aten.embedding.default:
                # Only the rows that are looked up are read.
                rows = function(first.kept, args[1].to(place), *args[2:], **kwargs)
                return cls(rows, first.device, first.rounded).read()
        args, kwargs = tree_map_only(cls, cls.read, (args, kwargs))
        return function(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        """A plain float32 copy, to be trained."""
        return nn.Parameter(self.read().clone(), requires_grad=False)

    def numpy(self, *, force: bool = False) -> Any:
        """The numbers in float32."""
        return self.read().numpy(force=force)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"StoredWeight({tuple(self.shape)}, {self.kept.dtype}, {self.kept.device})"


@dataclass
class Room:
    """Free bytes for weights on their device (None: unknown, so unlimited).

    Numbers are those of the type ``dtype`` (None: each weight has its own). ``reason`` says why weights are not kept in
    float32, and ``form`` how they are.
    """

    free: int | None
    dtype: torch.dtype | None = None
    reason: str = ""
    form: str = "as their file stores them"
    in_memory: int = 0
    on_disk: int = 0

    def keep(self, mapped: Tensor, where: torch.device) -> Tensor:
        """A weight on the device ``where`` that keeps the numbers of a ``mapped`` part of a file.

        It takes the device's room as long as it lasts, and stays in the file after that.
        """
        if mapped.ndim < 2:
            return StoredWeight(mapped, where, self.dtype).read().clone()
        dtype = self.dtype or mapped.dtype
        if self.dtype is None and mapped.dtype.itemsize >= _FLOAT_BYTES:
            dtype = torch.float32
        size = mapped.numel() * dtype.itemsize
        if self.free is not None and size > self.free - self.in_memory:
            self.on_disk += mapped.nbytes
            return StoredWeight(mapped, where, self.dtype)
        self.in_memory += size
        return StoredWeight(mapped.to(where, dtype, copy=True), where)

    @property
    def notice(self) -> str:
        """Where the weights are, and what that means for times, in a sentence."""
        places = f"{size_of(self.in_memory)} in memory"
        if self.on_disk:
            places += f", {size_of(self.on_disk)} on the disk"
        return (
            f"{self.reason}weights are kept {self.form} ({places}) and read as float32 at each use, which times include"
        )


def take_weights(network: Any, room: Room, where: torch.device) -> None:
    """Give ``network``, whose weights accelerate has left on the disk, weights that are kept as the ``room`` says.

    Vectors, and tables that are no weights, become plain tensors on the device ``where``.
    """
    # All modules have the same one.
    maps = (getattr(getattr(module, "_hf_hook", None), "weights_map", None) for module in network.modules())
    weights = next((weights for weights in maps if weights is not None), None)
    places: Mapping[str, Fields] = {}
    if weights is not None:
        places = weights.dataset.index
    remove_hook_from_module(network, recurse=True)
    # By this, saving would look for weights on the disk.
    del network.hf_device_map
    taken: dict[tuple[str, str], nn.Parameter] = {}

    def take(name: str, parameter: Tensor) -> nn.Parameter:
        place = places.get(name)
        if place is None:
            return nn.Parameter(parameter.to(where), requires_grad=False)
        # Weights that two modules share stay shared.
        source = (place["safetensors_file"], place["weight_name"])
        if source not in taken:
            with safe_open(source[0], "pt") as file:
                # Mapped into memory, and read when it is used.
                mapped = file.get_tensor(source[1])
            taken[source] = nn.Parameter(room.keep(mapped, where), requires_grad=False)
        return taken[source]

    for path, module in network.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(where)
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = take(f"{path}.{name}".removeprefix("."), parameter)


def _is_plain(network: nn.Module) -> bool:
    return not any(isinstance(weight, StoredWeight) for weight in network.parameters())


def check_memory(network: nn.Module, purpose: str, *, copies: int) -> None:
    """Check that so many float32 copies of all weights have room, if weights of ``network`` are kept otherwise.

    Raises:
        ModelError: If they have not.
    """
    if _is_plain(network):
        return
    where = next(network.parameters()).device
    needed = 4 * copies * sum(weight.numel() for weight in network.parameters())
    check_room(where, needed, f"{purpose}, with all weights in float32, needs", "use a machine with more memory")


def in_float32(network: Any) -> Any:
    """``network`` if all its weights are plain, otherwise a copy with plain float32 weights.

    Raises:
        ModelError: If there is no room for it.
    """
    if _is_plain(network):
        return network
    check_memory(network, "an export", copies=1)
    shared = {
        id(tensor): tensor
        for tensor in (*network.parameters(), *network.buffers())
        if not isinstance(tensor, StoredWeight)
    }
    return copy.deepcopy(network, shared)
