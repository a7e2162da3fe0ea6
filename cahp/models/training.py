"""The training loop: it fits classifiers, recovers pruned models and trains gates.

It needs a network of its own: unlike everything else in this package, training changes weights.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from cahp.models.cards import ModelCard
from cahp.models.devices import move_to
from cahp.models.head_model import HeadModel
from cahp.models.loading import load_model
from cahp.models.reading import next_token_sums, training_losses
from cahp.models.sketch import quiet
from cahp.models.tokenizing import Tokens
from cahp.store import StoredTraining
from cahp.tasks.texts import Item, Texts
from cahp.values import Progress, silent


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
class Epoch:
    """The mean training loss of an epoch, and the accuracy or agreement on held-out texts after it (None: no texts).

    ``score`` is what the best epoch is kept by, higher being better: the accuracy, or minus a loss or divergence.
    """

    epoch: int
    loss: float
    accuracy: float | None
    score: float | None = None


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


#: Seconds that are still allowed.
Left = Callable[[], float]


@dataclass(frozen=True)
class Limit:
    """What ends a training before its schedule does: a number of ``steps`` (None: no limit).

    For ``scoring`` and ``each`` see ``TimeBudget``.
    """

    steps: int | None = None
    scoring: float = 0.0
    each: float = 0.0


@dataclass(frozen=True)
class Hooks:
    """What a training calls between its batches.

    ``progress`` gets the name of the ``stage``, and may end the training with ``Cancelled`` or ``KeyboardInterrupt``;
    ``watch`` is called after every batch and every epoch, and ``after`` with the number of batches after each of them.
    The ``checkpoint`` keeps the state of an interrupted training. ``left`` returns the seconds left (None: no limit).
    """

    stage: str = "training"
    progress: Progress = silent
    watch: Watch | None = None
    after: Callable[[int], object] | None = None
    checkpoint: StoredTraining | None = None
    left: Left | None = None


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
    limit: Limit = Limit(),
    hooks: Hooks = Hooks(),
) -> Training:
    """Train the parameters of ``network`` that require gradients, in place; the best epoch's weights stay.

    ``model`` supplies tokenizer and batching and shares no tensor with ``network`` that is trained. ``groups`` are
    groups of parameters with rates of their own, as AdamW takes them.

    ``hooks.progress`` may end the training between two batches; Ctrl-C waits for the end of a batch. With a
    ``checkpoint`` the same call then goes on after the last whole epoch, and ends with the same weights, bit for bit,
    as without the interruption (on the same machine, with as many threads).
    """
    torch.manual_seed(seed)
    tokens = model.tokenize(objective.inputs)
    order = torch.Generator().manual_seed(seed)
    loader = _load_batches(model, tokens, schedule.batch, order)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(groups or trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    batches = limit.steps or schedule.epochs * len(loader)
    budget = TimeBudget(batches, left=hooks.left, scoring=limit.scoring, each=limit.each)
    rate = LambdaLR(optimizer, lambda done: schedule.rate(budget.behind(done), budget.batches))
    state = TrainingState(trained, optimizer, rate, order, model.device)
    checkpoint = hooks.checkpoint
    if checkpoint is not None and (stored := checkpoint.load()) is not None:
        budget.seconds = stored[1]["seconds"]
        state.load_state_dict(*stored)
    step = len(state.history) * len(loader)
    # Those of the batches of the current epoch.
    losses: list[float] = []

    def pause() -> None:
        hooks.progress(hooks.stage, step, budget.total(step))
        if interrupted():
            raise KeyboardInterrupt

    def describe() -> Training:
        mean = 0.0
        if losses:
            mean = sum(losses) / len(losses)
        elif state.history:
            # Between two epochs it is the loss of the finished one.
            mean = state.history[-1].loss
        return Training(step, budget.total(step), mean, tuple(state.history), hooks.stage, state.best)

    def report() -> None:
        if hooks.watch is not None:
            hooks.watch(describe())

    with _interruptions() as interrupted:
        pause()
        budget.begin()
        while not budget.over(step):
            network.train()
            budget.begin()
            for tensors, rows in loader:
                moved = {name: move_to(tensor, model.device) for name, tensor in tensors.items()}
                loss = objective.loss(network, moved, move_to(rows, model.device))
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(trained, schedule.clip)
                optimizer.step()
                budget.batch()
                rate.step()
                optimizer.zero_grad()
                losses.append(float(loss.detach()))
                step += 1
                if hooks.after is not None:
                    hooks.after(step)
                report()
                pause()
                if budget.over(step):
                    break
            network.eval()
            score = None
            if objective.score is not None:
                score = objective.score(pause)
            state.end_epoch(sum(losses) / len(losses), score)
            losses = []
            budget.scored()
            report()
            if checkpoint is not None and not budget.over(step):
                arrays, meta = state.state_dict()
                checkpoint.save(arrays, {**meta, "seconds": budget.seconds})
    state.finish()
    if checkpoint is not None:
        checkpoint.remove()
    total = budget.total(step)
    hooks.progress(hooks.stage, total, total)
    return describe()


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


# The state of a training -------------------------------------------------------------------------------------------


class TrainingState:
    """All that the rest of a training depends on, to be saved after an epoch and resumed there."""

    def __init__(
        self,
        trained: list[nn.Parameter],
        optimizer: torch.optim.AdamW,
        rate: LambdaLR,
        order: torch.Generator,
        device: torch.device,
    ) -> None:
        self._trained = trained
        self._optimizer = optimizer
        self._rate = rate
        self._order = order
        #: The module of PyTorch with the random numbers of a device other than the processor.
        self._device = None
        if device.type != "cpu":
            self._device = getattr(torch, device.type)
        #: The finished epochs.
        self.history: list[Epoch] = []
        #: The score of the best epoch (None: no epoch was scored), and its weights.
        self.best: tuple[float, ...] | None = None
        self._kept: list[Tensor] = []

    def end_epoch(self, loss: float, score: tuple[float, ...] | None) -> None:
        """Record the epoch's mean loss and its score, and keep its weights if they are the best so far."""
        epoch = Epoch(len(self.history) + 1, loss, None)
        if score is not None:
            epoch = replace(epoch, accuracy=score[-1], score=score[0])
            if self.best is None or score > self.best:
                self.best = score
                self._kept = [parameter.detach().clone() for parameter in self._trained]
        self.history.append(epoch)

    def finish(self) -> None:
        """Restore the weights of the best epoch."""
        self._set_weights(self._kept or self._trained)

    def state_dict(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The state as arrays and JSON."""
        optimizer = self._optimizer.state_dict()
        tensors = {f"weight-{index}": weight.detach() for index, weight in enumerate(self._trained)}
        tensors |= {f"best-{index}": weight for index, weight in enumerate(self._kept)}
        for index, moments in optimizer["state"].items():
            tensors |= {f"{name}-{index}": moment for name, moment in moments.items()}
        # The random numbers that order the texts, and those that dropout uses.
        tensors |= {"order": self._order.get_state(), "random": torch.get_rng_state()}
        if self._device is not None:
            tensors["device"] = self._device.get_rng_state()
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        meta = {
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
            "groups": optimizer["param_groups"],
            "rate": self._rate.last_epoch,
        }
        return arrays, meta

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Resume from a saved state."""
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        self.history = [Epoch(**epoch) for epoch in meta["history"]]
        places = range(len(self._trained))
        self._set_weights([tensors[f"weight-{index}"] for index in places])
        if meta["best"] is not None:
            self.best = tuple(meta["best"])
            self._kept = [tensors[f"best-{index}"] for index in places]
        moments = defaultdict[int, dict[str, Tensor]](dict)
        for place, tensor in tensors.items():
            name, _, index = place.rpartition("-")
            if name not in ("", "weight", "best"):
                moments[int(index)][name] = tensor
        self._optimizer.load_state_dict({"state": moments, "param_groups": meta["groups"]})
        self._rate.last_epoch = meta["rate"]
        self._order.set_state(tensors["order"])
        torch.set_rng_state(tensors["random"])
        if self._device is not None:
            self._device.set_rng_state(tensors["device"])

    def _set_weights(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._trained, values, strict=True):
                parameter.copy_(value)


# Time --------------------------------------------------------------------------------------------------------------

#: Time reserved for one more batch and a score, as a multiple of what they took before: a machine may become busier.
_RESERVED = 1.25


class TimeIsUp(Exception):
    """The work that is under way does not fit into its time."""


def until(progress: Progress, left: Left | None) -> Progress:
    """``progress`` that raises ``TimeIsUp`` as soon as no time is left."""
    if left is None:
        return progress

    def guarded(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        if left() <= 0:
            raise TimeIsUp

    return guarded


class TimeBudget:
    """The ``batches`` of a training, or as many of them as fit into the time ``left``.

    The learning rate follows ``behind``, the part of the training that is over: the batches that are done, or the time
    that has passed if that is a larger part. ``scoring`` and ``each`` are the estimated seconds of a score and of a
    batch, until they are measured.
    """

    def __init__(self, batches: int, *, left: Left | None = None, scoring: float = 0.0, each: float = 0.0) -> None:
        self.batches = batches
        self._left = left
        #: Seconds of the whole training (None: without a limit).
        self.seconds: float | None = None
        self._seen = 0
        if left is not None:
            self.seconds = self._now = left()
            self._scoring = scoring
            self._each = each

    def begin(self) -> float:
        """Measure from now; return the seconds since the last measurement."""
        if self._left is None:
            return 0.0
        before, self._now = self._now, self._left()
        return before - self._now

    def batch(self) -> None:
        """Note the end of a batch."""
        if self._left is not None:
            seconds = self.begin()
            self._seen += 1
            if self._seen == 1:
                # It sets things up.
                return
            if self._seen == 2:
                # The estimate gives way to the first that is measured.
                self._each = 0.0
            self._each = max(self._each, seconds)

    def scored(self) -> None:
        """Note the end of a score."""
        if self._left is not None:
            self._scoring = max(self._scoring, self.begin())

    def behind(self, step: int) -> float:
        """How much of the training is over after ``step`` batches, counted in batches."""
        if self.seconds is None:
            return step
        usable = self.seconds - self._reserve
        if usable <= 0:
            return self.batches
        return max(step, self.batches * (self.seconds - self._now) / usable)

    def total(self, step: int) -> int:
        """The number of batches that the training will have, as estimated after ``step`` of them."""
        behind = self.behind(step)
        if behind <= step:
            return self.batches
        return max(step, min(self.batches, round(step * self.batches / behind)))

    def over(self, step: int) -> bool:
        """Whether the training ends after ``step`` batches: they are all, or no time is left for another one."""
        return step >= self.batches or (self.seconds is not None and self._now <= self._reserve)

    @property
    def _reserve(self) -> float:
        return _RESERVED * (self._scoring + self._each)
