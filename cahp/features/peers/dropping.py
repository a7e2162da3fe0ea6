"""Whole attention sublayers dropped by how little they change what enters them (He et al. 2024, arXiv 2406.15786)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cahp.models.head_model import HeadModel
from cahp.models.surgery import copy_network
from cahp.tasks.texts import Item
from cahp.values import Floats, HeadMask, Progress, report_progress, silent

STAGE = "similarity"


def measure_similarity(model: HeadModel, inputs: Sequence[Item], *, progress: Progress = silent) -> NDArray[np.float64]:
    """Mean cosine similarity ``(L,)`` over tokens of what enters and leaves each attention sublayer.

    What leaves it is the sum of what enters the layer and the output of its attention, as published.
    """
    copied = copy_network(model)
    entering: dict[int, Tensor] = {}
    sums = np.zeros(model.layers)
    tokens = 0
    real: Tensor | None = None

    def enter(layer: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entering[layer] = (args or (kwargs["hidden_states"],))[0]

    def leave(layer: int, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        added = output
        if not isinstance(added, Tensor):
            added = added[0]
        before = entering[layer]
        alike = torch.cosine_similarity(before.float(), (before + added).float(), dim=-1)
        sums[layer] += float(alike[real].double().sum())

    for layer, module in enumerate(copied.layer_modules):
        module.register_forward_pre_hook(partial(enter, layer), with_kwargs=True)
        module.get_submodule(model.family.attention).register_forward_hook(partial(leave, layer))
    for batch in report_progress(copied.batches(copied.tokenize(inputs)), STAGE, progress):
        real = batch.tensors["attention_mask"].bool()
        tokens += int(real.sum())
        with torch.no_grad():
            copied.logits(batch, states=True)
    return sums / max(1, tokens)


def drop_layers(similarity: Floats, count: int, heads: int) -> HeadMask:
    """Drop all ``heads`` of the ``count`` layers that change least: those of highest ``similarity (L,)``."""
    keep = np.ones((len(similarity), heads), dtype=np.bool_)
    keep[np.argsort(-similarity, kind="stable")[:count]] = False
    return HeadMask(keep)
