"""Physical removal of heads: smaller query, key, value and output projections, layer by layer."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from cahp.models.attention import ForwardCall, calling
from cahp.models.cards import Family, Rows, check_architecture
from cahp.models.compact import Bypass, Positional, cut_planes, empty_attention, fill_attention, set_bypass, set_size
from cahp.models.head_model import HeadModel, Projection, find_module, list_layers
from cahp.models.matching import match_network
from cahp.models.stored import check_memory
from cahp.values import Arrays, HeadMask, MaskError, ModelError

_BY_HEAD = Rows()


def _list_kept(model: HeadModel, mask: HeadMask, layer: int) -> Tensor:
    return torch.tensor(mask.by_layer[layer], dtype=torch.long, device=model.device)


def cut(model: HeadModel, mask: HeadMask | NDArray[Any]) -> HeadModel:
    """Remove the heads that ``mask`` drops; all other weights are shared with ``model``, not copied.

    Heads that cannot be cut out (``no_cut``) stay and are closed for good: their output weights are zero, and nothing
    of them enters the output projection.

    Of a layer without heads only the intercept of the output projection is left, and the feed-forward block.

    Raises:
        MaskError: If the mask has another shape, or empties a layer that cannot do without its attention; or the model
            was cut before.
    """
    if not isinstance(model, HeadModel):
        raise ModelError(f"cut takes a model that `cahp.load` returned, not {type(model).__name__}")
    if not isinstance(mask, HeadMask):
        mask = HeadMask(mask)
    if model.card.kept is not None:
        raise MaskError(f"{model.card.id} is already pruned; cut the model that it was made from")
    mask.check_fits(model.layers, model.heads, model.card.id)
    if not can_cut(model, mask):
        raise MaskError(
            f"layer {mask.empty_layers[0]} would keep no head, and {model.card.id} cannot do without the attention of "
            "a layer; keep at least one head in every layer"
        )
    pruned = copy_network(model)
    for index, layer in enumerate(pruned.layer_modules):
        kept = _list_kept(model, mask, index)
        output = pruned.projection(index)
        columns = list_channels(kept, output.weight.shape[1], model.heads)
        if model.family.no_cut is not None:
            open_channels = torch.zeros(output.weight.shape[1], device=kept.device)
            open_channels[columns] = 1.0
            output.replace(output.weight * open_channels, output.bias)
            output.module.cahp_open = open_channels
            continue
        take_heads(layer, model, kept)
        output.replace(output.weight[:, columns], output.bias)
        mark(layer, model, kept)
        if index in mask.empty_layers and model.entries is not None:
            empty_attention(layer.get_submodule(model.family.attention), _own_output(model), model.entries[index])
    return pruned


@contextmanager
def masked(network: PreTrainedModel, mask: HeadMask | NDArray[Any]) -> Iterator[PreTrainedModel]:
    """Close the heads that ``mask`` drops in a network of transformers: ``with cahp.masked(model, mask): ...``.

    Inside the block, every call of the network, also by ``generate`` and by other threads, gives what the model without
    these heads does. After it, and after an exception, the network is as before. Weights keep their gradients.

    Raises:
        ModelError: If it is no such network, or its heads are not found.
        MaskError: If the mask has another shape.
    """
    if not isinstance(network, PreTrainedModel):
        raise ModelError(f"masked takes a model of transformers, not {type(network).__name__}")
    if not isinstance(mask, HeadMask):
        mask = HeadMask(mask)
    name = type(network).__name__
    check_architecture(name, network.config.model_type)
    family, facts = match_network(name, network, causal=False)
    mask.check_fits(facts["layers"], facts["heads"], name)
    with ExitStack() as stack:
        for layer, keep in zip(list_layers(network, family), mask.keep, strict=True):
            channels = torch.tensor(keep).repeat_interleave(facts["head_size"])
            hook = layer.get_submodule(family.output).register_forward_pre_hook(partial(_close, channels))
            stack.callback(hook.remove)
        yield network


def _close(channels: Tensor, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0] * channels.to(args[0]), *args[1:])


def add_bypass(pruned: HeadModel, layer: int, down: Tensor, up: Tensor) -> None:
    """Add a ``cahp.models.compact.Bypass`` beside the heads of a layer of a copied model."""
    module = pruned.layer_modules[layer]
    attention = module.get_submodule(pruned.family.attention)
    output = module.get_submodule(pruned.family.output)
    set_bypass(pruned.network, attention, output, Bypass(down, up, place=layer, causal=pruned.family.causal))


def find_bypass(pruned: HeadModel, layer: int) -> Bypass | None:
    """Return the bypass of a layer, if it has one."""
    attention = pruned.layer_modules[layer].get_submodule(pruned.family.attention)
    bypass: Bypass | None = getattr(attention, "cahp_bypass", None)
    return bypass


def take_heads(layer: nn.Module, model: HeadModel, heads: Tensor) -> None:
    """Leave the given ``heads`` of a copied layer of ``model``, in this order, before its output projection."""
    for path, rows in _inputs(layer, model.family).items():
        projection = Projection(layer.get_submodule(path))
        left = list_channels(heads, len(projection.weight), model.heads, rows)
        bias = projection.bias
        if bias is not None:
            bias = bias[left]
        projection.replace(projection.weight[left], bias)
    for owner, name in _vectors(layer, model.family):
        vector = getattr(owner, name)
        left = list_channels(heads, len(vector), model.heads)
        setattr(owner, name, nn.Parameter(vector.detach()[left], requires_grad=False))


def can_cut(model: HeadModel, mask: HeadMask) -> bool:
    """Whether the heads that ``mask`` drops can be cut out: a layer without heads must do without its attention.

    The model then runs once with all heads closed: what its attention returns must not depend on the text, and must be
    all that later layers get of it.
    """
    if not mask.empty_layers or model.family.no_cut is not None:
        return True
    if model.entries is None:
        model.entries = _find_entries(model)
    return set(mask.empty_layers) <= model.entries.keys()


def _find_entries(model: HeadModel) -> dict[int, int | None]:
    """What ``HeadModel.entries`` holds: the layers that can do without their attention, by one pass with gates at 0."""
    if model.family.shared:
        return {}
    entries = dict[int, int | None]()
    own = _own_output(model)

    def see(layer: int, module: nn.Module, args: Positional, output: Any) -> None:
        if isinstance(output, list):
            return
        count = None
        rest = list[Any]()
        if isinstance(output, tuple):
            count = len(output)
            output, *rest = output
        projection = model.projection(layer)
        if own is None:
            alone = output.shape[-1] == projection.weight.shape[1]
        else:
            if projection.bias is not None:
                output = output - projection.bias
            alone = bool(output.abs().max() <= 1e-6)
        # Some layers compute a bias on scores for all later ones. Where attention is computed by our function, no layer
        # returns weights.
        own_bias = model.family.interface or model.family.planes is not None
        if alone and not (own_bias and any(isinstance(returned, Tensor) for returned in rest)):
            entries[layer] = count

    # The copy is dropped with its hooks.
    copied = copy_network(model)
    for index, layer in enumerate(copied.layer_modules):
        layer.get_submodule(model.family.attention).register_forward_hook(partial(see, index))
    (batch, *_) = copied.batches(copied.tokenize(copied.examples(["A short text.", "Another one."])))
    gates = torch.zeros(model.layers, model.heads, device=model.device)
    with torch.no_grad(), calling(ForwardCall(gates=gates)):
        copied.scores(batch.tensors)
    return entries


def _own_output(model: HeadModel) -> str | None:
    """The path of the output projection inside the attention module; None if it lies outside."""
    path = model.family.output
    if not model.family.attention:
        return path
    prefix = f"{model.family.attention}."
    if not path.startswith(prefix):
        return None
    return path.removeprefix(prefix)


def tail(model: HeadModel, layer: int) -> HeadModel | None:
    """The model without the layers before ``layer``; gates and layers keep their numbers, weights are shared.

    Its ``logits`` take the hidden states before that layer (``LayerState.hidden``) as ``start``, so the first layers
    run once for several calls. None if the model cannot be divided (``has_tails``).
    """
    if not model.has_tails:
        return None
    copied = copy_network(model)
    left = nn.ModuleList(copied.layer_modules[layer:])
    left[0].cahp_entry = True  # type: ignore[assignment]
    parent, _, name = model.family.layers.rpartition(".")
    setattr(copied.network.base_model.get_submodule(parent), name, left)
    return copied


def mark(layer: nn.Module, model: HeadModel, kept: Tensor) -> None:
    """Set on a layer's modules which heads it keeps, and their numbers of heads and channels."""
    family = model.family
    group = model.card.group
    attention = layer.get_submodule(family.attention)
    output = layer.get_submodule(family.output)
    output.cahp_kept = kept
    channels = Projection(output).weight.shape[1]
    for name, value in sizes(family, units=len(kept), group=group, channels=channels).items():
        set_size(attention, name, value)
    if not len(kept):
        return
    if family.planes is not None:
        cut_planes(attention, family.planes, model.heads, kept.tolist())
    if family.selects:
        attention.cahp_selects = (model.heads, group, kept)  # type: ignore[assignment]


