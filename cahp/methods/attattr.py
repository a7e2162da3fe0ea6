"""Attention attribution: the contribution of attention weights to the right prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import STAGE, Scored, draw_texts
from cahp.tasks.texts import Texts
from cahp.values import Floats, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

STEPS = 20
MOST = 200


@register
class AttentionAttribution(Scored):
    """Keep the heads whose attention weights contribute most to the right prediction.

    Of each layer, ``Attr(A) = A * (1/m) sum_{i=1..m} d p_gold(A i/m) / dA`` with all the layer's heads scaled together,
    ``m = 20`` (the right Riemann sum of the integrated gradients); the score is ``sum_x max_{s,t} Attr_h(A_x)[s, t]``,
    the signed maximum over pairs of real tokens. Heads that share keys and values count as one, and so do the passes of
    a layer that is used in many. Of a window of a language model, ``p_gold`` is the geometric mean of the probabilities
    of its tokens. Source: Hao et al., AAAI 2021 (AttAttr, arXiv 2004.11207). Cost: for each of at most 200 texts, one
    forward pass for the maps, and 20 forward and backward passes for each layer. Labels: of those texts. Randomness:
    the evidence's seed says which texts, if there are more.
    """

    name = "attattr"
    labels = "needed"
    most = MOST
    expensive = True

    def score(self, evidence: Evidence) -> Floats:
        """Summed maxima, shape ``(L, H)``."""
        texts = draw_texts(evidence, most=MOST)
        return evidence.cached(
            f"attention attributions of {len(texts)} texts in {STEPS} steps",
            lambda: attributions(evidence.model, texts, progress=evidence.progress).sum(axis=0),
        )

    def count_passes(self, evidence: Evidence, budget: int) -> float:
        """One for the maps, and forward and backward passes of every layer and step."""
        return 1 + 3 * STEPS * evidence.card.layers


def attributions(model: HeadModel, texts: Texts, *, steps: int = STEPS, progress: Progress) -> Floats:
    """The largest attribution of each text, layer and head, shape ``(len(texts), L, H)``."""
    import torch

    from cahp.models.surgery import tail

    values = np.zeros((len(texts), model.layers, model.heads))
    labels = torch.as_tensor(texts.labels, device=model.device)
    batches = model.batches(model.tokenize(texts.inputs), size=model.backward_tokens)
    done = 0
    total = sum(map(len, batches)) * model.layers * steps
    for batch in batches:
        maps = _maps(model, batch)
        state = None
        if model.has_tails:
            state = model.enter(batch)
        real = batch.real
        pairs = real[:, None, :, None] & real[:, None, None, :]
        for layer in range(model.layers):
            start = None
            rest = model
            if state is not None:
                # The layers below are the same in all steps.
                start = state.hidden
                rest = tail(model, layer) or model
            sums = [torch.zeros_like(weights) for weights in maps[layer]]
            for step in range(1, steps + 1):
                progress(STAGE, done, total)
                slopes = _slopes(rest, batch, layer, maps[layer], step / steps, labels[batch.rows], start)
                for summed, slope in zip(sums, slopes, strict=True):
                    summed += slope
                done += len(batch)
            for weights, summed in zip(maps[layer], sums, strict=True):
                attributed = (weights * summed / steps).masked_fill(~pairs, -torch.inf)
                best = attributed.reshape(len(batch), model.heads, -1).amax(dim=2).double().cpu().numpy()
                if weights is not maps[layer][0]:
                    # A layer that is used in many passes has its best pass.
                    best = np.maximum(values[batch.rows, layer], best)
                values[batch.rows, layer] = best
            if state is not None:
                with torch.no_grad():
                    state = model.step(state)
    progress(STAGE, done, total)
    return values


def _maps(model: HeadModel, batch: Batch) -> list[list[Tensor]]:
    """The attention weights of each layer, one tensor for each time that it is used."""
    import torch

    maps: list[list[Tensor]] = [[] for _ in range(model.layers)]

    def record(layer: int, weights: Tensor) -> Tensor:
        maps[layer].append(weights)
        return weights

    with torch.no_grad():
        # Not by a probe, which gets the mean of the heads that share keys and values.
        model.logits(batch, edit=record)
    return maps


def _slopes(
    model: HeadModel, batch: Batch, layer: int, maps: list[Tensor], share: float, labels: Tensor, start: Tensor | None
) -> tuple[Tensor, ...]:
    """Gradients of the right class's probability with one layer's attention weights scaled by ``share``."""
    import torch

    from cahp.models.reading import right_probabilities

    scaled = [(weights * share).requires_grad_() for weights in maps]
    left = iter(scaled)

    def scale(at: int, weights: Tensor) -> Tensor:
        if at == layer:
            return next(left)
        return weights

    # In the sum, the probability of each text depends only on its own weights.
    right = right_probabilities(model, batch, labels, edit=scale, start=start).sum()
    return torch.autograd.grad(right, scaled)
