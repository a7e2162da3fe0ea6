"""The one training loop: a classifier on an encoder is fitted with it, and a pruned model recovered.

Needs a network of its own: unlike everything else here, training changes weights.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from cahp import processes as parallel
from cahp.models.course import Course, Epoch
from cahp.models.head_model import HeadModel, Tokens
from cahp.models.pacing import Left, Pacing
from cahp.values import Cancelled, Input, Ints, Progress, Texts, silent


@dataclass(frozen=True)
class Schedule:
    """AdamW with a linear schedule; the defaults are the paper's recovery.

    The rate rises for the share ``warmup`` of all batches, then falls to the share ``floor`` of ``learning_rate``.
    """

    epochs: int = 3
    learning_rate: float = 2e-5
    batch: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    floor: float = 0.0


@dataclass(frozen=True)
class Training:
    """Where a training stands after ``step`` of ``total`` batches.

    ``loss`` is the mean of this epoch's batches so far (in this process; at its end of all), ``epochs`` are those that
    are over, ``best`` is the score of the one whose weights are kept (None: none was scored).
    """

    step: int
    total: int
    loss: float
    epochs: tuple[Epoch, ...]
    stage: str = "training"
    best: tuple[float, ...] | None = None


#: Called after every batch and every epoch.
Watch = Callable[[Training], None]
#: What a batch is to lessen: called with the network, what it takes, and which of the texts they are ``(b,)``.
Loss = Callable[[nn.Module, Mapping[str, Tensor], Tensor], Tensor]
#: How good the network is on held-out texts, more being better and the next number deciding ties; the first is the
#: share of texts that are answered as they should be. Between batches it calls what it is given, if it is given any.
Score = Callable[[Callable[[], None] | None], tuple[float, ...]]


class TrainingCheckpoint(Protocol):
    """Where a training that was stopped waits to be resumed: plain arrays, and what JSON can say."""

    def load(self) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None:
        """What was kept last, if anything was."""

    @property
    def exists(self) -> bool:
        """Whether anything was."""

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
    """``optimise`` on the labels of ``texts``; the epoch that answers most of ``validation`` rightly is kept."""
    made = optimise(
        network,
        model,
        texts.inputs,
        loss=cross_entropy(model, torch.as_tensor(texts.labels, device=model.device)),
        score=None if validation is None else _accuracy(network, model, validation),
        schedule=schedule,
        seed=seed,
        stage=stage,
        progress=progress,
        watch=watch,
        checkpoint=checkpoint,
    )
    return list(made.epochs)


def cross_entropy(model: HeadModel, labels: Tensor) -> Loss:
    """The mean cross-entropy of what ``model`` makes of a network's answers with ``labels``, one for each text."""

    def loss(network: nn.Module, inputs: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model.scores(inputs, network), labels[rows])

    return loss


