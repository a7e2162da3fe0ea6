"""The quick refit: attention outputs solved for any mask from Gram matrices of the full model, computed once.

For a layer with output projection ``W`` (one row per channel), inputs ``X`` in the *full* model and ``G = X'X``, the
kept channels ``K`` get ``W' = W_K + (G_KK + ridge m I)^-1 (G_K: W - G_KK W_K)``, with ``m`` the mean square of the kept
channels: the nearest outputs to the full model's that they can make. An intercept counts as a kept channel that is
not penalised. Errors of lower layers are not corrected, since the inputs are those of the full model: that takes the
refit of ``cahp.stages.recovery``, which runs every layer again for every mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cahp.models.cards import Site
from cahp.models.devices import float64_device
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.tasks.texts import Item
from cahp.values import HeadMask, Progress, report_progress, silent
from cahp.values.statistics import one_openblas_thread

STAGE = "gram matrices"
#: Strength of the pull towards the old weights, relative to the mean square of the kept channels.
RIDGE = 0.01


@dataclass(frozen=True, eq=False)
class Grams:
    """Gram matrices of the inputs of each layer's output projection in the full model, over ``items`` texts or windows.

    ``products (L, D + 1, D + 1)`` float32 are means over tokens of ``x x'``, with ``x`` the context vectors of a
    layer's heads side by side and a last channel that is always 1.
    """

    products: NDArray[np.float32]
    items: int


def collect_grams(model: HeadModel, inputs: Sequence[Item], *, progress: Progress = silent) -> Grams:
    """Run the full model over ``inputs`` once, and sum up what each output projection reads."""
    width = model.projection(0).weight.shape[1]
    where = float64_device(model.device)
    # An intercept follows from small differences of these sums.
    sums = torch.zeros(model.layers, width + 1, width + 1, dtype=torch.float64, device=where)
    tokens = 0
    for batch in report_progress(model.batches(model.tokenize(inputs)), STAGE, progress):
        real = batch.tensors["attention_mask"].bool()
        tokens += int(real.sum())

        def add(site: Site, layer: int, entering: Tensor, real: Tensor = real) -> None:
            if site == "output":
                rows = entering.reshape(*real.shape, width)[real].to(where).double()
                design = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
                sums[layer].addmm_(design.T, design)

        model.logits(batch, tap=add)
    return Grams((sums / max(1, tokens)).float().cpu().numpy(), len(inputs))


def solve_at_once(model: HeadModel, mask: HeadMask, grams: Grams, *, ridge: float = RIDGE) -> HeadModel:
    """Return the model cut to ``mask`` whose attention outputs are solved from ``grams``; nothing is run.

    Layers that keep all heads, and layers that keep none and have no intercept, stay as they are.
    """
    pruned = cut(model, mask)
    where = float64_device(model.device)
    with one_openblas_thread():
        for layer in range(model.layers):
            if not mask.keep[layer].all():
                _solve_layer(
                    model, pruned, layer, mask, torch.from_numpy(grams.products[layer]).to(where).double(), ridge
                )
    return pruned


def _solve_layer(
    model: HeadModel, pruned: HeadModel, layer: int, mask: HeadMask, products: Tensor, ridge: float
) -> None:
    full = model.projection(layer)
    output = pruned.projection(layer)
    width = full.weight.shape[1]
    channels = np.flatnonzero(np.repeat(mask.keep[layer], width // model.heads))
    known = torch.from_numpy(channels).to(products.device)
    penalised = len(channels)
    weights = full.weight.to(products.device).double().T
    read = torch.arange(width, device=products.device)
    if output.bias is not None and full.bias is not None:
        # The intercept of the full model, and its own column in both.
        weights = torch.cat([weights, full.bias.to(products.device).double()[None]])
        known = torch.cat([known, known.new_tensor([width])])
        read = torch.cat([read, read.new_tensor([width])])
    if not len(known):
        return
    gram = products[known][:, known]
    kept = weights[torch.isin(read, known)]
    penalty = torch.zeros_like(gram.diagonal())
    penalty[:penalised] = ridge * float(gram.diagonal()[:penalised].sum()) / max(1, penalised)
    factor = torch.linalg.cholesky(gram + penalty.diag())
    solved = kept + torch.cholesky_solve(products[known][:, read] @ weights - gram @ kept, factor)
    device = output.weight.device
    bias = output.bias
    if len(known) > penalised:
        bias = solved[-1].float().to(device)
    weight = solved[:penalised].T.float().contiguous().to(device)
    if output.weight.shape[1] == width:
        # Heads of this model are masked, and not cut: the projection reads all of them.
        kept_weight = weight
        weight = torch.zeros_like(output.weight)
        weight[:, torch.from_numpy(channels).to(device)] = kept_weight
    output.replace(weight, bias)
