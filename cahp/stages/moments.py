"""Second moments of heads' context vectors and of their gradients: one forward and one backward pass, no labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cahp.models.cards import Site
from cahp.models.devices import free_bytes
from cahp.models.head_model import HeadModel
from cahp.models.reading import fisher_score
from cahp.tasks.texts import Texts
from cahp.values import ModelError, Progress, report_progress, silent
from cahp.values.statistics import Moments
from cahp.words import size_of

STAGE = "moments"


def collect_moments(model: HeadModel, texts: Texts, *, seed: int = 42, progress: Progress = silent) -> Moments:
    """Second moments of every layer over all tokens of ``texts``, whose labels are not read.

    The ``seed`` draws the signs of ``fisher_score``.

    Raises:
        ModelError: If the device has no room for two matrices of each layer.
    """
    width = model.projection(0).weight.shape[1]
    needed = 8 * model.layers * width**2
    room = free_bytes(model.device)
    if room is not None and needed > room:
        raise ModelError(
            f"the Fisher metric of {model.card.id} needs {size_of(needed)}, and {model.device.type} has "
            f"{size_of(room)} free; use another --method, or a machine with more memory"
        )
    contexts, gradients = (torch.zeros(model.layers, width, width, device=model.device) for _ in range(2))
    products = np.zeros((model.layers, model.heads, model.heads))
    batches = model.batches(model.tokenize(texts.inputs), size=model.backward_tokens)
    tokens = sum(int(batch.lengths.sum()) for batch in batches)
    for number, batch in enumerate(report_progress(batches, STAGE, progress)):
        real = batch.tensors["attention_mask"].bool()
        seen: list[tuple[int, Tensor]] = []

        def watch(site: Site, layer: int, entering: Tensor, seen: list[tuple[int, Tensor]] = seen) -> None:
            if site == "output":
                seen.append((layer, entering))

        # Gates, so that context vectors have gradients although all weights are frozen.
        gates = torch.ones(len(batch), model.layers, model.heads, device=model.device, requires_grad=True)
        # Each batch has its own signs.
        generator = torch.Generator().manual_seed((seed << 24) + number)
        score = fisher_score(model, batch, generator, gates=gates, tap=watch)
        wanted = [gates, *(entering for _, entering in seen)]
        of_gates, *of_contexts = torch.autograd.grad(score, wanted, materialize_grads=True)
        # The gradient of a gate is the sum of the products of context vectors and gradients.
        alone = of_gates.double().cpu().numpy()
        products += np.einsum("nlh,nlk->lhk", alone, alone)
        # A layer that is used in many passes is seen in each of them.
        for (layer, entering), gradient in zip(seen, of_contexts, strict=True):
            for total, rows in ((contexts[layer], entering.detach()), (gradients[layer], gradient)):
                chosen = rows.reshape(*real.shape, width)[real].float()
                total.addmm_(chosen.T, chosen)
    first, second = ((total / tokens).cpu().numpy() for total in (contexts, gradients))
    return Moments(first, second, products / max(1, len(texts)), model.heads, tokens)
