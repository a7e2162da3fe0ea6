"""A classifier on an encoder with all its weights trained, as the paper makes its own."""

from __future__ import annotations

import copy

import torch

from cahp.cards import ModelCard
from cahp.models.head_model import HeadModel
from cahp.models.loading import read
from cahp.models.training import Schedule, TrainingCheckpoint, train
from cahp.models.training_state import Epoch
from cahp.values import Progress, Texts, silent

#: Three epochs of AdamW at 2e-5 in batches of 32.
PAPER_SCHEDULE = Schedule()


def fit(
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
    """The encoder with a new head and all weights trained on ``texts``, and its epochs.

    The epoch that answers most of ``validation`` rightly is kept. With a ``checkpoint`` a training that was stopped is
    resumed; see ``cahp.models.training.train``.
    """
    torch.manual_seed(seed)
    model = read(card, device_name=device, labels=texts.classes)
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
    return HeadModel(network, model.tokenizer, model.card, attached=True), history
