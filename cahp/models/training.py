"""The one training loop: a classifier on an encoder is fitted with it, and a pruned model recovered.

Needs a network of its own: unlike everything else here, training changes weights.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import LengthGroupedSampler

from cahp import processes as parallel
from cahp.models.course import Course, Epoch
from cahp.models.head_model import HeadModel, Tokens
from cahp.values import Cancelled, Progress, Texts, silent


@dataclass(frozen=True)
class Schedule:
    """AdamW with a linear schedule; the defaults are the paper's recovery."""

    epochs: int = 3
    learning_rate: float = 2e-5
    batch: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0


@dataclass(frozen=True)
class Training:
    """Where a training stands after ``step`` of ``total`` batches.

    ``loss`` is the mean of this epoch's batches so far (in this process; at its end of all), ``epochs`` are those that
    are over.
    """

    step: int
    total: int
    loss: float
    epochs: tuple[Epoch, ...]


#: Called after every batch and every epoch.
Watch = Callable[[Training], None]


class TrainingCheckpoint(Protocol):
    """Where a training that was stopped waits to be resumed: plain arrays, and what JSON can say."""

    def load(self) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None:
        """What was kept last, if anything was."""

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Keep this, instead of what was kept before."""

    def remove(self) -> None:
        """Keep nothing any longer."""


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
    watch: Watch | None = None,
    checkpoint: TrainingCheckpoint | None = None,
) -> list[Epoch]:
    """Train the parameters of ``network`` that require gradients, in place; the best epoch's weights stay.

    ``model`` supplies tokenizer and batching and shares no tensor with ``network`` that is trained. Under
    ``accelerate launch`` the texts are shared out over the processes, each of which takes batches of the given size.

    ``progress`` may end the training between two batches with ``Cancelled`` or ``KeyboardInterrupt``; Ctrl-C waits for
    the end of a batch. With a ``checkpoint`` the same call then goes on from there, and ends with the same weights, bit
    for bit, as if nothing had come between (on the same machine, with as many threads).
    """
    torch.manual_seed(seed + parallel.rank())
    accelerator = Accelerator(cpu=model.device.type == "cpu")
    tokens, labels = model.tokenize(texts.inputs), torch.as_tensor(texts.labels)
    held_out = None if validation is None else (model.tokenize(validation.inputs), validation.labels)
    loader = length_grouped(model, tokens, labels, batch=schedule.batch, seed=seed)
    order: torch.Generator = loader.sampler.generator  # type: ignore[attr-defined]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    plain = network
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    total = schedule.epochs * len(loader)
    rate = get_linear_schedule_with_warmup(optimizer, math.ceil(total * schedule.warmup), total)
    course = Course(trained, optimizer, rate, order, accelerator.device)
    if checkpoint is not None and (found := checkpoint.load()) is not None:
        course.load_state_dict(*found)

    with _interruptions() as interrupted:

        def pause() -> None:
            """Between two batches: report, and stop if that is wished."""
            wish: BaseException | None
            try:
                progress(stage, course.epoch * len(loader) + course.batches, total)
            except (Cancelled, KeyboardInterrupt) as error:
                wish = error
            else:
                wish = KeyboardInterrupt() if interrupted() else None
            if any(parallel.gather(wish is not None)):
                if checkpoint is not None:
                    checkpoint.save(*course.state_dict())
                raise wish or Cancelled

        def report() -> None:
            if watch is not None:
                step = course.epoch * len(loader) + course.batches
                # Between two epochs it is that of the one that is over.
                loss = course.losses / course.batches if course.batches else course.history[-1].loss
                watch(Training(step, total, loss, tuple(course.history)))

        pause()
        while course.epoch < schedule.epochs:
            network.train()
            for inputs, answers in course.rest(loader):
                loss = nn.functional.cross_entropy(network(**inputs).logits, answers)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(trained, schedule.clip)
                optimizer.step()
                rate.step()
                optimizer.zero_grad()
                course.batches += 1
                course.losses += float(loss.detach())
                report()
                pause()
            plain.eval()
            accuracy = None
            if held_out is not None:
                # Processes have different numbers of batches here, so they cannot agree to stop at one.
                accuracy = _accuracy(plain, model, *held_out, pause=pause if parallel.world() == 1 else None)
            course.end_epoch(accuracy)
            report()
            if checkpoint is not None and course.epoch < schedule.epochs:
                checkpoint.save(*course.state_dict())
    course.finish()
    if checkpoint is not None:
        checkpoint.remove()
    progress(stage, total, total)
    return course.history


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait: whether it was pressed. A second one does not wait."""
    # Others may have taken the signal, and only the main thread may take it.
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield lambda: False
        return
    pressed = False

    def note(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        # With several processes the launcher sends a signal of its own after the terminal's.
        if parallel.world() == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
def _accuracy(
    network: nn.Module,
    model: HeadModel,
    tokens: Tokens,
    labels: np.ndarray[Any, Any],
    *,
    pause: Callable[[], None] | None = None,
) -> float:
    right = 0
    for batch in parallel.share(model.batches(tokens)):
        if pause is not None:
            pause()
        answers = network(**batch.tensors).logits.argmax(-1).cpu().numpy()
        right += int((answers == labels[batch.rows]).sum())
    return sum(parallel.gather(right)) / len(labels)