def sizes(family: Family, *, units: int, group: int, channels: int) -> dict[str, int]:
    """The size attributes of an attention module with so many units of ``group`` query heads, and channels."""
    counts = {"heads": units * group, "units": units, "channels": channels}
    return {name: counts[what] for name, what in family.sizes.items()}


def _inputs(layer: nn.Module, family: Family) -> dict[str, Rows]:
    extra = {path: _BY_HEAD for path in family.extra_inputs if find_module(layer, path) is not None}
    return {**family.inputs, **extra}


def _vectors(layer: nn.Module, family: Family) -> Iterator[tuple[nn.Module, str]]:
    for path in family.vectors:
        parent, _, name = path.rpartition(".")
        owner = layer.get_submodule(parent)
        if getattr(owner, name, None) is not None:
            yield owner, name


def copy_network(model: HeadModel) -> HeadModel:
    """Copy the modules of a model, which may then be changed; the weights are shared."""
    # A memo that already holds every tensor makes deepcopy copy the modules and share the weights.
    shared = {id(tensor): tensor for tensor in chain(model.network.parameters(), model.network.buffers())}
    return model.with_network(copy.deepcopy(model.network, shared))


def separate(pruned: HeadModel, *, trained: bool = True) -> HeadModel:
    """A copy that shares no weights, with float32 weights, which are to be ``trained`` or not.

    Raises:
        ModelError: If weights that are kept otherwise have no room in float32.
    """
    if trained:
        # With their gradients and the two averages of the optimiser.
        check_memory(pruned.network, "a training", copies=4)
    else:
        check_memory(pruned.network, "a copy", copies=1)
    copied = pruned.with_network(copy.deepcopy(pruned.network))
    copied.network.requires_grad_(trained)
    return copied


