"""A network without weights: what a configuration describes, whether weights fit it, and what a pass computes."""

from __future__ import annotations

import itertools
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from threading import Lock, RLock, local
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from cahp.models.cards import ModelCard
from cahp.models.compact import HEADS
from cahp.models.identity import output_head
from cahp.models.weights import Shape, count_weights
from cahp.tasks.task import Head
from cahp.values import ModelError
from cahp.words import first_line

#: To be held while transformers or PEFT loads a network: they replace functions of PyTorch and of the classes of models
#: for that time, and put back what they found.
LOADING = RLock()
#: All threads have the same loggers and filters: the first block silences them, and the last one restores them.
_changing = Lock()
_blocks = 0
_restoring = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars, reports and deprecations inside the block, in all threads."""
    global _blocks
    with _changing:
        if _blocks == 0:
            _restoring.enter_context(_silence())
        _blocks += 1
    try:
        yield
    finally:
        with _changing:
            _blocks -= 1
            if _blocks == 0:
                _restoring.close()


@contextmanager
def _silence() -> Iterator[None]:
    verbosity = transformers_logging.get_verbosity()
    drawn = transformers_logging.is_progress_bar_enabled()
    # It warns of weights that stay on the disk.
    placing = logging.getLogger("accelerate.big_modeling")
    level = placing.level
    placing.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        placing.setLevel(level)
        if drawn:
            transformers_logging.enable_progress_bar()


#: Weights that may be missing from the files (so that an error can name them), and bytes of tables (of positions,
#: masks) that are no weights.
_SLACK = 4_000_000
_SLACK_BYTES = 32 << 20
#: Number of modules and parameters that any network may have, and how many more for each byte of its weights: without
#: numbers they cost nothing but the time to make them.
_PARTS = 5_000
_PARTS_PER_BYTE = 1 / 250


class _TooManyParts(Exception):
    """A sketch has more modules and parameters than its files can hold weights for."""


#: The count of parts of the sketch that a thread makes, and the ``most`` of them; PyTorch calls hooks in all threads.
_sketching = local()


def _count_part(*_: object) -> None:
    parts = getattr(_sketching, "parts", None)
    if parts is not None and next(parts) >= _sketching.most:
        raise _TooManyParts


# For good: PyTorch goes through its hooks while another thread would remove one.
register_module_module_registration_hook(_count_part)
register_module_parameter_registration_hook(_count_part)


def sketch_network(
    name: str, folder: str, names: tuple[str, ...] | None, head: Head = "classification", *, weight_bytes: int
) -> Any:
    """Build the network of the configuration in ``folder`` without weights, with a head for the classes ``names``.

    The bytes of the model's files, ``weight_bytes``, limit the time that it takes.

    Raises:
        ModelError: If the configuration describes no network, or one with far more modules than the files can hold.
    """
    _sketching.most = _PARTS + int(weight_bytes * _PARTS_PER_BYTE)
    _sketching.parts = itertools.count()
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if getattr(config, "cahp", None):
                # A pruned model is described with all its heads.
                config.per_layer_config = None
            if names is not None and head == "classification":
                config.num_labels = len(names)
            # The type of the configuration would become PyTorch's default in all threads.
            with torch.device("meta"):
                return HEADS[head].from_config(config, dtype=torch.float32, trust_remote_code=False)
    except _TooManyParts:
        raise ModelError(
            f"the config.json of {name} asks for far more modules than its {weight_bytes:,} bytes of weights can hold: "
            "they do not belong together; save the whole model again"
        ) from None
    except Exception as error:  # a damaged configuration raises anything
        raise ModelError(f"{name} cannot be read ({first_line(error)}); save or download the model again") from None
    finally:
        _sketching.parts = None


def check_fit(
    card: ModelCard,
    stored: Mapping[str, Shape],
    *,
    names: tuple[str, ...] | None,
    own_head: bool,
    head: Head = "classification",
) -> None:
    """Compare the weights of a configuration with those that are ``stored``, before memory is taken for them.

    Missing weights are drawn at random before they can be refused, and a width or a vocabulary may be any number.
    ``names`` are the classes of the head, which must be stored if it is the model's ``own_head``; a pruned model lacks
    most heads.

    Raises:
        ModelError: If the shapes of weights differ, or the configuration has far more weights than the files.
    """
    count = count_weights(stored)
    sketch = sketch_network(card.id, card.folder, names, head, weight_bytes=4 * count)
    prefix = f"{sketch.base_model_prefix}."
    wanted = {name: tuple(weight.shape) for name, weight in sketch.named_parameters()}
    # The weights of a plain encoder are stored without the prefix.
    lost = [
        weight
        for weight, shape in wanted.items()
        if (stored.get(weight) or stored.get(weight.removeprefix(prefix))) not in (None, shape)
        and (own_head or weight.startswith(prefix))
    ]
    if lost and card.kept is None:
        raise ModelError(lost_weights(card.id, lost, "have other shapes than its config.json says"))
    claimed = sum(math.prod(shape) for weight, shape in wanted.items() if weight.startswith(prefix))
    outside = count_weights(wanted) - claimed
    buffers = sum(buffer.nbytes for buffer in sketch.buffers())
    times = 1
    if card.kept is not None:
        # A pruned model lacks most of its heads, and no other weights.
        times = 4
    if claimed > times * count + _SLACK or outside > claimed + _SLACK or buffers > 4 * (4 * count) + _SLACK_BYTES:
        raise ModelError(
            f"the config.json of {card.id} asks for {claimed + outside:,} weights and its files hold {count:,}: they "
            "do not belong together; save the whole model again"
        )


def operations(card: ModelCard) -> float:
    """Floating-point operations of a forward pass per token, in a text of 32 tokens.

    Two for each weight of the layers (only of the experts that are chosen), and those of attention scores and sums.

    Raises:
        ModelError: If the configuration describes no network.
    """
    details = card.details or {}
    passes = details.get("passes") or card.layers
    weights, _ = _count_multiplied(card)
    return 2 * weights * passes / card.layers + 4 * passes * card.heads * card.head_size * 32


def head_operations(card: ModelCard) -> float:
    """Floating-point operations of a language model's head per token: two for each weight.

    Raises:
        ModelError: If the configuration describes no network.
    """
    return 2 * _count_multiplied(card)[1]


def _count_multiplied(card: ModelCard) -> tuple[float, int]:
    weight_bytes = (card.details or {}).get("bytes") or 0
    return _count_weights(card.id, card.folder, card.labels or None, output_head(card), weight_bytes)


@lru_cache(maxsize=16)
def _count_weights(
    name: str, folder: str, labels: tuple[str, ...] | None, head: Head, weight_bytes: int
) -> tuple[float, int]:
    """The number of weights that the hidden states of a token are multiplied with, and those of its vocabulary.

    The first excludes embeddings and the head.
    """
    network = sketch_network(name, folder, labels, head, weight_bytes=weight_bytes)
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next((count for key in names if (count := getattr(network.config, key, None))), None)
    chosen = getattr(network.config, "num_experts_per_tok", None)
    share = 1.0
    if experts and chosen:
        share = chosen / experts
    counts = list[float]()
    for module in network.base_model.modules():
        if isinstance(module, nn.Embedding):
            continue
        for weight in module.parameters(recurse=False):
            if weight.ndim == 3:
                # Weights of experts; a token is multiplied with those of a few experts.
                counts.append(math.prod(weight.shape) * share)
            elif weight.ndim > 1:
                counts.append(math.prod(weight.shape))
    head_weights = 0
    out = network.get_output_embeddings()
    if out is not None:
        head_weights = out.weight.numel()
    return math.fsum(counts), head_weights


def lost_weights(name: str, weights: list[str], problem: str) -> str:
    """The error message about some weights, with the names of the first three."""
    first = ", ".join(weights[:3])
    if len(weights) > 3:
        first += f" and {len(weights) - 3} more"
    return f"the weights {first} of {name} {problem}; save the whole model again"
