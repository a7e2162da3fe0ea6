"""The training loop: it fits classifiers, recovers pruned models and trains gates.

It needs a network of its own: unlike everything else in this package, training changes weights.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils._pytree import tree_flatten, tree_unflatten, treespec_dumps, treespec_loads
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from cahp.models.cards import ModelCard
from cahp.models.head_model import Batch, HeadModel
from cahp.models.loading import load_model
from cahp.models.matching import quiet
from cahp.models.reading import losses, next_token_sums
from cahp.models.surgery import separate
from cahp.store import StoredTraining
from cahp.tasks.texts import Item, Texts
from cahp.values import Arrays, Fields, JsonObject, Progress, silent


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

    ``score`` is the first number that the best epoch is kept by, higher being better, such as minus a loss.
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
#: The loss of a batch of the texts.
Loss = Callable[[Batch], Tensor]
#: Scores on held-out texts, higher being better and later ones deciding ties; the last is the accuracy
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
    groups: Sequence[JsonObject] | None = None
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
) -> tuple[HeadModel, list[Epoch]]:
    """Train a classifier on an encoder, and keep the epoch with the highest accuracy on ``validation``.

    Its network is the encoder with an adapter, or with its own weights.

    ``rank`` is that of low-rank adapters on all its linear layers (LoRA, Hu et al. 2021); None trains all weights with
    a new head, as the paper does.
    """
    torch.manual_seed(seed)
    model = load_model(card, device_name=device, labels=texts.classes)
    if rank is None:
        model = separate(model)
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
            model.network = get_peft_model(model.network, config)
    return model, train(model, texts, validation=validation, schedule=schedule, seed=seed, hooks=hooks)


def train(
    model: HeadModel,
    texts: Texts,
    *,
    validation: Texts | None = None,
    schedule: Schedule,
    seed: int = 42,
    hooks: Hooks = Hooks(),
) -> list[Epoch]:
    """``optimise`` a model on the labels of ``texts``, and keep the epoch with the highest accuracy on ``validation``.

    A language model that predicts tokens is trained on the texts themselves; the epoch with the lowest loss is kept.
    """
    labels = torch.as_tensor(texts.labels, device=model.device)

    def loss(batch: Batch) -> Tensor:
        return losses(model, batch, labels[batch.rows]).mean()

    objective = Objective(texts.inputs, loss)
    if validation is not None:
        held_out = model.tokenize(validation.inputs)
        known = validation.labels

        @torch.no_grad()
        def score(pause: Callable[[], None]) -> tuple[float, ...]:
            sums = np.zeros(3)
            for batch in model.batches(held_out):
                pause()
                if model.predicts_tokens:
                    sums += next_token_sums(model, batch)
                else:
                    predictions = model.scores(batch.tensors).argmax(-1).cpu().numpy()
                    sums[1:] += int((predictions == known[batch.rows]).sum()), len(batch)
            lost, right, count = sums
            if model.predicts_tokens:
                # The lowest loss is the best of a language model, whose next token serves as the label.
                return -lost / count, right / count
            return (right / count,)

        objective = replace(objective, score=score)
    return list(optimise(model.network, model, objective, schedule=schedule, seed=seed, hooks=hooks).epochs)


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
    tokens = model.tokenize(objective.inputs)
    lengths = [len(entry["input_ids"]) for entry in tokens]
    # Batches of texts of like length, in a new random order every epoch.
    sampler = LengthGroupedSampler(schedule.batch, lengths=lengths, generator=order)
    numbers: Any = range(len(tokens))
    collate = partial(model.make_batch, tokens)
    loader = DataLoader[Any](numbers, batch_size=schedule.batch, sampler=sampler, collate_fn=collate)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        objective.groups or trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    batches = objective.steps or schedule.epochs * len(loader)
    left = hooks.left or (lambda: math.inf)
    usable = left() - hooks.reserve
    step = 0
    history: list[Epoch] = []
    #: The highest score, and the weights of its epoch.
    best: tuple[float, ...] | None = None
    kept: list[Tensor] = []
    #: Those of the batches of the current epoch.
    batch_losses: list[float] = []

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

    def describe() -> Training:
        mean = sum(batch_losses) / max(1, len(batch_losses))
        return Training(step, total(), mean, tuple(history), hooks.stage)

    def report() -> None:
        if hooks.watch is not None:
            hooks.watch(describe())

    def pause() -> None:
        hooks.progress(hooks.stage, step, total())

    @torch.no_grad()
    def set_weights(values: Sequence[Tensor]) -> None:
        for parameter, value in zip(trained, values, strict=False):
            parameter.copy_(value)

    rate = LambdaLR(optimizer, lambda done: schedule.rate(behind(done), batches))
    stored = None
    if hooks.checkpoint is not None:
        stored = hooks.checkpoint.load()
    if stored is not None:
        state = _join(*stored)
        history = [Epoch(**epoch) for epoch in state["history"]]
        step = len(history) * len(loader)
        set_weights(state["weights"])
        best = state["best"]
        kept = state["kept"]
        optimizer.load_state_dict(state["optimizer"])
        rate.load_state_dict(state["rate"])
        order.set_state(state["order"])
        torch.set_rng_state(state["random"])

    pause()
    while not over():
        network.train()
        batch_losses = []
        for batch in loader:
            loss = objective.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, schedule.clip)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            batch_losses.append(float(loss.detach()))
            step += 1
            if hooks.after is not None:
                hooks.after(step)
            report()
            pause()
            if over():
                break
        network.eval()
        epoch = Epoch(len(history) + 1, sum(batch_losses) / len(batch_losses), None)
        if objective.score is not None:
            score = objective.score(pause)
            epoch = replace(epoch, accuracy=score[-1], score=score[0])
            if best is None or score > best:
                best = score
                kept = [parameter.detach().clone() for parameter in trained]
        history.append(epoch)
        report()
        if hooks.checkpoint is not None and not over():
            state = {
                "history": [asdict(epoch) for epoch in history],
                "weights": [parameter.detach() for parameter in trained],
                "best": best,
                "kept": kept,
                "optimizer": optimizer.state_dict(),
                "rate": rate.state_dict(),
                # The random numbers that order the texts, and those that dropout uses.
                "order": order.get_state(),
                "random": torch.get_rng_state(),
            }
            hooks.checkpoint.save(*_split(state))
    set_weights(kept)
    if hooks.checkpoint is not None:
        hooks.checkpoint.remove()
    hooks.progress(hooks.stage, total(), total())
    return describe()


def is_finite(network: nn.Module) -> bool:
    """Whether all weights of a trained network are finite numbers."""
    return all(bool(weight.isfinite().all()) for weight in network.parameters())


def _split(state: Fields) -> tuple[Arrays, Fields]:
    """Return the tensors of a state as arrays, and as JSON its other values and its form."""
    leaves, form = tree_flatten(state)
    arrays = {str(place): leaf.cpu().numpy() for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return arrays, {"others": others, "form": treespec_dumps(form)}


def _join(arrays: Arrays, meta: Fields) -> JsonObject:
    """Return the state that ``_split`` took apart."""
    leaves = list(meta["others"])
    for place, array in arrays.items():
        leaves[int(place)] = torch.tensor(array)
    state: JsonObject = tree_unflatten(leaves, treespec_loads(meta["form"]))
    return state


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
