"""The training loop: it fits classifiers, recovers pruned models and trains gates.

It needs a network of its own: unlike everything else in this package, training changes weights.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from cahp.models.cards import ModelCard
from cahp.models.head_model import HeadModel
from cahp.models.loading import load_model
from cahp.models.reading import next_token_sums, training_losses
from cahp.models.sketch import quiet
from cahp.models.tokenizing import Tokens
from cahp.models.training_state import Epoch, Limit, TimeBudget, TrainingState
from cahp.store import StoredTraining
from cahp.tasks.texts import Item, Texts
from cahp.values import Cancelled, Progress, silent


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

    def rate(self, done: float, total: int) -> float:
        """The learning rate after ``done`` of ``total`` batches, relative to ``learning_rate``."""
        rising = math.ceil(total * self.warmup)
        if done < rising:
            return done / max(1, rising)
        falling = max(0.0, (total - done) / max(1, total - rising))
        return self.floor + (1 - self.floor) * falling


#: Low-rank adapters need a far higher rate than whole weights.
LORA_SCHEDULE = Schedule(epochs=4, learning_rate=5e-4)
#: Rank of low-rank adapters.
RANK = 16
#: Three epochs of AdamW at 2e-5 in batches of 32.
PAPER_SCHEDULE = Schedule()


@dataclass(frozen=True)
class Training:
    """The progress of a training after ``step`` of ``total`` batches (with a time limit: an estimate).

    ``loss`` is the mean of this epoch's batches so far, ``epochs`` are the finished ones, ``best`` is the score of the
    epoch whose weights are kept (None: no epoch was scored).
    """

    step: int
    total: int
    loss: float
    epochs: tuple[Epoch, ...]
    stage: str = "training"
    best: tuple[float, ...] | None = None


#: Called after every batch and every epoch.
Watch = Callable[[Training], None]
#: The loss of a batch, of the network, its inputs, and their row numbers among the texts ``(b,)``.
Loss = Callable[[nn.Module, Mapping[str, Tensor], Tensor], Tensor]
#: Scores of the network on held-out texts, higher being better and later ones deciding ties; the last is the accuracy
#: (or agreement) that an epoch shows. Its argument, if any, is called between batches.
Score = Callable[[Callable[[], None] | None], tuple[float, ...]]


@dataclass(frozen=True)
class Objective:
    """What a training minimises: the ``loss`` of ``inputs``, whose best epoch is that of the highest ``score``.

    Without a ``score`` no epoch is preferred, and the last weights stay.
    """

    inputs: Sequence[Item]
    loss: Loss
    score: Score | None = None


@dataclass(frozen=True)
class Hooks:
    """What a training calls between its batches.

    ``progress`` gets the name of the ``stage``, and may end the training with ``Cancelled`` or ``KeyboardInterrupt``;
    ``watch`` is called after every batch and every epoch, and ``after`` with the number of batches after each of them.
    The ``checkpoint`` keeps the state of an interrupted training.
    """

    stage: str = "training"
    progress: Progress = silent
    watch: Watch | None = None
    after: Callable[[int], object] | None = None
    checkpoint: StoredTraining | None = None


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
    hooks: Hooks = Hooks(),
) -> Fitted:
    """Train a classifier on an encoder, and keep the epoch with the highest accuracy on ``validation``.

    ``rank`` is that of low-rank adapters on all its linear layers (LoRA, Hu et al. 2021); None trains all weights with
    a new head, as the paper does.
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
    history = train(network, model, texts, validation=validation, schedule=schedule, seed=seed, hooks=hooks)
    return Fitted(model, network, history)