def with_weights(pruned: HeadModel, weights: Arrays) -> HeadModel:
    """A copy of a pruned model with other weights, by name, such as those of a training."""
    copied = separate(pruned, trained=False)
    with torch.no_grad():
        for name, parameter in copied.network.named_parameters():
            parameter.copy_(torch.tensor(weights[name]))
    return copied


def list_channels(kept: Tensor, total: int, heads: int, rows: Rows = _BY_HEAD) -> Tensor:
    """Indices of the channels of kept heads and of shared channels, among ``total`` channels in the order ``rows``."""
    size = total // (heads * sum(rows.parts) + rows.shared)
    every = torch.arange(total, device=kept.device)
    left = list[Tensor]()
    start = 0
    for part in rows.parts:
        stop = start + heads * part * size
        left.append(every[start:stop].reshape(heads, -1)[kept].flatten())
        start = stop
    return torch.cat([*left, every[start:]])


def restore_shapes(model: HeadModel, pruned: HeadModel, mask: HeadMask) -> Any:
    """The network of ``pruned`` in the shapes of ``model``: pruned heads have zero output weights.

    Any tool that loads the original loads it, and its logits are those of the pruned model, unless a recovery added a
    bias, which the original's shapes lack.
    """
    restored = copy_network(pruned)
    if model.family.no_cut is not None:
        return restored.network
    for index, layer in enumerate(restored.layer_modules):
        kept = _list_kept(model, mask, index)
        source = model.layer_modules[index]
        if index in mask.empty_layers:
            fill_attention(layer.get_submodule(model.family.attention))
        # Fine-tuning may have changed the kept heads; the others have their original weights.
        for path, rows in _inputs(layer, model.family).items():
            whole = Projection(source.get_submodule(path))
            part = Projection(layer.get_submodule(path))
            left = list_channels(kept, len(whole.weight), model.heads, rows)
            bias = None
            if whole.bias is not None and part.bias is not None:
                bias = _insert(whole.bias, left, part.bias)
            part.replace(_insert(whole.weight, left, part.weight), bias)
        for (owner, name), (origin, _) in zip(
            _vectors(layer, model.family), _vectors(source, model.family), strict=True
        ):
            vector = getattr(origin, name)
            vector = _insert(vector, list_channels(kept, len(vector), model.heads), getattr(owner, name))
            setattr(owner, name, nn.Parameter(vector, requires_grad=False))
        output = restored.projection(index)
        weight = model.projection(index).weight
        columns = list_channels(kept, weight.shape[1], model.heads)
        output.replace(_insert(torch.zeros_like(weight).T, columns, output.weight.T).T, output.bias)
        mark(layer, model, torch.arange(model.heads, device=model.device))
    return restored.network


def _insert(whole: Tensor, rows: Tensor, part: Tensor) -> Tensor:
    """A copy of ``whole`` with ``part`` in some of its rows."""
    return whole.detach().clone().index_copy(0, rows, part.detach())
