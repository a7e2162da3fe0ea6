"""Write a compact model as an ONNX file, a causal language model with its cache of keys and values.

``cahp.models.saving`` runs the text of this file, followed by ``main()``, in a fresh process that cannot import
this package. Its arguments are the folder of the model, a file of inputs to trace it with, and the file to write.

The graph is written by PyTorch's exporter. Those of transformers 5.24 gave the same logits for Llama, Qwen3, GPT-2 and
GPT-NeoX, at twice the time; but they are experimental, and return something else in 5.20.
"""

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
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

#: Largest number of bytes of weights inside the ONNX file: the format ends at 2 GiB, and the graph takes some of it.
LARGEST_FILE = 2**31 - 2**24
#: The name under which transformers finds ``every_expert``.
EVERY = "cahp_every_expert"
#: Inputs of a graph with a cache, which has keys and values of each layer besides.
TOKENS = ("input_ids", "attention_mask")


class Logits(nn.Module):
    """A network that takes tensors in the order of ``names`` and returns only its logits."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self._names = names
        self._options = dict[str, bool]()
        if "use_cache" in inspect.signature(network.forward).parameters:
            self._options["use_cache"] = False

    def forward(self, *values: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.network(**dict(zip(self._names, values, strict=True)), **self._options).logits
        return logits


class Cached(nn.Module):
    """A causal language model that takes its cache as tensors, and returns it with its logits.

    ``forward`` takes tokens ``(b, n)``, the mask ``(b, m + n)`` of the ``m`` cached tokens and these (0: padding), and
    the keys and values ``(b, heads, m, size)`` of each layer that has some, in turn, and then the states ``(b, 4,
    rank)`` of bypasses. One graph reads a text (``m`` is 0) and writes the next token (``n`` is 1).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        parameters = inspect.signature(network.forward).parameters
        self.network = network
        self._positions = "position_ids" in parameters
        self._cache = "past_key_values"
        if "cache" in parameters:
            self._cache = "cache"
        # Two texts, the second with padding before it; other sizes than 1, which the graph would take as fixed.
        tokens = torch.tensor([[1, 2, 3, 4, 5], [1, 1, 2, 3, 4]])
        self.mask = torch.ones(2, 5, dtype=torch.long)
        self.mask[1, 0] = 0
        with torch.no_grad():
            out = network(input_ids=tokens[:, :3], attention_mask=self.mask[:, :3], use_cache=True)
        cache = getattr(out, self._cache)
        layers = cache.layers
        # A layer with a window forgets tokens, which a graph cannot; its mask hides them as well.
        unbounded = {DynamicSlidingWindowLayer: DynamicLayer}
        self._kinds = [unbounded.get(type(layer), type(layer)) for layer in layers]
        #: The layers that store keys and values, and these of the first tokens; a layer without heads stores none.
        self.places = [place for place, layer in enumerate(layers) if layer.keys.shape[1]]
        self.past = [tensor for place in self.places for tensor in (layers[place].keys, layers[place].values)]
        #: The layers with a bypass, and their states.
        self.beside = list(getattr(cache, "cahp_states", {}))
        self.states = [cache.cahp_states[place][0] for place in self.beside]
        self.tokens = tokens[:, 3:]

    def forward(self, tokens: Tensor, mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Compute the logits of ``tokens``, and the keys, values and states of all tokens."""
        past, states = past[: len(self.past)], past[len(self.past) :]
        cached = mask.shape[1] - tokens.shape[1]
        nothing = torch.zeros(tokens.shape[0], 0, cached, 1)
        stored = dict(zip(self.places, zip(past[::2], past[1::2], strict=True), strict=True))
        cache = DynamicCache()
        cache.layers = [kind() for kind in self._kinds]
        for place, layer in enumerate(cache.layers):
            layer.keys, layer.values = stored.get(place, (nothing, nothing))
            layer.dtype = layer.keys.dtype
            layer.device = layer.keys.device
            layer.is_initialized = True
        cache.cahp_states = {place: (state, cached) for place, state in zip(self.beside, states, strict=True)}
        options: dict[str, Any] = {self._cache: cache}
        if self._positions:
            # Padding has no position, before a text or after it.
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, cached:]
        out = self.network(input_ids=tokens, attention_mask=mask, use_cache=True, **options)
        cache = getattr(out, self._cache)
        present = [part for place in self.places for part in (cache.layers[place].keys, cache.layers[place].values)]
        return out.logits, *present, *(cache.cahp_states[place][0] for place in self.beside)


def every_expert(experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """The weighted output of the ``chosen`` experts for tokens ``(n, hidden)``; ``weights`` has shape ``(n, chosen)``.

    Every expert computes every token, since ONNX has no operation for a choice that differs between texts.
    """

    def linear(name: str, number: int, values: Tensor) -> Tensor:
        matrix = getattr(experts, name)[number]
        if not experts.is_transposed:
            matrix = matrix.T
        out: Tensor = values @ matrix
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


def write(network: Any, example: Mapping[str, Tensor], file: Path, *, cached: bool = False) -> None:
    """Write ``network`` as ``file`` for any batch size and length, traced with the inputs ``example``.

    A ``cached`` graph is that of ``Cached``; its inputs are ``TOKENS``, then ``past_key_values.0.key`` and so on, and
    its outputs ``logits``, then ``present.0.key``; those of a bypass end in ``bypass``. Weights that are too large for
    one file go to a second one, whose name has ``.data`` at its end.
    """
    with writable(network), torch.no_grad():
        names = list(example)
        past = list[str]()
        length = {0: "batch", 1: "length"}
        graph: Any = Logits(network, names)
        # One entry, because ``forward`` takes all values as one argument.
        free: Any = (tuple(length for _ in names),)
        inputs: tuple[Tensor, ...] = tuple(example.values())
        if cached:
            graph = Cached(network)
            names = list(TOKENS)
            past = [f"{place}.{part}" for place in graph.places for part in ("key", "value")]
            inputs = (graph.tokens, graph.mask, *graph.past, *graph.states)
            caches = [{0: "batch", 2: "past"} for _ in past] + [{0: "batch"} for _ in graph.beside]
            free = (length, {0: "batch", 1: "total"}, tuple(caches))
            past += [f"{place}.bypass" for place in graph.beside]
        input_names = [*names, *(f"past_key_values.{entry}" for entry in past)]
        output_names = ["logits", *(f"present.{entry}" for entry in past)]
        size = sum(weights.nbytes for weights in network.parameters())
        torch.onnx.export(
            graph.eval(),
            inputs,
            str(file),
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=free,
            external_data=size > LARGEST_FILE,
            opset_version=18,
            dynamo=True,
            verbose=False,
        )


def main(*, cached: bool) -> None:
    """Read the arguments, load the model and write the file, with a cache or without."""
    folder, inputs, file = map(Path, sys.argv[1:])
    sys.path.insert(0, str(folder))
    from load_pruned import load_pruned  # type: ignore[import-not-found]

    with np.load(inputs) as arrays:
        # The first batch: keys are the number of the batch and the name of the input.
        example = {key.split(" ")[1]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("0 ")}
    warnings.simplefilter("ignore")
    # The eager implementation of attention has only operations that every runtime supports.
    write(load_pruned(folder, attn_implementation="eager"), example, file, cached=cached)
