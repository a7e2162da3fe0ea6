"""A classifier on an encoder, fitted with low-rank adapters (LoRA, Hu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from cahp.cards import ModelCard
from cahp.models.head_model import HeadModel
from cahp.models.loading import read
from cahp.models.sketch import quiet
from cahp.models.training import Schedule, train
from cahp.models.training_state import Epoch
from cahp.values import Progress, Texts, silent

#: Low-rank adapters stand a far higher rate than whole weights, and need it.
LORA_SCHEDULE = Schedule(epochs=4, learning_rate=5e-4)


@dataclass(frozen=True)
class Fitted:
    """A trained classifier: its adapter beside the encoder, and the epochs it took."""

    model: HeadModel
    peft: Any
    history: list[Epoch]


def fit(
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
    model = read(card, device_name=device, labels=texts.classes)
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
        peft,
        model,
        texts,
        schedule=schedule,
        validation=validation,
        seed=seed,
        stage="fit",
        progress=progress,
    )
    return Fitted(model, peft, history)
