"""The one training loop, and what is trained with it: a classifier on an encoder (LoRA), a pruned model's recovery.

Needs a network of its own: unlike everything else here, training changes weights.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import LengthGroupedSampler

from cahp.models.head_model import HeadModel, Tokens
from cahp.models.identity import BUILTINS
from cahp.models.loading import quiet, read
from cahp.values import ModelCard, Progress, Texts, silent


@dataclass(frozen=True)
class Schedule:
    """AdamW with a linear schedule; the defaults are the paper's recovery."""

    epochs: int = 3
    learning_rate: float = 2e-5
    batch: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0


#: Low-rank adapters stand a far higher rate than whole weights, and need it.
LORA_SCHEDULE = Schedule(epochs=4, learning_rate=5e-4)


@dataclass(frozen=True)
class Epoch:
    """One epoch's mean training loss and accuracy on the validation texts (None without any)."""

    epoch: int
    loss: float
    accuracy: float | None


def train(
    network: nn.Module,
    model: HeadModel,
    texts: Texts,
    *,
    schedule: Schedule,
    validation: Texts | None = None,
    seed: int = 42,
    stage: str = "training",
    progress: Progress = silent,
) -> list[Epoch]:
    """Train the parameters of ``network`` that require gradients, in place; the best epoch's weights stay.

    ``model`` supplies tokenizer and batching and shares no tensor with ``network`` that is trained. Under
    ``accelerate launch`` the texts are shared out over the processes.
    """
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=model.device.type == "cpu")
    tokens, labels = model.tokenize(texts.inputs), torch.as_tensor(texts.labels)
    held_out = None if validation is None else (model.tokenize(validation.inputs), validation.labels)
    loader = length_grouped(model, tokens, labels, batch=schedule.batch, seed=seed)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    total = schedule.epochs * len(loader)
    rate = get_linear_schedule_with_warmup(optimizer, math.ceil(total * schedule.warmup), total)
    history: list[Epoch] = []
    best, kept = -math.inf, None
    done = 0
    for epoch in range(schedule.epochs):
        network.train()
        losses = 0.0
        for inputs, answers in loader:
            progress(stage, done, total)
            loss = nn.functional.cross_entropy(network(**inputs).logits, answers)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, schedule.clip)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            losses += float(loss.detach())
            done += 1
        network.eval()
        accuracy = None if held_out is None else _accuracy(network, model, *held_out)
        history.append(Epoch(epoch + 1, losses / max(1, len(loader)), accuracy))
        if accuracy is not None and accuracy > best:
            best, kept = accuracy, [parameter.detach().clone() for parameter in trained]
    if kept is not None:
        with torch.no_grad():
            for parameter, value in zip(trained, kept, strict=True):
                parameter.copy_(value)
    progress(stage, total, total)
    return history


def length_grouped(model: HeadModel, tokens: Tokens, labels: Tensor, *, batch: int, seed: int) -> DataLoader[Any]:
    """Padded inputs and labels; texts of like length meet in a batch, in a new random order every epoch."""
    lengths = [len(entry["input_ids"]) for entry in tokens]
    sampler = LengthGroupedSampler(batch, lengths=lengths, generator=torch.Generator().manual_seed(seed))

    def collate(rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        padded = model.tokenizer.pad(
            {name: [tokens[row][name] for row in rows] for name in tokens[0]}, return_tensors="pt"
        )
        return dict(padded), labels[rows]

    rows: Any = range(len(tokens))
    return DataLoader(rows, batch_size=batch, sampler=sampler, collate_fn=collate)


@torch.no_grad()
def _accuracy(network: nn.Module, model: HeadModel, tokens: Tokens, labels: np.ndarray[Any, Any]) -> float:
    right = 0
    for batch in model.batches(tokens):
        answers = network(**batch.tensors).logits.argmax(-1).cpu().numpy()
        right += int((answers == labels[batch.rows]).sum())
    return right / len(labels)


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


def save_adapter(fitted: Fitted, folder: Path, *, base: str) -> None:
    """Write the adapter in float16, and the class names; ``base`` is what it belongs to."""
    with _whole(folder) as part, quiet():
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


def save_merged(fitted: Fitted, folder: Path) -> None:
    """Write the whole classifier, adapters merged, as any tool of the transformers family loads it."""
    with quiet():
        merged = copy.deepcopy(fitted.peft).merge_and_unload()
    save_network(merged, fitted.model.tokenizer, folder)


def save_network(network: Any, tokenizer: Any, folder: Path) -> None:
    """Write network and tokenizer, as safetensors, whole or not at all."""
    with _whole(folder) as part, quiet():
        network.save_pretrained(part)
        tokenizer.save_pretrained(part)


def base_name(card: ModelCard) -> str:
    """What an adapter's configuration calls the encoder it belongs to: never a path of this machine."""
    return "sentence-transformers/all-MiniLM-L6-v2" if card.id in BUILTINS else card.id


def load_adapter(card: ModelCard, folder: Path, *, labels: tuple[str, ...], device: str = "auto") -> HeadModel:
    """An encoder with an adapter that ``save_adapter`` wrote."""
    return read(replace(card, labels=labels, adapter=str(folder)), device_name=device)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