def optimise(
    network: nn.Module,
    model: HeadModel,
    inputs: Sequence[Input],
    *,
    loss: Loss,
    schedule: Schedule,
    score: Score | None = None,
    seed: int = 42,
    stage: str = "training",
    progress: Progress = silent,
    watch: Watch | None = None,
    checkpoint: TrainingCheckpoint | None = None,
    left: Left | None = None,
    scoring: float = 0.0,
    each: float = 0.0,
) -> Training:
    """Train the parameters of ``network`` that require gradients, in place; the best epoch's weights stay.

    ``model`` supplies tokenizer and batching and shares no tensor with ``network`` that is trained. Under
    ``accelerate launch`` the texts are shared out over the processes, each of which takes batches of the given size.

    ``progress`` may end the training between two batches with ``Cancelled`` or ``KeyboardInterrupt``; Ctrl-C waits for
    the end of a batch. With a ``checkpoint`` the same call then goes on from there, and ends with the same weights, bit
    for bit, as if nothing had come between (on the same machine, with as many threads). Where seconds are ``left`` to
    it, it has as many batches as fit, and the rate falls over these; ``scoring`` are those of a score, ``each`` those
    that a batch is thought to take. See ``cahp.models.pacing``.
    """
    torch.manual_seed(seed + parallel.rank())
    accelerator = Accelerator(cpu=model.device.type == "cpu")
    tokens = model.tokenize(inputs)
    loader = length_grouped(model, tokens, torch.arange(len(inputs)), batch=schedule.batch, seed=seed)
    order: torch.Generator = loader.sampler.generator  # type: ignore[attr-defined]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    plain = network
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    epoch = len(loader)
    size = sum(len(entry["input_ids"]) for entry in tokens) / (epoch * parallel.world())
    pacing = Pacing(schedule.epochs * epoch, epoch=epoch, size=size, left=left, scoring=scoring, each=each)
    rate = LambdaLR(optimizer, _rate(schedule, pacing))
    course = Course(trained, optimizer, rate, order, accelerator.device)
    if checkpoint is not None and (found := checkpoint.load()) is not None:
        pacing.total = found[1].get("planned", pacing.total)
        course.load_state_dict(*found)
    step = course.epoch * epoch + course.batches

    def save() -> None:
        if checkpoint is not None:
            arrays, meta = course.state_dict()
            checkpoint.save(arrays, {**meta, "planned": pacing.total})

    def reached() -> Training:
        # Between two epochs it is the loss of the one that is over.
        mean = course.losses / course.batches if course.batches else course.history[-1].loss if course.history else 0.0
        return Training(step, pacing.total, mean, tuple(course.history), stage, course.best)

    with _interruptions() as interrupted:

        def pause() -> None:
            """Between two batches: report, and stop if that is wished."""
            wish: BaseException | None
            try:
                progress(stage, step, pacing.total)
            except (Cancelled, KeyboardInterrupt) as error:
                wish = error
            else:
                wish = KeyboardInterrupt() if interrupted() else None
            if any(parallel.gather(wish is not None)):
                save()
                raise wish or Cancelled

        def report() -> None:
            if watch is not None:
                watch(reached())

        def end_epoch() -> None:
            plain.eval()
            # Processes have different numbers of batches here, so they cannot agree to stop at one.
            course.end_epoch(None if score is None else score(pause if parallel.world() == 1 else None))
            pacing.scored()
            report()

        pause()
        over = pacing.over(step)
        while not over:
            network.train()
            pacing.begin()
            for tensors, rows in course.rest(loader):
                batch_loss = loss(network, tensors, rows)
                accelerator.backward(batch_loss)
                accelerator.clip_grad_norm_(trained, schedule.clip)
                optimizer.step()
                rate.step()
                optimizer.zero_grad()
                course.batches += 1
                step += 1
                course.losses += float(batch_loss.detach())
                report()
                pause()
                if left is not None:
                    pacing.batch(step, int(tensors["attention_mask"].sum()))
                    course.set_rate()
                    over = pacing.over(step)
                    if over:
                        break
            end_epoch()
            over = over or pacing.over(step)
            if not over:
                save()
        if course.batches:
            # It was stopped within an epoch, and no time is left to go on with it.
            end_epoch()
    course.finish()
    if checkpoint is not None:
        checkpoint.remove()
    progress(stage, pacing.total, pacing.total)
    return reached()


def _rate(schedule: Schedule, pacing: Pacing) -> Callable[[int], float]:
    """The share of the highest rate by the number of batches that are done."""

    def share(done: int) -> float:
        rising = math.ceil(pacing.total * schedule.warmup)
        if done < rising:
            return done / max(1, rising)
        falling = max(0.0, (pacing.total - done) / max(1, pacing.total - rising))
        return schedule.floor + (1 - schedule.floor) * falling

    return share


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


def _accuracy(network: nn.Module, model: HeadModel, texts: Texts) -> Score:
    """The share of ``texts`` that ``network`` answers as they are labelled."""
    tokens = model.tokenize(texts.inputs)

    @torch.no_grad()
    def score(pause: Callable[[], None] | None) -> tuple[float]:
        right = 0
        for batch in parallel.share(model.batches(tokens)):
            if pause is not None:
                pause()
            answers = model.scores(batch.tensors, network).argmax(-1).cpu().numpy()
            right += int((answers == texts.labels[batch.rows]).sum())
        return (sum(parallel.gather(right)) / len(texts),)

    return score


def held_out_rows(count: int) -> tuple[Ints, Ints]:
    """The rows that a recovery learns from, and those that evaluate it: of every five the first four, and the fifth."""
    rows = np.arange(count)
    return rows[rows % 5 != 4], rows[rows % 5 == 4]
