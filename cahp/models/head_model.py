"""A loaded model whose heads can be gated, watched and cut: it tokenises, makes batches, and runs whole or by layer."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from cahp.models.attention import (
    Arguments,
    Edit,
    FirstLayerReached,
    ForwardCall,
    Leaving,
    PooledProbe,
    Probe,
    Tap,
    Tensors,
    attach,
    calling,
)
from cahp.models.cards import Family, ModelCard, Site, count_positions
from cahp.models.compact import read_words
from cahp.models.devices import activation_bytes, batch_size, move_to
from cahp.models.identity import MAX_LENGTH
from cahp.models.tokenizing import ROOM, PromptReader, Tokens, count_whole, list_texts, tokenize
from cahp.models.vocabulary import attach_head, hidden_states, logits_at
from cahp.tasks.texts import Item
from cahp.values import Array, HeadMask, Input, Ints, JsonObject, OptionError, Precision


def is_linear(module: object) -> bool:
    """Whether ``module`` is a plain linear map; modules that are made of one and do more are not."""
    return type(module) in (nn.Linear, Conv1D)


def find_module(layer: nn.Module, path: str) -> nn.Module | None:
    """The module at ``path`` below a layer, None if there is none."""
    try:
        return layer.get_submodule(path)
    except AttributeError:
        return None


def list_stack(network: Any, family: Family) -> list[nn.Module]:
    """All layers of a network: those with heads, and those without between them."""
    listed = network.base_model.get_submodule(family.layers)
    if family.shared is None:
        return list(listed)
    return [layer for group in listed for layer in group.get_submodule(family.shared).children()]


def list_layers(network: Any, family: Family) -> list[nn.Module]:
    """The layers of a network with heads, first to last; a layer that is used in many passes counts once."""
    return [layer for layer in list_stack(network, family) if find_module(layer, family.output) is not None]


@dataclass(frozen=True, eq=False)
class Projection:
    """A ``Linear``, or GPT-2's ``Conv1D`` that stores the same weights the other way round."""

    module: nn.Module

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


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of similar length, padded together.

    ``rows (b,)`` are their row numbers in the sample, ``tensors`` the inputs of the network. ``here (b, tokens)`` marks
    the real tokens in the processor's memory, which saves waiting for a device.
    """

    rows: Ints
    tensors: dict[str, Tensor]
    here: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def real(self) -> Tensor:
        """Which tokens are real, ``(b, tokens)``, on the device of the tensors."""
        return self.tensors["attention_mask"].bool()

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return int(self.here.sum())

    def mark_last(self, counts: Sequence[int] | Ints) -> Tensor:
        """Mark so many of the last tokens of each input as ``counts (b,)`` says, ``(b, tokens)``."""
        # Tokens after each one, itself included; padding is at the end.
        left = self.here.flip(1).cumsum(1).flip(1)
        return (self.here & (left <= torch.as_tensor(counts)[:, None])).to(self.tensors["attention_mask"].device)


@dataclass(frozen=True, eq=False)
class LayerState:
    """The state of a batch before layer ``layer``: hidden states ``(b, tokens, hidden)`` and which tokens are real."""

    layer: int
    hidden: Tensor
    real: Tensor
    #: The arguments of each layer except hidden states; one entry if all layers have the same.
    arguments: tuple[Arguments, ...]


@dataclass(frozen=True)
class Verified:
    """The result of a passed self-test.

    Every gate changes the logits, unless its head has only zeros as output weights. Over random masks
    the logits of the masked and of the cut model differ by at most ``difference``, relative to the largest logit where
    that is above 1 (None: the model was pruned before, and nothing was cut).
    """

    difference: float | None


#: More tokens than any context has.
_ENDLESS = 1 << 20


class HeadModel:
    """A classifier, or a language model, whose heads can be gated, watched and cut.

    A language model answers a ``prompt``, or ``predicts_tokens`` of windows of text.

    The network is in eval mode with frozen weights and is never changed, so one ``HeadModel`` may serve many threads.
    It has ``layers`` with ``heads`` each before pruning; ``head_counts[layer]`` is the current number of heads (uneven
    after surgery). ``verified`` is the result of its self-test, None before it ran (``cahp.models.verify_model``), also
    for models made by surgery or training.
    """

    def __init__(self, network: Any, tokenizer: Any, card: ModelCard, *, family: Family) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.card = card
        self.family = family
        self.layers = card.layers
        self.heads = card.heads
        self.verified: Verified | None = None
        #: Where its weights are, if they are not kept in float32.
        self.notice: str | None = None
        #: Whether the memory that was free decides where they are, so that times differ from day to day.
        self.lacks_room = False
        #: Makes prompts of texts (None: the model reads the texts themselves).
        self.prompt: PromptReader | None = None
        #: Whether it is measured on the next tokens of windows of text.
        self.predicts_tokens = card.predicts_tokens
        if self.predicts_tokens:
            attach_head(network)
        #: For each layer that can do without its attention, the number of entries that this returns (None: a tensor).
        self.entries: dict[int, int | None] | None = None
        attach(self)
        if card.prompt is not None:
            self.prompt = PromptReader(tokenizer, card.prompt, card.id)
            attach_head(network)
            if self.prompt.length + ROOM > self.max_length:
                raise OptionError(
                    f"the prompt alone takes {self.prompt.length} of the {self.max_length} tokens that {card.id} "
                    "reads; shorten it"
                )

    def with_network(self, network: Any, *, family: Family | None = None) -> HeadModel:
        """The same model with another network, such as a copy of its own; it is not verified."""
        other = copy.copy(self)
        other.network = network.eval().requires_grad_(False)
        other.family = family or self.family
        other.verified = None
        return other

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def head_counts(self) -> tuple[int, ...]:
        """Current number of heads of each layer."""
        return tuple(self.projection(layer).weight.shape[1] // self.card.head_size for layer in range(self.layers))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def layer_modules(self) -> list[nn.Module]:
        """The layers with heads; see ``list_layers``."""
        return list_layers(self.network, self.family)

    @property
    def stack(self) -> list[nn.Module]:
        """All layers; see ``list_stack``."""
        return list_stack(self.network, self.family)

    @property
    def _places(self) -> list[int]:
        """The indices of the layers with heads."""
        return [index for index, layer in enumerate(self.stack) if find_module(layer, self.family.output) is not None]

    @property
    def has_tails(self) -> bool:
        """Whether the first layers can be left out (``surgery.tail``): the others need only their hidden states."""
        return self.family.tails and self.card.no_refit is None and len(self.stack) == self.layers

    def projection(self, layer: int, site: Site = "output") -> Projection:
        """A projection of a layer: of its heads' context vectors (``output``), or of its feed-forward block."""
        path = getattr(self.family, site)
        assert path is not None
        return Projection(self.layer_modules[layer].get_submodule(path))

    def head_weights(self, layer: int) -> list[Tensor]:
        """The weights of each head of an unpruned layer.

        A tensor ``(heads, ...)`` for each block of its query, key and value projections, and one for its output.
        """
        module = self.layer_modules[layer]
        weights = []
        for path, rows in {**self.family.uncut, **self.family.inputs}.items():
            weight = Projection(module.get_submodule(path)).weight
            size = len(weight) // (self.heads * sum(rows.parts) + rows.shared)
            sizes = [*(self.heads * part * size for part in rows.parts), rows.shared * size]
            parts = torch.split(weight, sizes)
            weights += [part.reshape(self.heads, -1, part.shape[1]) for part in parts[: len(rows.parts)]]
        output = self.projection(layer).weight
        return [*weights, output.T.reshape(self.heads, -1, len(output))]

    @property
    def longest(self) -> int:
        """Largest number of tokens of an input that the network and its tokenizer can read."""
        limits = [int(self.tokenizer.model_max_length)]
        positions = count_positions(self.network.config, offset=self.family.offset_positions)
        if positions is not None:
            limits.append(positions)
        if self.family.longest is not None:
            limits.append(self.family.longest)
        return min(limits)

    @property
    def max_length(self) -> int:
        """Largest number of tokens of an input; the tokens of a prompt come on top."""
        return min((self.card.max_length or MAX_LENGTH) + self.prompt_length, self.longest)

    @property
    def longest_context(self) -> int:
        """Largest number of tokens that it reads at once, of any text."""
        if self.card.cache is None:
            return self.max_length
        return self.card.cache.positions or _ENDLESS

    @property
    def prompt_length(self) -> int:
        """Number of tokens of the prompt without any text; 0 without a prompt."""
        if self.prompt is None:
            return 0
        return self.prompt.length

    @property
    def backward_tokens(self) -> int:
        """Padded tokens of a batch, so that the activations of one backward pass fit into memory."""
        # Twelve float32 vectors of the hidden size per token and layer stay in memory until the backward pass.
        fastest, _ = batch_size(self.device)
        return max(1, min(fastest, activation_bytes(self.device) // (self.layers * self.card.hidden * 48)))

    def tokenize(self, inputs: Sequence[Item], *, max_length: int | None = None) -> Tokens:
        """Token ids of each text or pair, in its prompt if there is one, truncated, without padding.

        ``max_length`` limits the text; a prompt comes on top, and is never truncated. Of a window the last token is
        left out, which is only predicted.

        Raises:
            DataError: If a text has no tokens at all.
        """
        return tokenize(self, inputs, max_length=max_length)

    def count_tokens(self, inputs: Sequence[Item]) -> list[int]:
        """The number of tokens of each text or pair as a whole, in its prompt if there is one; none of windows."""
        if self.prompt is not None:
            return self.prompt.count_tokens(list_texts(inputs))
        return count_whole(self.tokenizer, inputs)

    def examples(self, sentences: Sequence[str]) -> list[Input]:
        """Sentences as inputs of this model: each paired with the next if its prompt takes pairs."""
        if self.card.prompt is None or not self.card.prompt.pairs:
            return list(sentences)
        return list(zip(sentences, [*sentences[1:], sentences[0]], strict=True))

    def batches(
        self, tokens: Tokens, *, rows: Sequence[int] | Ints | None = None, size: int | None = None
    ) -> list[Batch]:
        """Batches of at most ``size`` padded tokens (at least one input), longest inputs first.

        The default size is what the device runs fastest. ``rows`` selects inputs: those of a batch index ``tokens``.
        """
        if rows is None:
            rows = range(len(tokens))
        chosen = np.asarray(rows, dtype=np.int64)
        lengths = np.array([len(tokens[row]["input_ids"]) for row in chosen], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")
        fastest, most = batch_size(self.device)
        if size is None:
            size = fastest
            if self.predicts_tokens:
                # Of windows a first result is wanted soon, and a few are as fast.
                size = fastest // 4
        batches = []
        start = 0
        while start < len(order):
            fit = max(1, min(most, size // max(1, int(lengths[order[start]]))))
            batches.append(self.make_batch(tokens, chosen[order[start : start + fit]]))
            start += fit
        return batches

    def make_batch(self, tokens: Tokens, rows: Sequence[int] | Ints) -> Batch:
        """Pad the inputs ``rows`` of ``tokens``."""
        padded = self.tokenizer.pad([tokens[row] for row in rows], return_tensors="pt")
        tensors = {name: move_to(tensor, self.device) for name, tensor in padded.items()}
        return Batch(np.asarray(rows), tensors, padded["attention_mask"].bool())

    def logits(
        self,
        batch: Batch,
        *,
        gates: Tensor | None = None,
        fill: Tensor | Sequence[Tensor | float] | None = None,
        probe: Probe | None = None,
        edit: Edit | None = None,
        tap: Tap | None = None,
        leaving: Leaving | None = None,
        start: Tensor | None = None,
        precision: Precision = "float32",
        vocabulary: bool = False,
        states: bool = False,
    ) -> Tensor:
        """Class scores ``(b, C)`` of a batch; of a language model that predicts tokens, logits ``(b, V)`` of the next.

        With ``vocabulary`` a language model with a prompt gives its logits ``(b, V)`` of all tokens, with ``states``
        the hidden states ``(b, tokens, hidden)`` before its head.

        ``gates`` of shape ``(L, H)``, or ``(b, L, H)`` with gates for each example, multiply each head's context
        vector before the output projection; ``fill`` of shape ``(L, width)`` takes the place of what they close (None:
        zeros). ``probe`` gets the attention weights of every layer (a ``PooledProbe`` their pooled maps), ``edit``
        replaces them, ``tap`` gets the inputs of its projections, and ``leaving`` the output of the layer, which it may
        replace. ``start`` are the hidden states at the start of a
        ``tail``. Matrix products are computed in ``precision``.
        """
        if edit is not None and not self.family.edits:
            raise OptionError(
                f"the attention maps of {self.card.id} can be read but not replaced; choose a method that does not "
                "edit maps"
            )
        inputs: JsonObject = batch.tensors
        returned: list[Any] = []
        totals = dict[int, Tensor]()
        passes = Counter[int]()

        def collect(layer: int, weights: Tensor) -> None:
            totals[layer] = totals.get(layer, 0) + weights
            passes[layer] += 1

        watch = probe
        if probe is not None and not self.family.edits:
            # Only the weights that the network itself returns are known.
            inputs = {**batch.tensors, "output_attentions": True}
            watch = None
        elif probe is not None and self.family.shared:
            # A layer that is used in many passes gives the mean of its maps.
            watch = collect
        pooled: PooledProbe | None = None
        # A layer that is used in many passes gives the mean of whole maps.
        if isinstance(probe, PooledProbe) and self.family.pools and not self.family.shared and edit is None:
            pooled = probe
        call = ForwardCall(gates, fill, watch, edit, tap, leaving, start=start, answers=returned, pooled=pooled)
        # To each operation weights are float32. In bfloat16 matrix products use numbers of 8 binary digits, not 24;
        # normalisations, sums over texts and losses stay in float32, and so does the softmax of attention, except in
        # families that write it out (DeBERTa and ESM).
        half = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
        with calling(call), half:
            logits = hidden_states(self.network, inputs) if states else self.scores(inputs, vocabulary=vocabulary)
        if probe is not None:
            for layer, weights in sorted(totals.items()):
                probe(layer, weights / passes[layer])
            if watch is None:
                answer = returned[-1]
                maps = getattr(answer, "attentions", None) or getattr(answer, "encoder_attentions", None) or ()
                # Some networks return nothing for layers without heads.
                if len(maps) == len(self.stack) != self.layers:
                    maps = [maps[place] for place in self._places]
                for layer, weights in enumerate(maps):
                    probe(layer, weights.detach())
        return logits

    def scores(self, inputs: Tensors, *, vocabulary: bool = False) -> Tensor:
        """Class scores ``(b, C)`` of padded inputs; of a language model that predicts tokens, logits ``(b, V)``.

        With a prompt, the scores are logits of the answers' first tokens, or with ``vocabulary`` those of all tokens.
        """
        if self.prompt is None and not self.predicts_tokens:
            logits: Tensor = self.network(**inputs).logits
            return logits
        at = inputs["attention_mask"].sum(1) - 1
        if self.prompt is not None:
            at = self.prompt.positions(inputs)
        options: JsonObject = {}
        if self.card.language == "causal":
            # Here no next token follows; the exported model still caches keys and values.
            options["use_cache"] = False
        logits = logits_at(self.network, inputs, at, **options)
        if self.prompt is None or vocabulary:
            return logits
        return logits[:, [answer.token for answer in self.prompt.answers]]

    def gates(self, keep: Array) -> Tensor:
        """A mask ``(L, H)`` as gates on the model's device."""
        return torch.tensor(keep, dtype=torch.float32, device=self.device)

    def gates_of(self, mask: HeadMask | None) -> Tensor | None:
        """The gates that close the heads which ``mask`` drops (None: all heads are open)."""
        if mask is None or mask.is_full:
            return None
        return self.gates(mask.keep)

    def enter(self, batch: Batch) -> LayerState:
        """Embed a batch and stop before the first layer with heads."""
        real = batch.real
        arguments: list[Arguments] = []
        # Only a whole pass shows the arguments of the later layers.
        with suppress(FirstLayerReached), calling(ForwardCall(record=arguments, stop=not self.family.own_arguments)):
            self.scores(batch.tensors)
        hidden: Tensor | None = None
        others = []
        for args, kwargs in arguments[self._places[0] :]:
            first, *rest = args or (kwargs["hidden_states"],)
            if hidden is None:
                hidden = first
            others.append((tuple(rest), {name: value for name, value in kwargs.items() if name != "hidden_states"}))
        assert hidden is not None
        return LayerState(0, hidden, real, tuple(others))

    def step(
        self,
        state: LayerState,
        *,
        gates: Tensor | None = None,
        fill: Sequence[Tensor] | None = None,
        tap: Tap | None = None,
    ) -> LayerState:
        """Run a layer with heads, and the following ones without heads; the options are those of ``logits``."""
        stack = self.stack
        places = self._places
        first, stop = [*places, len(stack)][state.layer : state.layer + 2]
        hidden = state.hidden
        read_words(state.real)
        with calling(ForwardCall(gates, fill, tap=tap)):
            for place in range(first, stop):
                args, kwargs = state.arguments[min(place - places[0], len(state.arguments) - 1)]
                out = stack[place](hidden, *args, **kwargs)
                hidden = out if isinstance(out, Tensor) else out[0]
        return replace(state, layer=state.layer + 1, hidden=hidden)