def train(
    network: nn.Module,
    model: HeadModel,
    texts: Texts,
    *,
    validation: Texts | None = None,
    schedule: Schedule,
    seed: int = 42,
    hooks: Hooks = Hooks(),
) -> list[Epoch]:
    """``optimise`` on the labels of ``texts``, and keep the epoch with the highest accuracy on ``validation``.

    A language model that predicts tokens is trained on the texts themselves; the epoch with the lowest loss is kept.
    """
    labels = torch.as_tensor(texts.labels, device=model.device)

    def loss(network: nn.Module, inputs: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        return training_losses(model, network, inputs, labels[rows]).mean()

    score = None
    if validation is not None:
        score = _score_on(validation, network, model)
    objective = Objective(texts.inputs, loss, score)
    return list(optimise(network, model, objective, schedule=schedule, seed=seed, hooks=hooks).epochs)


def _score_on(validation: Texts, network: nn.Module, model: HeadModel) -> Score:
    """Return the score of a network on held-out texts: minus the loss of a language model, and the accuracy."""
    held_out = model.tokenize(validation.inputs)

    @torch.no_grad()
    def score(pause: Callable[[], None] | None) -> tuple[float, ...]:
        sums = np.zeros(3)
        for batch in model.batches(held_out):
            if pause is not None:
                pause()
            if model.predicts_tokens:
                sums += next_token_sums(network, batch.tensors)
                continue
            predictions = model.scores(batch.tensors, network).argmax(-1).cpu().numpy()
            sums[1:] += int((predictions == validation.labels[batch.rows]).sum()), len(batch)
        loss, right, count = sums
        if model.predicts_tokens:
            # The lowest loss is the best of a language model, whose next token serves as the label.
            return -loss / count, right / count
        return (right / count,)

    return score


def optimise(
    network: nn.Module,
    model: HeadModel,
    objective: Objective,
    *,
    schedule: Schedule,
    groups: Sequence[dict[str, Any]] | None = None,
    seed: int = 42,
    limit: Limit = Limit(),  # noqa: B008 - frozen
    hooks: Hooks = Hooks(),
) -> Training:
    """Train the parameters of ``network`` that require gradients, in place; the best epoch's weights stay.

    ``model`` supplies tokenizer and batching and shares no tensor with ``network`` that is trained. ``groups`` are
    groups of parameters with rates of their own, as AdamW takes them.

    ``hooks.progress`` may end the training between two batches; Ctrl-C waits for the end of a batch. With a
    ``checkpoint`` the same call then goes on from there, and ends with the same weights, bit for bit, as without the
    interruption (on the same machine, with as many threads).
    """
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=model.device.type == "cpu")
    tokens = model.tokenize(objective.inputs)
    order = torch.Generator().manual_seed(seed)
    loader: Any = _load_batches(model, tokens, schedule.batch, order)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer: Any = torch.optim.AdamW(groups or trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    batches = limit.steps or schedule.epochs * len(loader)
    budget = TimeBudget(batches, left=limit.left, scoring=limit.scoring, each=limit.each)
    rate = LambdaLR(optimizer, lambda done: schedule.rate(budget.behind(done), budget.batches))

    def learn(tensors: Mapping[str, Tensor], rows: Tensor) -> float:
        loss = objective.loss(network, tensors, rows)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, schedule.clip)
        optimizer.step()
        budget.batch()
        rate.step()
        optimizer.zero_grad()
        return float(loss.detach())

    state = TrainingState(trained, optimizer, rate, order, accelerator.device)
    loop = _Loop(network, loader, learn, objective.score, state, budget, hooks)
    loop.resume()
    with _interruptions() as interrupted:
        loop.run(interrupted)
    state.finish()
    if hooks.checkpoint is not None:
        hooks.checkpoint.remove()
    total = budget.total(loop.step)
    hooks.progress(hooks.stage, total, total)
    return loop.describe()


