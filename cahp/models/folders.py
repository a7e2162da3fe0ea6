"""Trained classifiers as folders: whole, or as an adapter beside its encoder; written whole or not at all."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from cahp import processes as parallel
from cahp.cards import ModelCard
from cahp.models.head_model import HeadModel
from cahp.models.identity import BUILTINS
from cahp.models.loading import read
from cahp.models.lora import Fitted
from cahp.models.saving import save_tokenizer
from cahp.models.selftest import proven
from cahp.models.sketch import quiet
from cahp.output import Output


def save_adapter(fitted: Fitted, out: Path | Output, *, base: str) -> Path:
    """Write the adapter in float16, and the class names, and say where; ``base`` is what it belongs to."""
    # By one process; the others wait, since they may read it next.
    return parallel.from_first(lambda: _write_adapter(fitted, Output.of(out), base))


def _write_adapter(fitted: Fitted, out: Output, base: str) -> Path:
    with out.whole() as part, quiet():
        fitted.peft.save_pretrained(part)
        weights = part / "adapter_model.safetensors"
        save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
        config = json.loads((part / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = base
        # PEFT writes a set here, in another order each time.
        config["target_modules"] = sorted(config["target_modules"])
        (part / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        names = fitted.model.network.config.id2label
        (part / "config.json").write_text(json.dumps({"id2label": names}, indent=2) + "\n")
        (part / "README.md").unlink(missing_ok=True)
    return out.folder


def save_merged(fitted: Fitted, out: Path | Output) -> Path:
    """Write the whole classifier, adapters merged, as any tool of the transformers family loads it, and say where."""
    with quiet():
        merged = copy.deepcopy(fitted.peft).merge_and_unload()
    return save_network(merged, fitted.model.tokenizer, out)


def save_network(
    network: Any,
    tokenizer: Any,
    out: Path | Output,
    *,
    made: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Path:
    """Write network and tokenizer, as safetensors, whole or not at all, and say where; see ``Output.whole``."""

    def write() -> Path:
        output = Output.of(out)
        with output.whole(made) as part, quiet():
            network.save_pretrained(part)
            save_tokenizer(tokenizer, part)
        return output.folder

    return parallel.from_first(write)


def base_name(card: ModelCard) -> str:
    """What an adapter's configuration calls the encoder it belongs to: never a path of this machine."""
    return "sentence-transformers/all-MiniLM-L6-v2" if card.id in BUILTINS else card.id


def load_adapter(card: ModelCard, folder: Path, *, labels: tuple[str, ...], device: str = "auto") -> HeadModel:
    """An encoder with an adapter that ``save_adapter`` wrote, proven.

    Raises:
        ModelError: As ``cahp.models.load``.
    """
    return proven(read(replace(card, labels=labels, adapter=str(folder)), device_name=device))
