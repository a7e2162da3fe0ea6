"""A plain checkpoint of an evenly pruned model: the class of the original, with fewer heads in its configuration.

It exists where the configuration states the size of a head (Llama, Qwen, Mistral, Gemma, Phi and their kin). Elsewhere
the size is the width over the number of heads, and fewer heads would be larger ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cahp.models.cards import DERIVED_SIZE, FAMILIES, Family, ModelCard
from cahp.models.head_model import HeadModel, Projection, find_module
from cahp.models.identity import output_head
from cahp.models.matching import match_folder
from cahp.models.sketch import quiet, sketch_network
from cahp.models.stored import in_float32
from cahp.models.weights import state_rotation
from cahp.values import HeadMask, OptionError


def refuse_standard(card: ModelCard, *, units: int | None = None, adder: str = "") -> str | None:
    """Return why a model cannot be a plain checkpoint with fewer heads, as a clause (None: it can).

    ``units`` is the number that each layer keeps (None: any), and ``adder`` is the noun of a recovery that adds a bias
    to output projections without one (empty: it adds none). Of a model whose files are not located yet nothing
    is known.
    """
    if not card.folder:
        return None
    # Its details are a dictionary, which cannot be a key.
    return _refuse(replace(card, details=None), (card.details or {}).get("bytes") or 0, units, adder)


def lacks_output_bias(card: ModelCard) -> bool:
    """Whether the output projections of a model's attention have no bias; False if its files are not located."""
    return bool(card.folder) and not _has_output_bias(
        *_sketch(replace(card, details=None), (card.details or {}).get("bytes") or 0)
    )


@lru_cache(maxsize=8)
def _sketch(card: ModelCard, weight_bytes: int) -> tuple[Any, Family]:
    """Build a model's network without weights, and describe its heads."""
    network = sketch_network(card.id, card.folder, card.labels or None, output_head(card), weight_bytes=weight_bytes)
    return network, FAMILIES.get(card.family) or match_folder(card.id, card.folder, weight_bytes=weight_bytes)[0]


@lru_cache(maxsize=8)
def _refuse_any(card: ModelCard, weight_bytes: int) -> str | None:
    network, family = _sketch(card, weight_bytes)
    return _compare(network, _with_fewer(network, card, units=1), family, card)


@lru_cache(maxsize=32)
def _refuse(card: ModelCard, weight_bytes: int, units: int | None, adder: str) -> str | None:
    network, family = _sketch(card, weight_bytes)
    reason = _refuse_any(card, weight_bytes)
    if reason is None and adder and not _has_output_bias(network, family):
        other = _with_fewer(network, card, units=1, biases=True)
        if other is None or not _has_output_bias(other, family):
            reason = f"its class has no bias in the output projection of its attention, and {adder} needs one"
    if reason is None and units is not None and not _is_valid(network.config, card, units):
        counts = [str(count) for count in range(1, card.heads) if _is_valid(network.config, card, count)]
        reason = (
            f"its class refuses a width that is no multiple of {units * card.group} heads, which {units} of "
            f"{card.heads} in every layer are (it takes {', '.join(counts) or 'no other number'})"
        )
    return reason


def _is_valid(config: Any, card: ModelCard, units: int) -> bool:
    """Whether the class of a configuration reads it with ``units`` in every layer."""
    changed = _set_heads(copy.deepcopy(config), card, units)
    with quiet():
        try:
            type(config).from_dict(changed.to_dict())
        except Exception:  # each class checks its own entries
            return False
    return True


def _compare(whole: Any, single: Any, family: Family, card: ModelCard) -> str | None:
    """Return why a network of one unit a layer, ``single``, is not the ``whole`` one without the others."""
    if single is None or family.shared:
        return DERIVED_SIZE
    output = Projection(_layers(single, family)[0].get_submodule(family.output))
    if output.weight.shape[1] != card.head_size:
        return DERIVED_SIZE
    owned = {
        id(parameter)
        for layer in _layers(single, family)
        for path in (family.output, *family.inputs, *family.extra_inputs, *family.vectors)
        if (owner := find_module(layer, path) or find_module(layer, path.rpartition(".")[0])) is not None
        for parameter in owner.parameters(recurse=False)
    }
    sizes = {name: parameter.shape for name, parameter in whole.named_parameters()}
    others = {name: parameter for name, parameter in single.named_parameters() if sizes.get(name) != parameter.shape}
    if any(id(parameter) not in owned for parameter in others.values()):
        return "the entry for its number of heads has an effect on other parts of the model"
    return None


def _layers(network: Any, family: Family) -> list[nn.Module]:
    """The layers with heads of a network."""
    layers = network.base_model.get_submodule(family.layers)
    return [layer for layer in layers if find_module(layer, family.output) is not None]


def _has_output_bias(network: Any, family: Family) -> bool:
    return Projection(_layers(network, family)[0].get_submodule(family.output)).bias is not None


def _with_fewer(network: Any, card: ModelCard, *, units: int, biases: bool = False) -> Any:
    """Build the network without weights, with ``units`` in every layer (None: its class cannot be built so).

    With ``biases``, all projections of attention have a bias.
    """
    try:
        config = _set_heads(copy.deepcopy(network.config), card, units)
        if biases:
            config.attention_bias = True
        with quiet(), torch.device("meta"):
            return type(network)._from_config(config, dtype=torch.float32, attn_implementation="eager")
    except Exception:  # sizes that do not fit each other raise anything
        return None


def _set_heads(config: Any, card: ModelCard, units: int) -> Any:
    """Set the entries of a configuration for ``units`` in every layer; return it."""
    if getattr(config, "num_key_value_heads", None) == card.heads:
        # One key-value head that all query heads share stays.
        config.num_key_value_heads = units
    config.num_attention_heads = units * card.group
    if not getattr(config, "head_dim", None):
        # Elsewhere it is stated, or means another size (of latent attention, the rotated part of a head).
        config.head_dim = card.head_size // card.group
    return config


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def save_standard(folder: Path, pruned: HeadModel, mask: HeadMask) -> None:
    """Save a network that was cut to an even ``mask`` as a checkpoint that its own class loads.

    A bias that a recovery added is kept where the class can have one; queries, keys and values then get zeros.

    Raises:
        OptionError: If the class of the network cannot hold these weights.
    """
    network = in_float32(pruned.network)
    weights = network.state_dict()
    for biases in (False, True):
        plain = _with_fewer(network, pruned.card, units=len(mask.by_layer[0]), biases=biases)
        if plain is None:
            continue
        empty = plain.state_dict()
        added = {name: torch.zeros(empty[name].shape) for name in empty.keys() - weights.keys()}
        held = {**weights, **added}
        if all(name.endswith(".bias") for name in added) and hold_same(plain, held):
            break
    else:
        raise OptionError(
            f"the class of {pruned.card.id} cannot hold the weights of the pruned model; export it as compact"
        )
    save_plain(folder, plain, held, network)


def hold_same(plain: Any, weights: Mapping[str, Tensor]) -> bool:
    """Whether a network has exactly these ``weights``, by name and shape."""
    return _shapes(weights) == _shapes(plain.state_dict())


def save_plain(folder: Path, plain: Any, weights: Mapping[str, Tensor], network: Any) -> None:
    """Save ``weights`` as a checkpoint of the class of ``plain``, which gets them, as ``network`` generates."""
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    if plain.can_generate():
        plain.generation_config = network.generation_config
    with quiet():
        plain.save_pretrained(folder)
    state_rotation(folder)
