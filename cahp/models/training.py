"""The training loop: it fits classifiers, recovers pruned models and trains gates.

It needs a network of its own: unlike everything else in this package, training changes weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from cahp.models.cards import ModelCard
from cahp.models.devices import move_to
from cahp.models.head_model import HeadModel
from cahp.models.loading import load_model
from cahp.models.matching import quiet
from cahp.models.reading import next_token_sums, training_losses
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

    ``loss`` is the mean of this epoch's batches so far, ``epochs`` are the finished ones.
    """

    step: int
    total: int
    loss: float
    epochs: tuple[Epoch, ...]
    stage: str = "training"


#: Called after every batch and every epoch.
Watch = Callable[[Training], None]
#: The loss of a batch, of the network, its inputs, and their row numbers among the texts ``(b,)``.
Loss = Callable[[nn.Module, Mapping[str, Tensor], Tensor], Tensor]
#: Scores of the network on held-out texts, higher being better and later ones deciding ties; the last is the accuracy
#: (or agreement) that an epoch shows. Its argument is called between batches.
Score = Callable[[Callable[[], None]], tuple[float, ...]]


@dataclass(frozen=True)
class Objective:
    """What a training minimises: the ``loss`` of ``inputs``, whose best epoch is that of the highest ``score``.

    Without a ``score`` no epoch is preferred, and the last weights stay. ``groups`` are groups of parameters with rates
    of their own, as AdamW takes them, and ``steps`` replace the number of batches of the schedule.
    """

    inputs: Sequence[Item]
    loss: Loss
    score: Score | None = None
    groups: Sequence[dict[str, Any]] | None = None
    steps: int | None = None


#: Seconds that are still allowed.
Left = Callable[[], float]


@dataclass(frozen=True)
class Hooks:
    """What a training calls between its batches.

    ``progress`` gets the name of the ``stage``, and may end the training with ``Cancelled`` or ``KeyboardInterrupt``;
    ``watch`` is called after every batch and every epoch, and ``after`` with the number of batches after each of them.
    The ``checkpoint`` keeps the state after each epoch, for a training that is interrupted. ``left`` returns the
    seconds left (None: no limit), and ``reserve`` are those that the last batch and its score take.
    """

    stage: str = "training"
    progress: Progress = silent
    watch: Watch | None = None
    after: Callable[[int], object] | None = None
    checkpoint: StoredTraining | None = None
    left: Left | None = None
    reserve: float = 0.0


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
    def score(pause: Callable[[], None]) -> tuple[float, ...]:
        sums = np.zeros(3)
        for batch in model.batches(held_out):
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
    seed: int = 42,
    hooks: Hooks = Hooks(),
) -> Training:
    """Train the parameters of ``network`` that require gradients, in place.

    ``model`` supplies tokenizer and batching and shares no tensor with ``network`` that is trained. With seconds left
    by the ``hooks``, the training has as many batches as fit, and the learning rate follows the time that has passed.

    ``hooks.progress`` may end the training between two batches. With a ``checkpoint`` the same call then goes on after
    the last whole epoch, and ends with the same weights, bit for bit, as without the interruption (on the same
    processor, with as many threads).
    """
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    loader = _load_batches(model, model.tokenize(objective.inputs), schedule.batch, order)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        objective.groups or trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    batches = objective.steps or schedule.epochs * len(loader)
    left = hooks.left or _unlimited
    usable = left() - hooks.reserve
    step = 0

    def behind(step: int) -> float:
        """How much of the training is over, counted in batches: those that are done, or more if the time is."""
        if usable <= 0:
            return batches
        if hooks.left is None:
            return step
        return max(step, batches * (usable + hooks.reserve - left()) / usable)

    def over() -> bool:
        return step >= batches or left() <= hooks.reserve

    def total() -> int:
        if behind(step) <= step:
            return batches
        return max(step, min(batches, round(step * batches / behind(step))))

    rate = LambdaLR(optimizer, lambda done: schedule.rate(behind(done), batches))
    state = TrainingState(trained, optimizer, rate, order)
    if hooks.checkpoint is not None:
        state.resume(hooks.checkpoint)
    step = len(state.history) * len(loader)
    #: Those of the batches of the current epoch.
    losses: list[float] = []

    def describe() -> Training:
        mean = sum(losses) / max(1, len(losses))
        return Training(step, total(), mean, tuple(state.history), hooks.stage)

    def report() -> None:
        if hooks.watch is not None:
            hooks.watch(describe())

    def pause() -> None:
        hooks.progress(hooks.stage, step, total())

    pause()
    while not over():
        network.train()
        losses = []
        for tensors, rows in loader:
            moved = {name: move_to(tensor, model.device) for name, tensor in tensors.items()}
            loss = objective.loss(network, moved, move_to(rows, model.device))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, schedule.clip)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            step += 1
            if hooks.after is not None:
                hooks.after(step)
            report()
            pause()
            if over():
                break
        network.eval()
        scored = None
        if objective.score is not None:
            scored = objective.score(pause)
        state.end_epoch(sum(losses) / len(losses), scored)
        report()
        if hooks.checkpoint is not None and not over():
            state.save(hooks.checkpoint)
    state.set_weights(state.kept)
    if hooks.checkpoint is not None:
        hooks.checkpoint.remove()
    hooks.progress(hooks.stage, total(), total())
    return describe()


