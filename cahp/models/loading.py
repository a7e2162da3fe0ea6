"""From a model's card to a running network, checked before anyone sees it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from cahp.models.attention import IMPLEMENTATION
from cahp.models.head_model import HeadModel
from cahp.values import ModelCard, ModelError, OptionError


def device(name: str) -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        OptionError: If this machine has no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if name not in available:
        raise OptionError(f"no device named {name!r}; use auto, cpu, cuda or mps")
    if not available[name]:
        raise OptionError(f"this machine has no {name} device; use --device auto")
    return torch.device(name)


def read(card: ModelCard, *, device_name: str = "auto", labels: tuple[str, ...] | None = None) -> HeadModel:
    """Read the weights of ``card``.

    ``labels`` gives a plain encoder a new, untrained classification head (for training only).

    Raises:
        ModelError: If the weights are broken, or no trained head is there and none was asked for.
    """
    fresh = labels is not None
    names = labels if labels is not None else card.labels
    if not names:
        raise ModelError(
            f"{card.id} has no trained classification head; train one with "
            f"`cahp fit --model {card.id} --data DATA --out DIR`"
        )
    where = device(device_name)
    network, missing = _network(card, names)
    head_only = {name for name in missing if name.split(".")[0] not in {network.base_model_prefix}}
    if missing and not card.adapter and not (fresh and missing == head_only):
        raise ModelError(
            f"{card.id} lacks the weights {', '.join(sorted(missing)[:3])}, which would be random; "
            "save the whole model again"
        )
    if card.adapter is not None and not fresh:
        network = _merged(network, card)
    tokenizer = AutoTokenizer.from_pretrained(card.folder, use_fast=True, trust_remote_code=False)
    if tokenizer.pad_token is None:
        raise ModelError(f"the tokenizer of {card.id} has no padding token; set one and save it again")
    return HeadModel(network.to(where), tokenizer, card)


def _network(card: ModelCard, names: tuple[str, ...]) -> tuple[Any, set[str]]:
    try:
        with quiet():
            network, report = AutoModelForSequenceClassification.from_pretrained(
                card.folder,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=IMPLEMENTATION,
                dtype=torch.float32,
                id2label=dict(enumerate(names)),
                label2id={name: index for index, name in enumerate(names)},
                problem_type="single_label_classification",
                output_loading_info=True,
            )
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError) as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the weights of {card.id} cannot be read ({first}); save or download the model again"
        ) from None
    return network, set(report["missing_keys"])


def _merged(network: nn.Module, card: ModelCard) -> nn.Module:
    from peft import PeftModel

    assert card.adapter is not None
    with quiet():
        merged: nn.Module = PeftModel.from_pretrained(network, card.adapter).merge_and_unload()
    return merged


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' progress bars, reports and deprecations: what matters of them we say ourselves."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
