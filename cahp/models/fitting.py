"""Fit a classifier on an encoder, as an adapter or with all weights, and write it to a folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cahp import processes as parallel
from cahp.cards import ModelCard
from cahp.models.head_model import HeadModel
from cahp.models.identity import BUILTINS
from cahp.models.loading import load_model
from cahp.models.saving import save_tokenizer
from cahp.models.selftest import ensure_verified
from cahp.models.sketch import quiet
from cahp.models.training import Schedule, TrainingCheckpoint, train
from cahp.models.training_state import Epoch
from cahp.output import Output
from cahp.values import Progress, Texts, silent

#: Low-rank adapters need a far higher rate than whole weights.
LORA_SCHEDULE = Schedule(epochs=4, learning_rate=5e-4)
#: Three epochs of AdamW at 2e-5 in batches of 32.
PAPER_SCHEDULE = Schedule()


@dataclass(frozen=True)
class Fitted:
    """A trained classifier: its adapter beside the encoder, and the epochs of its training."""

    model: HeadModel
    peft: Any
    history: list[Epoch]


def fit_adapter(
    card: ModelCard,
    texts: Texts,
    *,
    validation: Texts | None = None,
    schedule: Schedule = LORA_SCHEDULE,
    rank: int = 16,
    device: str = "auto",
    seed: int = 42,
    progress: Progress = silent,
) -> Fitted:
    """Train a classifier on an encoder with low-rank adapters on all its linear layers (LoRA, Hu et al. 2021)."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = load_model(card, device_name=device, labels=texts.classes)
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.05,
        target_modules="all-linear",
        bias="none",
    )
    with quiet():
        peft = get_peft_model(model.network, config)
    history = train(
        peft, model, texts, schedule=schedule, validation=validation, seed=seed, stage="fit", progress=progress
    )
    return Fitted(model, peft, history)


def fit_whole(
    card: ModelCard,
    texts: Texts,
    *,
    validation: Texts,
    schedule: Schedule = PAPER_SCHEDULE,
    device: str = "auto",
    seed: int = 42,
    progress: Progress = silent,
    checkpoint: TrainingCheckpoint | None = None,
) -> tuple[HeadModel, list[Epoch]]:
    """Train all weights of an encoder with a new head, as the paper does; return the classifier and its epochs.

    The epoch with the highest accuracy on ``validation`` is kept. With a ``checkpoint`` an interrupted training is
    resumed; see ``cahp.models.training.optimise``.
    """
    torch.manual_seed(seed)
    model = load_model(card, device_name=device, labels=texts.classes)
    network = copy.deepcopy(model.network).requires_grad_(True)
    history = train(
        network,
        model,
        texts,
        schedule=schedule,
        validation=validation,
        seed=seed,
        stage="fit",
        progress=progress,
        checkpoint=checkpoint,
    )
    return model.around(network), history


def save_adapter(fitted: Fitted, out: Path | Output, *, base: str) -> Path:
    """Write the adapter in float16, and the class names; return the folder. ``base`` names its encoder."""
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
    """Write the whole classifier with its adapters merged, as any tool of transformers loads it; return the folder."""
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
    """Write network and tokenizer, as safetensors, whole or not at all; return the folder. See ``Output.whole``."""

    def write() -> Path:
        output = Output.of(out)
        with output.whole(made) as part, quiet():
            network.save_pretrained(part)
            save_tokenizer(tokenizer, part)
        return output.folder

    return parallel.from_first(write)


def base_name(card: ModelCard) -> str:
    """The name of an adapter's encoder in its configuration: never a path of this machine."""
    return "sentence-transformers/all-MiniLM-L6-v2" if card.id in BUILTINS else card.id


def load_adapter(card: ModelCard, folder: Path, *, labels: tuple[str, ...], device: str = "auto") -> HeadModel:
    """Load an encoder with an adapter from ``save_adapter``, and verify its heads.

    Raises:
        ModelError: As ``cahp.models.load``.
    """
    return ensure_verified(load_model(replace(card, labels=labels, adapter=str(folder)), device_name=device))
