"""One loaded model, its heads reachable: tokenise, batch, run with gates and probes, walk layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cahp.models.attention import Call, Edit, FirstLayerReached, Probe, Site, Tap, attach, calling
from cahp.models.families import FAMILIES, Family
from cahp.values import DataError, Input, Ints, ModelCard

#: Longest input in tokens, as in the paper.
MAX_LENGTH = 128
#: Padded tokens a batch: the size that two CPU cores run best.
BATCH_TOKENS = 2048
_MAX_ROWS = 256


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of similar length, padded together.

    ``rows (b,)`` are their positions in the sample, ``lengths (b,)`` their real tokens, ``tensors`` what the network
    takes.
    """

    rows: Ints
    lengths: Tensor
    tensors: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class LayerState:
    """A batch on its way through the layers: hidden states ``(b, tokens, hidden)`` before layer ``layer``."""

    layer: int
    hidden: Tensor
    real: Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Tokens = list[dict[str, list[int]]]


class HeadModel:
    """A sequence classifier whose attention heads can be gated, watched and cut.

    The network is in eval mode with frozen weights and is never changed after it was made, so one ``HeadModel`` may
    serve many threads. ``head_counts[layer]`` is the number of heads each layer has (uneven after surgery).
    """

    def __init__(self, network: Any, tokenizer: Any, card: ModelCard, *, attached: bool = False) -> None:
        self.network, self.tokenizer, self.card = network, tokenizer, card
        self.family: Family = FAMILIES[card.family]
        network.eval().requires_grad_(False)
        if not attached:
            attach(self.layer_modules, self.family)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        where: torch.device = next(self.network.parameters()).device
        return where

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.card.layers

    @property
    def heads(self) -> int:
        """Heads a layer before pruning."""
        return self.card.heads

    @property
    def head_counts(self) -> tuple[int, ...]:
        """Heads that each layer has now."""
        return tuple(self.projection(layer).in_features // self.card.head_size for layer in range(self.layers))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def layer_modules(self) -> nn.ModuleList:
        """The transformer layers, first to last."""
        base: nn.Module = self.network.base_model
        layers = base.get_submodule(self.family.layers)
        assert isinstance(layers, nn.ModuleList)
        return layers

    def projection(self, layer: int, site: Site = "output") -> nn.Linear:
        """A layer's projection: of its heads' context (``output``), or of its feed-forward block."""
        module = self.layer_modules[layer].get_submodule(getattr(self.family, site))
        assert isinstance(module, nn.Linear)
        return module

    @property
    def max_length(self) -> int:
        """Longest input in tokens that this model takes here."""
        positions = getattr(self.network.config, "max_position_embeddings", MAX_LENGTH)
        return int(min(MAX_LENGTH, self.tokenizer.model_max_length, positions))

    def tokenize(self, inputs: Sequence[Input], *, max_length: int | None = None) -> Tokens:
        """Token ids of each text or pair, truncated, without padding.

        Raises:
            DataError: If a text has no tokens at all.
        """
        if not inputs:
            return []
        first = [text if isinstance(text, str) else text[0] for text in inputs]
        pairs = [text[1] for text in inputs if not isinstance(text, str)]
        encoded = self.tokenizer(
            first, pairs or None, truncation=True, max_length=max_length or self.max_length, padding=False
        )
        for text, ids in zip(first, encoded["input_ids"], strict=True):
            if not ids:
                raise DataError(f"the text {text[:60]!r} has no tokens for {self.card.id}; remove or replace it")
        return [{name: encoded[name][row] for name in encoded} for row in range(len(first))]

    def batches(
        self, tokens: Tokens, *, rows: Sequence[int] | Ints | None = None, size: int = BATCH_TOKENS
    ) -> list[Batch]:
        """Batches of at most ``size`` padded tokens (at least one input), longest inputs first.

        ``rows`` restricts and numbers the inputs: a batch's ``rows`` index into ``tokens``.
        """
        chosen = np.arange(len(tokens)) if rows is None else np.asarray(rows, dtype=np.int64)
        lengths = np.array([len(tokens[row]["input_ids"]) for row in chosen], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")
        batches, start = [], 0
        while start < len(order):
            fit = max(1, min(_MAX_ROWS, size // max(1, int(lengths[order[start]]))))
            members = order[start : start + fit]
            batches.append(self._padded(tokens, chosen[members], lengths[members]))
            start += fit
        return batches

    def _padded(self, tokens: Tokens, rows: Ints, lengths: Ints) -> Batch:
        padded = self.tokenizer.pad(
            {name: [tokens[row][name] for row in rows] for name in tokens[rows[0]]}, return_tensors="pt"
        )
        tensors = {name: tensor.to(self.device) for name, tensor in padded.items()}
        return Batch(rows, torch.as_tensor(lengths, device=self.device), tensors)

    def logits(
        self,
        batch: Batch,
        *,
        gates: Tensor | None = None,
        probe: Probe | None = None,
        edit: Edit | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        """Class scores ``(b, C)`` of a batch.

        ``gates`` of shape ``(L, H)``, or ``(b, L, H)`` for a set of gates per example, multiply each head's context
        vector before the output projection. ``probe`` sees every layer's attention weights, ``edit`` replaces them,
        ``tap`` sees what enters its projections. Gates need the unpruned model.
        """
        with calling(Call(gates=gates, probe=probe, edit=edit, tap=tap)):
            logits: Tensor = self.network(**batch.tensors).logits
        return logits

    def gates(self, keep: np.ndarray[Any, Any]) -> Tensor:
        """A mask ``(L, H)`` as gates on this model's device."""
        return torch.tensor(keep, dtype=torch.float32, device=self.device)

    def enter(self, batch: Batch) -> LayerState:
        """Embed a batch and stop before the first layer."""
        try:
            with calling(Call(stop=True)):
                self.network(**batch.tensors)
        except FirstLayerReached as reached:
            hidden, *args = reached.args_of_layer
            real = batch.tensors["attention_mask"].bool()
            return LayerState(0, hidden, real, tuple(args), reached.kwargs_of_layer)
        raise AssertionError("the network ran without reaching its first layer")

    def step(self, state: LayerState, *, gates: Tensor | None = None, tap: Tap | None = None) -> LayerState:
        """Run one layer."""
        with calling(Call(gates=gates, tap=tap)):
            out = self.layer_modules[state.layer](state.hidden, *state.args, **state.kwargs)
        return replace(state, layer=state.layer + 1, hidden=out if isinstance(out, Tensor) else out[0])
