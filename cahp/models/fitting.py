"""Fit a classifier on an encoder, as an adapter or with all weights, and write it to a folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from cahp.models.sketch import quiet
from cahp.models.training import Schedule, train
from cahp.models.training_state import Epoch
from cahp.models.weights import ADAPTER, ADAPTER_CONFIG, CONFIG
from cahp.output import Output
from cahp.store import StoredTraining
from cahp.values import Progress, Texts, silent

#: Low-rank adapters need a far higher rate than whole weights.
LORA_SCHEDULE = Schedule(epochs=4, learning_rate=5e-4)
#: Three epochs of AdamW at 2e-5 in batches of 32.
PAPER_SCHEDULE = Schedule()


@dataclass(frozen=True)
class Fitted:
    """A trained classifier: its ``network`` (an encoder with an adapter, or with its own weights), and its epochs."""

    model: HeadModel
    network: Any
    history: list[Epoch]


def fit(
    card: ModelCard,
    texts: Texts,
    *,
    validation: Texts,
    schedule: Schedule,
    rank: int | None = None,
    device: str = "auto",
    seed: int = 42,
    progress: Progress = silent,
    checkpoint: StoredTraining | None = None,
) -> Fitted:
    """Train a classifier on an encoder, and keep the epoch with the highest accuracy on ``validation``.

    ``rank`` is that of low-rank adapters on all its linear layers (LoRA, Hu et al. 2021); None trains all weights with
    a new head, as the paper does. With a ``checkpoint`` an interrupted training is resumed; see
    ``cahp.models.training.optimise``.
    """
    torch.manual_seed(seed)
    model = load_model(card, device_name=device, labels=texts.classes)
    if rank is None:
        network = copy.deepcopy(model.network).requires_grad_(True)
    else:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="SEQ_CLS",
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.05,
            target_modules="all-linear",
            bias="none",
        )
        with quiet():
            network = get_peft_model(model.network, config)
    history = train(
        network,
        model,
        texts,
        validation=validation,
        schedule=schedule,
        seed=seed,
        stage="fit",
        progress=progress,
        checkpoint=checkpoint,
    )
    return Fitted(model, network, history)


def save_adapter(fitted: Fitted, out: Path | Output) -> Path:
    """Write the adapter in float16, and the class names; return the folder."""

    def write() -> Path:
        output, card = Output.of(out), fitted.model.card
        with output.whole() as part, quiet():
            fitted.network.save_pretrained(part)
            weights = part / ADAPTER
            save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
            config = json.loads((part / ADAPTER_CONFIG).read_text())
            # Never a path of this machine.
            config["base_model_name_or_path"] = (
                "sentence-transformers/all-MiniLM-L6-v2" if card.id in BUILTINS else card.id
            )
            # PEFT writes a set here, in another order each time.
            config["target_modules"] = sorted(config["target_modules"])
            (part / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
            names = fitted.model.network.config.id2label
            (part / CONFIG).write_text(json.dumps({"id2label": names}, indent=2) + "\n")
            (part / "README.md").unlink(missing_ok=True)
        return output.folder

    # By one process; the others wait, since they may read it next.
    return parallel.from_first(write)


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
