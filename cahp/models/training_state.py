"""The state of a training (weights, optimiser, order of the texts, random numbers) as arrays that resume it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cahp import processes as parallel


@dataclass(frozen=True)
class Epoch:
    """The mean training loss of an epoch, and the accuracy on held-out texts after it (None without any)."""

    epoch: int
    loss: float
    accuracy: float | None


class TrainingState:
    """All that the rest of a training depends on, to be saved between two batches and resumed there."""

    def __init__(
        self, trained: list[nn.Parameter], optimizer: Any, rate: Any, order: torch.Generator, device: torch.device
    ) -> None:
        self._trained, self._optimizer, self._rate, self._order, self._device = trained, optimizer, rate, order, device
        #: The current epoch, its finished batches, and the sum of their losses.
        self.epoch, self.batches, self.losses = 0, 0, 0.0
        self.history: list[Epoch] = []
        self._best: tuple[float, ...] = (-math.inf,)
        self._kept: list[Tensor] | None = None
        #: State of the generator before it drew the order of the current epoch's texts.
        self._drawing = order.get_state()
        #: State of the random numbers to resume from (None: they were resumed).
        self._random: NDArray[np.uint8] | None = None

    def rest(self, loader: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of the current epoch that are not finished."""
        self._drawing = self._order.get_state()
        batches = iter(loader)
        for _ in range(self.batches):
            next(batches)
        if self._random is not None:
            # Only now: the loader has drawn from the same numbers.
            _set_random(self._random, self._device)
            self._random = None
        yield from batches

    def end_epoch(self, score: tuple[float, ...] | None) -> None:
        """Record the epoch's loss and score, and keep its weights if they are the best so far."""
        loss = sum(parallel.gather(self.losses)) / parallel.world() / max(1, self.batches)
        self.history.append(Epoch(self.epoch + 1, loss, None if score is None else score[0]))
        if score is not None and score > self._best:
            self._best, self._kept = score, [parameter.detach().clone() for parameter in self._trained]
        self.epoch, self.batches, self.losses = self.epoch + 1, 0, 0.0
        self._drawing = self._order.get_state()

    @property
    def best(self) -> tuple[float, ...] | None:
        """The score of the best epoch (None: no epoch was scored)."""
        return None if self._kept is None else self._best

    def set_rate(self) -> None:
        """Set the learning rate of the current step, after a state was loaded."""
        factor = self._rate.lr_lambdas[0](self._rate.last_epoch)
        for group, highest in zip(self._optimizer.param_groups, self._rate.base_lrs, strict=True):
            group["lr"] = highest * factor

    def finish(self) -> None:
        """Restore the weights of the best epoch."""
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
                arrays[f"mean-{index}"], arrays[f"square-{index}"] = map(
                    _array, (moments["exp_avg"], moments["exp_avg_sq"])
                )
        meta = {
            "epoch": self.epoch,
            "batches": self.batches,
            "losses": self.losses,
            "history": [asdict(epoch) for epoch in self.history],
            "best": None if self._kept is None else list(self._best),
            "steps": steps,
            "rate": self._rate.last_epoch,
        }
        return arrays, meta

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Resume from a saved state."""

        def stored(name: str) -> list[Tensor]:
            return [torch.tensor(arrays[f"{name}-{index}"], device=self._device) for index in range(len(self._trained))]

        self.epoch, self.batches, self.losses = meta["epoch"], meta["batches"], meta["losses"]
        self.history = [Epoch(**epoch) for epoch in meta["history"]]
        self._set_weights(stored("weight"))
        if meta["best"] is not None:
            self._best, self._kept = tuple(np.atleast_1d(meta["best"]).tolist()), stored("best")
        for index, (parameter, step) in enumerate(zip(self._trained, meta["steps"], strict=True)):
            if step is not None:
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(step, dtype=torch.float32),
                    "exp_avg": torch.tensor(arrays[f"mean-{index}"], device=self._device),
                    "exp_avg_sq": torch.tensor(arrays[f"square-{index}"], device=self._device),
                }
        self._rate.last_epoch = meta["rate"]
        self.set_rate()
        self._drawing = torch.tensor(arrays["order"])
        self._order.set_state(self._drawing)
        self._random = arrays["random"][parallel.rank()]

    def _set_weights(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._trained, values, strict=True):
                parameter.copy_(value)


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _random(device: torch.device) -> NDArray[np.uint8]:
    """The states of the random number generators that dropout uses: the processor's, then the device's."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(getattr(torch, device.type).get_rng_state())
    return torch.cat(states).numpy()


def _set_random(state: NDArray[np.uint8], device: torch.device) -> None:
    here = len(torch.get_rng_state())
    torch.set_rng_state(torch.tensor(state[:here]))
    if device.type != "cpu":
        getattr(torch, device.type).set_rng_state(torch.tensor(state[here:]))
