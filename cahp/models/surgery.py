"""Physical removal of heads: smaller query, key, value and output projections, layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cahp.models.attention import Site
from cahp.models.families import Family
from cahp.models.head_model import HeadModel
from cahp.models.projection import Projection
from cahp.values import HeadMask, MaskError


def cut(
    model: HeadModel,
    mask: HeadMask,
    *,
    projections: Mapping[tuple[int, Site], tuple[Tensor, Tensor | None]] | None = None,
) -> HeadModel:
    """The model without the heads that ``mask`` drops; what is not cut is shared, not copied.

    ``projections`` replaces projections by layer and site, with weight and bias as they are after the cut: what
    refit solved.

    Raises:
        MaskError: If the mask has another shape or empties a layer, or the model was cut before.
    """
    if model.card.kept is not None:
        raise MaskError(f"{model.card.id} was pruned before; cut the model that it was made from")
    if (mask.layers, mask.heads) != (model.layers, model.heads):
        raise MaskError(
            f"the mask is for {mask.layers} x {mask.heads} heads but {model.card.id} has {model.layers} x "
            f"{model.heads}; make one with `cahp prune --model {model.card.id}`"
        )
    if mask.empty_layers:
        raise MaskError(
            f"layer {mask.empty_layers[0]} would keep no head, and a layer without heads cannot be cut out; "
            "keep at least one head in every layer"
        )
    pruned = _copy(model)
    for index, layer in enumerate(pruned.layer_modules):
        kept = _kept(model, mask, index)
        for path, blocks in _inputs(layer, model.family).items():
            projection = Projection(layer.get_submodule(path))
            rows = _channels(kept, len(projection.weight), model.heads, blocks)
            projection.replace(projection.weight[rows], None if projection.bias is None else projection.bias[rows])
        output = pruned.projection(index)
        columns = _channels(kept, output.weight.shape[1], model.heads)
        output.replace(output.weight[:, columns], output.bias)
        mark(layer, model.family, kept, group=model.card.group, channels=len(columns))
    for (index, site), (weight, bias) in (projections or {}).items():
        pruned.projection(index, site).replace(weight, bias)
    return pruned


def tail(model: HeadModel, layer: int) -> HeadModel | None:
    """The model without the layers before ``layer``; gates and layers keep their numbers, weights are shared.

    Its ``logits`` take the hidden states before that layer (``LayerState.hidden``) as ``start``, so what several calls
    have in common is computed once. None where layers cannot be walked one by one.
    """
    if model.card.no_refit:
        return None
    made = _copy(model)
    left = nn.ModuleList(made.layer_modules[layer:])
    left[0].cahp_entry = True  # type: ignore[assignment]
    parent, _, name = model.family.layers.rpartition(".")
    setattr(made.network.base_model.get_submodule(parent), name, left)
    return made


def mark(layer: nn.Module, family: Family, kept: Tensor | None, *, group: int, channels: int) -> None:
    """Tell a layer's modules which heads it keeps (None: all of ``channels`` channels), and how many that makes."""
    attention = layer.get_submodule(family.attention)
    for module in (attention, layer.get_submodule(family.output)):
        module.cahp_kept = kept  # type: ignore[assignment]
    if kept is not None:
        for name, value in sizes(family, heads=len(kept) * group, channels=channels).items():
            setattr(attention, name, value)


def sizes(family: Family, *, heads: int, channels: int) -> dict[str, int]:
    """The attributes of an attention module of so many query heads and channels."""
    return {name: heads if what == "heads" else channels for name, what in family.sizes.items()}


def _inputs(layer: nn.Module, family: Family) -> dict[str, int]:
    there = {name for name, _ in layer.named_modules()}
    return {**family.inputs, **{path: 1 for path in family.extra_inputs if path in there}}


def _copy(model: HeadModel) -> HeadModel:
    # A memo that already holds every tensor makes deepcopy copy the modules and share the weights.
    shared = {id(tensor): tensor for tensor in chain(model.network.parameters(), model.network.buffers())}
    return HeadModel(copy.deepcopy(model.network, shared), model.tokenizer, model.card, attached=True)


def separate(pruned: HeadModel) -> HeadModel:
    """A copy that shares no weights: what ``cut`` shares must not be trained."""
    return HeadModel(copy.deepcopy(pruned.network), pruned.tokenizer, pruned.card, attached=True)


def with_weights(pruned: HeadModel, weights: Mapping[str, NDArray[Any]]) -> HeadModel:
    """A pruned model with these weights, by name: what a training made of it."""
    made = separate(pruned)
    with torch.no_grad():
        for name, parameter in made.network.named_parameters():
            parameter.copy_(torch.tensor(weights[name]))
    return made


def _kept(model: HeadModel, mask: HeadMask, layer: int) -> Tensor:
    return torch.tensor(mask.by_layer[layer], device=model.device)


def _channels(kept: Tensor, total: int, heads: int, blocks: int = 1) -> Tensor:
    """Indices, among ``total`` channels in ``blocks`` that are each ordered by head, of those of the kept heads."""
    every = torch.arange(total, device=kept.device).reshape(blocks, heads, -1)
    return every[:, kept].flatten()


def restore_shapes(model: HeadModel, pruned: HeadModel, mask: HeadMask) -> Any:
    """The network of ``pruned`` in the shapes of ``model``: pruned heads are there, with zero output weights.

    Any tool that loads the original loads this, and it answers as the pruned model does.
    """
    restored = _copy(pruned)
    for index, layer in enumerate(restored.layer_modules):
        kept, source = _kept(model, mask, index), model.layer_modules[index]
        for path, blocks in _inputs(layer, model.family).items():
            whole, part = Projection(source.get_submodule(path)), Projection(layer.get_submodule(path))
            rows = _channels(kept, len(whole.weight), model.heads, blocks)
            # Fine-tuning may have changed the kept heads; the others keep what they had.
            weight, bias = whole.weight.clone(), None
            weight[rows] = part.weight
            if whole.bias is not None and part.bias is not None:
                bias = whole.bias.clone()
                bias[rows] = part.bias
            part.replace(weight, bias)
        output = restored.projection(index)
        weight = torch.zeros_like(model.projection(index).weight)
        weight[:, _channels(kept, weight.shape[1], model.heads)] = output.weight
        output.replace(weight, output.bias)
        everything = torch.arange(model.heads, device=model.device)
        mark(layer, model.family, everything, group=model.card.group, channels=weight.shape[1])
    return restored.network