def _load_batches(model: HeadModel, tokens: Tokens, size: int, order: torch.Generator) -> DataLoader[Any]:
    """Load batches of texts of like length, in a new random order every epoch, each with its row numbers."""

    def collate(rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        columns = dict[str, list[list[int]]]()
        for name in tokens[0]:
            columns[name] = [tokens[row][name] for row in rows]
        return dict(model.tokenizer.pad(columns, return_tensors="pt")), torch.tensor(rows)

    lengths = [len(entry["input_ids"]) for entry in tokens]
    sampler = LengthGroupedSampler(size, lengths=lengths, generator=order)
    numbers: Any = range(len(tokens))
    return DataLoader[Any](numbers, batch_size=size, sampler=sampler, collate_fn=collate)


@dataclass(eq=False)
class _Loop:
    """The loop over batches and epochs: it scores, reports, stops where that is asked for, and saves what resumes it.

    ``learn`` takes a batch with its row numbers, changes the weights of the ``network``, and returns the loss.
    """

    network: nn.Module
    loader: DataLoader[Any]
    learn: Callable[[Mapping[str, Tensor], Tensor], float]
    score: Score | None
    state: TrainingState
    budget: TimeBudget
    hooks: Hooks
    #: Batches that are done.
    step: int = 0

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        checkpoint = self.hooks.checkpoint
        if checkpoint is not None and (stored := checkpoint.load()) is not None:
            self.budget.seconds = stored[1].get("seconds", self.budget.seconds)
            self.state.load_state_dict(*stored)
        self.step = self.state.epoch * len(self.loader) + self.state.batches

    def run(self, interrupted: Callable[[], bool]) -> None:
        """Train until all batches are done, or the time is over.

        Raises:
            Cancelled, KeyboardInterrupt: If it was stopped; the checkpoint has its state.
        """

        def pause() -> None:
            self._pause(interrupted)

        state = self.state
        budget = self.budget
        pause()
        budget.begin()
        while not budget.over(self.step):
            self.network.train()
            budget.begin()
            for tensors, rows in state.rest(self.loader):
                loss = self.learn(tensors, rows)
                state.batches += 1
                state.losses += loss
                self.step += 1
                if self.hooks.after is not None:
                    self.hooks.after(self.step)
                self._report()
                pause()
                if budget.over(self.step):
                    break
            self._end_epoch(pause)
            if not budget.over(self.step):
                self._save()
        if state.batches:
            # It was stopped within an epoch, and no time is left to resume it.
            self._end_epoch(pause)

    def describe(self) -> Training:
        """Return how far the training is."""
        state = self.state
        mean = 0.0
        if state.batches:
            mean = state.losses / state.batches
        elif state.history:
            # Between two epochs it is the loss of the finished one.
            mean = state.history[-1].loss
        total = self.budget.total(self.step)
        return Training(self.step, total, mean, tuple(state.history), self.hooks.stage, state.best)

    def _pause(self, interrupted: Callable[[], bool]) -> None:
        """Report between two batches, and stop if that is asked for."""
        wish: BaseException | None = None
        try:
            self.hooks.progress(self.hooks.stage, self.step, self.budget.total(self.step))
        except (Cancelled, KeyboardInterrupt) as error:
            wish = error
        if wish is None and interrupted():
            wish = KeyboardInterrupt()
        if wish is not None:
            self._save()
            raise wish

    def _end_epoch(self, pause: Callable[[], None]) -> None:
        self.network.eval()
        scores = None
        if self.score is not None:
            scores = self.score(pause)
        self.state.end_epoch(scores)
        self.budget.scored()
        self._report()

    def _report(self) -> None:
        if self.hooks.watch is not None:
            self.hooks.watch(self.describe())

    def _save(self) -> None:
        checkpoint = self.hooks.checkpoint
        if checkpoint is not None:
            arrays, meta = self.state.state_dict()
            checkpoint.save(arrays, {**meta, "seconds": self.budget.seconds})


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Postpone Ctrl-C inside the block, and tell whether it was pressed; a second one is not postponed."""
    # The signal may have another handler, and only the main thread may set one.
    default = signal.default_int_handler
    main = threading.current_thread() is threading.main_thread()
    postponed = main and signal.getsignal(signal.SIGINT) is default
    pressed = False

    def note(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, default)

    if postponed:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        if postponed:
            signal.signal(signal.SIGINT, default)
