"""Physical removal of heads: smaller query, key, value and output projections, layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from cahp.models.attention import Site
from cahp.models.head_model import HeadModel
from cahp.values import HeadMask, MaskError


def cut(
    model: HeadModel, mask: HeadMask, *, projections: Mapping[tuple[int, Site], tuple[Tensor, Tensor]] | None = None
) -> HeadModel:
    """The model without the heads that ``mask`` drops; what is not cut is shared, not copied.

    ``projections`` replaces projections by layer and site, with weight and bias as they are after the cut: what
    refit solved.

    Raises:
        MaskError: If the mask has another shape, or empties a layer.
    """
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
        channels = _channels(model, mask, index)
        for path in (model.family.query, model.family.key, model.family.value):
            _replace(layer, path, *_rows(layer.get_submodule(path), channels))
        _replace(layer, model.family.output, *_columns(layer.get_submodule(model.family.output), channels))
    for (index, site), (weight, bias) in (projections or {}).items():
        _replace(pruned.layer_modules[index], getattr(model.family, site), weight, bias)
    return pruned


def _copy(model: HeadModel) -> HeadModel:
    # A memo that already holds every tensor makes deepcopy copy the modules and share the weights.
    shared = {id(tensor): tensor for tensor in chain(model.network.parameters(), model.network.buffers())}
    return HeadModel(copy.deepcopy(model.network, shared), model.tokenizer, model.card, attached=True)


def _channels(model: HeadModel, mask: HeadMask, layer: int) -> Tensor:
    kept = torch.tensor(mask.keep[layer].tolist(), device=model.device)
    return torch.nonzero(kept.repeat_interleave(model.card.head_size)).flatten()


def _rows(linear: nn.Module, channels: Tensor) -> tuple[Tensor, Tensor | None]:
    assert isinstance(linear, nn.Linear)
    return linear.weight[channels], None if linear.bias is None else linear.bias[channels]


def _columns(linear: nn.Module, channels: Tensor) -> tuple[Tensor, Tensor | None]:
    assert isinstance(linear, nn.Linear)
    return linear.weight[:, channels], linear.bias


def _replace(layer: nn.Module, path: str, weight: Tensor, bias: Tensor | None) -> None:
    # Changed in place (the module is this copy's own), so its hooks stay.
    linear = layer.get_submodule(path)
    assert isinstance(linear, nn.Linear)
    linear.out_features, linear.in_features = weight.shape
    linear.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    linear.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach(), requires_grad=False))


def restore_shapes(model: HeadModel, pruned: HeadModel, mask: HeadMask) -> nn.Module:
    """The network of ``pruned`` in the shapes of ``model``: pruned heads are there, with zero output weights.

    Any tool that loads the original loads this, and it answers as the pruned model does.
    """
    network = _copy(pruned).network
    restored = HeadModel(network, model.tokenizer, model.card, attached=True)
    for index, layer in enumerate(restored.layer_modules):
        channels = _channels(model, mask, index)
        source = model.layer_modules[index]
        for path in (model.family.query, model.family.key, model.family.value):
            whole, part = source.get_submodule(path), layer.get_submodule(path)
            assert isinstance(whole, nn.Linear)
            assert isinstance(part, nn.Linear)
            # Fine-tuning may have changed the kept heads; the others keep what they had.
            weight = whole.weight.clone()
            weight[channels] = part.weight
            bias = None if whole.bias is None else whole.bias.clone()
            if bias is not None:
                bias[channels] = part.bias
            _replace(layer, path, weight, bias)
        part = restored.projection(index)
        weight = torch.zeros_like(model.projection(index).weight)
        weight[:, channels] = part.weight
        _replace(layer, model.family.output, weight, part.bias)
    return restored.network  # type: ignore[no-any-return]
