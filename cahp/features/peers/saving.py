"""A model whose layers are all merged, as a plain checkpoint of its own class with one key-value head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.saving import save_tokenizer
from cahp.models.sketch import quiet
from cahp.models.standard import hold_same, save_plain
from cahp.tasks.texts import Item
from cahp.values import CahpError, OptionError

#: Logits of what was read back differ by at most so much, relative to the largest.
_TOLERANCE = 1e-5


def save_merged(folder: Path, merged: HeadModel) -> None:
    """Save a model whose layers all have one key-value head, with its tokenizer; transformers alone reads it.

    Raises:
        OptionError: If a layer has more, or the class of the network cannot hold these weights.
    """
    network = merged.network
    config = copy.deepcopy(network.config)
    config.num_key_value_heads = 1
    if not getattr(config, "head_dim", None):
        config.head_dim = merged.card.head_size // merged.card.group
    with quiet():
        plain = type(network)._from_config(config, dtype=torch.float32)
    weights = network.state_dict()
    if not hold_same(plain, weights):
        raise OptionError(f"the class of {merged.card.id} cannot hold the merged weights, or not all layers are merged")
    save_plain(folder, plain, weights, network)
    save_tokenizer(merged.tokenizer, folder)


def check_folder(folder: Path) -> None:
    """Check that a folder can be written, before long work.

    Raises:
        OptionError: If it has files.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder} exists and is not empty; name a new folder with --merged")


def write_merged(folder: Path, merged: HeadModel, inputs: Sequence[Item]) -> None:
    """Save a merged model, read it back, compare its logits on an input, and only then move it to ``folder``.

    Raises:
        CahpError: If what was read back differs.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as place:
        written = Path(place) / "model"
        save_merged(written, merged)
        read = models.load(str(written), device=merged.device.type)
        batch, *_ = merged.batches(merged.tokenize(inputs[:1]))
        with torch.no_grad():
            expected = merged.logits(batch)
            difference = float((read.logits(batch) - expected).abs().max() / expected.abs().max().clamp(min=1))
        if difference > _TOLERANCE:
            raise CahpError(f"the merged model that was read back differs by {difference:.1e}; report this")
        written.replace(folder)
