"""Write a compact model as an ONNX file.

``cahp.models.saving`` runs the text of this file, followed by ``main()``, in a fresh process that cannot import this
package. Its arguments are the folder of the model, a file of inputs to trace it with, and the file to write.
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

#: Largest number of bytes of weights inside the ONNX file: the format ends at 2 GiB, and the graph takes some of it.
LARGEST_FILE = 2**31 - 2**24
#: The name under which transformers finds ``every_expert``.
EVERY = "cahp_every_expert"


class Logits(nn.Module):
    """A network that takes tensors in the order of ``names`` and returns only its logits."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network, self._names = network, names
        parameters = inspect.signature(network.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in parameters else {}

    def forward(self, *values: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.network(**dict(zip(self._names, values, strict=True)), **self._options).logits
        return logits


def every_expert(experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """The weighted output of the ``chosen`` experts for tokens ``(n, hidden)``; ``weights`` has shape ``(n, chosen)``.

    Every expert computes every token, since ONNX has no operation for a choice that differs between texts.
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


@contextmanager
def writable(network: Any) -> Iterator[None]:
    """Replace operations that the exporter cannot write by equal ones inside the block."""
    plain = Tensor.squeeze

    def squeeze(self: Tensor, *dims: Any, **options: Any) -> Tensor:
        """Squeeze, but keep the dimensions that are free in the file: their size may be 1 there."""
        if not dims and not options:
            # Free sizes are symbols here, and no whole numbers.
            dims = (tuple(place for place, size in enumerate(self.shape) if isinstance(size, int) and size == 1),)
        squeezed: Tensor = plain(self, *dims, **options)
        return squeezed

    Tensor.squeeze = squeeze  # type: ignore[method-assign,assignment]
    ALL_EXPERTS_FUNCTIONS.register(EVERY, every_expert)
    if network._can_set_experts_implementation():
        network.set_experts_implementation(EVERY)
    try:
        yield
    finally:
        Tensor.squeeze = plain  # type: ignore[method-assign]


def write(network: Any, example: Mapping[str, Tensor], file: Path) -> None:
    """Write ``network`` as ``file`` for any batch size and length, traced with the inputs ``example``.

    Weights that are too large for one file go to a second one, whose name has ``.data`` at its end.
    """
    names = list(example)
    with writable(network), torch.no_grad():
        torch.onnx.export(
            Logits(network, names).eval(),
            tuple(example.values()),
            str(file),
            input_names=names,
            output_names=["logits"],
            # One entry, because ``forward`` takes all values as one argument.
            dynamic_shapes=(tuple({0: "batch", 1: "length"} for _ in names),),
            external_data=sum(weights.nbytes for weights in network.parameters()) > LARGEST_FILE,
            opset_version=18,
            dynamo=True,
            verbose=False,
        )


def main() -> None:
    """Read the arguments, load the model and write the file."""
    folder, inputs, file = map(Path, sys.argv[1:])
    sys.path.insert(0, str(folder))
    from load_pruned import load_pruned  # type: ignore[import-not-found]

    with np.load(inputs) as arrays:
        # The first batch: keys are the number of the batch and the name of the input.
        example = {key.split(" ")[1]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("0 ")}
    warnings.simplefilter("ignore")
    # The eager implementation of attention has only operations that every runtime supports.
    write(load_pruned(folder, attn_implementation="eager"), example, file)
