"""A compact model becomes an ONNX file, in a process that knows torch and transformers, and not this package.

``cahp.models.saving`` runs the text of this file, followed by ``main()``, with the folder of the model, a file of
inputs to trace it with, and the file to write as arguments.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

#: Bytes of weights that are written into the file itself: the format ends at 2 GiB, and the graph takes some of it.
LARGEST_FILE = 2**31 - 2**24
#: The name under which transformers finds ``every_expert``.
EVERY = "cahp_every_expert"


class Logits(nn.Module):
    """A network that takes tensors in the order of ``names`` and returns its logits alone."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network, self._names = network, names
        takes = inspect.signature(network.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in takes else {}

    def forward(self, *values: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.network(**dict(zip(self._names, values, strict=True)), **self._options).logits
        return logits


def every_expert(experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """What the ``chosen`` experts make of tokens ``(n, hidden)``, with ``weights`` of the same shape ``(n, chosen)``.

    Every expert sees every token, since there is no operation for a choice that differs from text to text.
    """

    def linear(name: str, number: int, values: Tensor) -> Tensor:
        matrix = getattr(experts, name)[number]
        out: Tensor = values @ (matrix if experts.is_transposed else matrix.T)
        if experts.has_bias:
            out = out + getattr(experts, f"{name}_bias")[number]
        return out

    total = torch.zeros_like(hidden)
    for number in range(experts.num_experts):
        if experts.has_gate:
            inner = experts._apply_gate(linear("gate_up_proj", number, hidden))
        else:
            inner = experts.act_fn(linear("up_proj", number, hidden))
        out = linear("down_proj", number, inner)
        if experts.has_post_expert_norm:
            out = experts.post_expert_norm(out)
        share = torch.where(chosen == number, weights, torch.zeros_like(weights)).sum(dim=-1, keepdim=True)
        total = total + out * share
    return total.to(hidden.dtype)


def _squeezed(plain: Any) -> Any:
    """``Tensor.squeeze`` that leaves alone the dimensions which are free in the file, and may be 1 there."""

    def squeeze(self: Tensor, *dims: Any, **options: Any) -> Tensor:
        if not dims and not options:
            # Free sizes are symbols here, and no whole numbers.
            dims = (tuple(place for place, size in enumerate(self.shape) if isinstance(size, int) and size == 1),)
        squeezed: Tensor = plain(self, *dims, **options)
        return squeezed

    return squeeze


@contextmanager
def writable(network: Any) -> Iterator[None]:
    """Inside the block, what the exporter cannot write is computed by other operations."""
    plain = Tensor.squeeze
    Tensor.squeeze = _squeezed(plain)  # type: ignore[method-assign]
    ALL_EXPERTS_FUNCTIONS.register(EVERY, every_expert)
    if network._can_set_experts_implementation():
        network.set_experts_implementation(EVERY)
    try:
        yield
    finally:
        Tensor.squeeze = plain  # type: ignore[method-assign]


def write(network: Any, example: Mapping[str, Tensor], file: Path) -> None:
    """Write ``network`` as ``file`` for any batch and length; ``example`` is what it is traced with.

    Weights that one file cannot hold lie in ``file`` with ``.data`` at its end.
    """
    names = list(example)
    with writable(network), torch.no_grad():
        torch.onnx.export(
            Logits(network, names).eval(),
            tuple(example.values()),
            str(file),
            input_names=names,
            output_names=["logits"],
            # One entry for the one argument, which takes all values.
            dynamic_shapes=(tuple({0: "batch", 1: "length"} for _ in names),),
            external_data=sum(weights.nbytes for weights in network.parameters()) > LARGEST_FILE,
            opset_version=18,
            dynamo=True,
            verbose=False,
        )


def main() -> None:
    """Do it."""
    folder, inputs, file = map(Path, sys.argv[1:])
    sys.path.insert(0, str(folder))
    from load_pruned import load_pruned  # type: ignore[import-not-found]

    with np.load(inputs) as arrays:
        # The first batch: its number, and what it is called.
        example = {key.split(" ")[1]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("0 ")}
    warnings.simplefilter("ignore")
    # The plain computation of attention is made of operations that every runtime has.
    write(load_pruned(folder, attn_implementation="eager"), example, file)
