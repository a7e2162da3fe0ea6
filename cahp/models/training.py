"""The one training loop, and what is trained with it: a classifier on an encoder (LoRA), a pruned model's recovery.

Needs a network of its own: unlike everything else here, training changes weights.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import LengthGroupedSampler

from cahp import processes as parallel
from cahp.files import whole_folder
from cahp.models.head_model import HeadModel, Tokens
from cahp.models.identity import BUILTINS
from cahp.models.loading import quiet, read
from cahp.values import Cancelled, ModelCard, Progress, Texts, silent


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
    """Where a training that was stopped waits to be taken up again: plain arrays, and what JSON can say."""

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
    course = _Course(trained, optimizer, rate, order, accelerator.device)
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


class _Course:
    """All that a training's future depends on, to be laid down between two batches and taken up again."""

    def __init__(
        self, trained: list[nn.Parameter], optimizer: Any, rate: Any, order: torch.Generator, device: torch.device
    ) -> None:
        self._trained, self._optimizer, self._rate, self._order, self._device = trained, optimizer, rate, order, device
        #: The current epoch, its batches that are done, and the sum of their losses.
        self.epoch, self.batches, self.losses = 0, 0, 0.0
        self.history: list[Epoch] = []
        self._best = -math.inf
        self._kept: list[Tensor] | None = None
        #: What draws the order of the current epoch's texts, before it did.
        self._drawing = order.get_state()
        #: Where random numbers go on, as long as they have not.
        self._random: NDArray[np.uint8] | None = None

    def rest(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of the current epoch that are not yet done."""
        self._drawing = self._order.get_state()
        batches = iter(loader)
        for _ in range(self.batches):
            next(batches)
        if self._random is not None:
            # Only now: the loader has drawn from the same numbers.
            _set_random(self._random, self._device)
            self._random = None
        yield from batches

    def end_epoch(self, accuracy: float | None) -> None:
        """Note how the epoch went, and its weights if they are the best so far."""
        loss = sum(parallel.gather(self.losses)) / parallel.world() / max(1, self.batches)
        self.history.append(Epoch(self.epoch + 1, loss, accuracy))
        if accuracy is not None and accuracy > self._best:
            self._best, self._kept = accuracy, [parameter.detach().clone() for parameter in self._trained]
        self.epoch, self.batches, self.losses = self.epoch + 1, 0, 0.0
        self._drawing = self._order.get_state()

    def finish(self) -> None:
        """Leave the best epoch's weights."""
        if self._kept is not None:
            self._set_weights(self._kept)

    def state_dict(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The state as arrays and JSON."""
        random = _random(self._device) if self._random is None else self._random
        arrays = {"order": self._drawing.numpy(), "random": np.stack(parallel.gather(random))}
        steps: list[float | None] = []
        for index, parameter in enumerate(self._trained):
            arrays[f"weight-{index}"] = _array(parameter)
            if self._kept is not None:
                arrays[f"best-{index}"] = _array(self._kept[index])
            moments = self._optimizer.state.get(parameter)
            steps.append(float(moments["step"]) if moments else None)
            if moments:
                arrays[f"mean-{index}"], arrays[f"square-{index}"] = map(_array, _moments(moments))
        meta = {
            "epoch": self.epoch,
            "batches": self.batches,
            "losses": self.losses,
            "history": [asdict(epoch) for epoch in self.history],
            "best": None if self._kept is None else self._best,
            "steps": steps,
            "rate": self._rate.last_epoch,
        }
        return arrays, meta

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go back to a state that was laid down."""

        def stored(name: str) -> list[Tensor]:
            return [torch.tensor(arrays[f"{name}-{index}"], device=self._device) for index in range(len(self._trained))]

        self.epoch, self.batches, self.losses = meta["epoch"], meta["batches"], meta["losses"]
        self.history = [Epoch(**epoch) for epoch in meta["history"]]
        self._set_weights(stored("weight"))
        if meta["best"] is not None:
            self._best, self._kept = meta["best"], stored("best")
        for index, (parameter, step) in enumerate(zip(self._trained, meta["steps"], strict=True)):
            if step is not None:
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(step, dtype=torch.float32),
                    "exp_avg": torch.tensor(arrays[f"mean-{index}"], device=self._device),
                    "exp_avg_sq": torch.tensor(arrays[f"square-{index}"], device=self._device),
                }
        self._rate.last_epoch = meta["rate"]
        factor = self._rate.lr_lambdas[0](self._rate.last_epoch)
        for group, highest in zip(self._optimizer.param_groups, self._rate.base_lrs, strict=True):
            group["lr"] = highest * factor
        self._drawing = torch.tensor(arrays["order"])
        self._order.set_state(self._drawing)
        self._random = arrays["random"][parallel.rank()]

    def _set_weights(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._trained, values, strict=True):
                parameter.copy_(value)


def _array(tensor: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = tensor.detach().cpu().numpy()
    return found


def _moments(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    return state["exp_avg"], state["exp_avg_sq"]


def _random(device: torch.device) -> NDArray[np.uint8]:
    """Where the random numbers of dropout stand: those of the processor, then those of the device."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(getattr(torch, device.type).get_rng_state())
    return torch.cat(states).numpy()


def _set_random(state: NDArray[np.uint8], device: torch.device) -> None:
    here = len(torch.get_rng_state())
    torch.set_rng_state(torch.tensor(state[:here]))
    if device.type != "cpu":
        getattr(torch, device.type).set_rng_state(torch.tensor(state[here:]))


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
    # By one process; the others wait, since they may read it next.
    parallel.from_first(lambda: _write_adapter(fitted, folder, base))


def _write_adapter(fitted: Fitted, folder: Path, base: str) -> None:
    with whole_folder(folder) as part, quiet():
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

    def write() -> None:
        with whole_folder(folder) as part, quiet():
            network.save_pretrained(part)
            tokenizer.save_pretrained(part)

    parallel.from_first(write)


def base_name(card: ModelCard) -> str:
    """What an adapter's configuration calls the encoder it belongs to: never a path of this machine."""
    return "sentence-transformers/all-MiniLM-L6-v2" if card.id in BUILTINS else card.id


def load_adapter(card: ModelCard, folder: Path, *, labels: tuple[str, ...], device: str = "auto") -> HeadModel:
    """An encoder with an adapter that ``save_adapter`` wrote."""
    return read(replace(card, labels=labels, adapter=str(folder)), device_name=device)