def _unlimited() -> float:
    return math.inf


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


class TrainingState:
    """All that the rest of a training depends on, saved after an epoch and resumed there.

    ``history`` are the finished epochs, ``best`` is the highest score (None: no epoch was scored), and ``kept`` are the
    weights of its epoch.
    """

    def __init__(
        self, trained: list[nn.Parameter], optimizer: torch.optim.AdamW, rate: LambdaLR, order: torch.Generator
    ) -> None:
        self._trained = trained
        self._optimizer = optimizer
        self._rate = rate
        self._order = order
        self.history: list[Epoch] = []
        self.best: tuple[float, ...] | None = None
        self.kept: list[Tensor] = []

    def end_epoch(self, loss: float, score: tuple[float, ...] | None) -> None:
        """Record the epoch's mean loss and its score, and keep its weights if they are the best so far."""
        epoch = Epoch(len(self.history) + 1, loss, None)
        if score is not None:
            epoch = replace(epoch, accuracy=score[-1], score=score[0])
            if self.best is None or score > self.best:
                self.best = score
                self.kept = [parameter.detach().clone() for parameter in self._trained]
        self.history.append(epoch)

    def set_weights(self, values: Sequence[Tensor]) -> None:
        """Replace the weights (none: they stay)."""
        with torch.no_grad():
            for parameter, value in zip(self._trained, values, strict=False):
                parameter.copy_(value)

    def save(self, checkpoint: StoredTraining) -> None:
        """Save the state as arrays and JSON."""
        optimizer = self._optimizer.state_dict()
        # The random numbers that order the texts, and those that dropout uses.
        tensors = {"order": self._order.get_state(), "random": torch.get_rng_state()}
        tensors |= {f"weight-{index}": weight.detach() for index, weight in enumerate(self._trained)}
        tensors |= {f"best-{index}": weight for index, weight in enumerate(self.kept)}
        for index, moments in optimizer["state"].items():
            tensors |= {f"{name}-{index}": moment for name, moment in moments.items()}
        meta = {
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
            "groups": optimizer["param_groups"],
            "rate": self._rate.last_epoch,
        }
        checkpoint.save({name: tensor.cpu().numpy() for name, tensor in tensors.items()}, meta)

    def resume(self, checkpoint: StoredTraining) -> None:
        """Go on from a saved state, if there is one."""
        stored = checkpoint.load()
        if stored is None:
            return
        arrays, meta = stored
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}

        def find(name: str) -> list[Tensor]:
            return [tensors[f"{name}-{place}"] for place in range(len(self._trained))]

        self.history = [Epoch(**epoch) for epoch in meta["history"]]
        self.set_weights(find("weight"))
        if meta["best"] is not None:
            self.best = tuple(meta["best"])
            self.kept = find("best")
        states: dict[int, dict[str, Tensor]] = {}
        for place in range(len(self._trained)):
            # A weight that no loss reaches has none.
            if f"step-{place}" in tensors:
                states[place] = {name: tensors[f"{name}-{place}"] for name in ("step", "exp_avg", "exp_avg_sq")}
        self._optimizer.load_state_dict({"state": states, "param_groups": meta["groups"]})
        self._rate.last_epoch = meta["rate"]
        self._order.set_state(tensors["order"])
        torch.set_rng_state(tensors["random"])


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
