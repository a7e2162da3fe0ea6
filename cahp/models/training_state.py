"""The state of a training: arrays that resume it, and whether there is time for another batch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cahp.values import Progress


@dataclass(frozen=True)
class Epoch:
    """The mean training loss of an epoch, and the accuracy or agreement on held-out texts after it (None: no texts).

    ``score`` is what the best epoch is kept by, higher being better: the accuracy, or minus a loss or divergence.
    """

    epoch: int
    loss: float
    accuracy: float | None
    score: float | None = None


class TrainingState:
    """All that the rest of a training depends on, to be saved between two batches and resumed there."""

    def __init__(
        self, trained: list[nn.Parameter], optimizer: Any, rate: Any, order: torch.Generator, device: torch.device
    ) -> None:
        self._trained = trained
        self._optimizer = optimizer
        self._rate = rate
        self._order = order
        self._device = device
        #: The current epoch, its finished batches, and the sum of their losses.
        self.epoch = 0
        self.batches = 0
        self.losses = 0.0
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
            here = len(torch.get_rng_state())
            torch.set_rng_state(torch.tensor(self._random[:here]))
            if self._device.type != "cpu":
                getattr(torch, self._device.type).set_rng_state(torch.tensor(self._random[here:]))
            self._random = None
        yield from batches

    def end_epoch(self, score: tuple[float, ...] | None) -> None:
        """Record the epoch's loss and score, and keep its weights if they are the best so far."""
        loss = self.losses / max(1, self.batches)
        accuracy = None
        first = None
        if score is not None:
            accuracy = score[-1]
            first = score[0]
            if score > self._best:
                self._best = score
                self._kept = [parameter.detach().clone() for parameter in self._trained]
        self.epoch += 1
        self.history.append(Epoch(self.epoch, loss, accuracy, first))
        self.batches = 0
        self.losses = 0.0
        self._drawing = self._order.get_state()

    @property
    def best(self) -> tuple[float, ...] | None:
        """The score of the best epoch (None: no epoch was scored)."""
        if self._kept is None:
            return None
        return self._best

    def finish(self) -> None:
        """Restore the weights of the best epoch."""
        if self._kept is not None:
            self._set_weights(self._kept)

    def state_dict(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The state as arrays and JSON."""
        # The random numbers that dropout uses: the processor's, then the device's.
        generators = [torch.get_rng_state()]
        if self._device.type != "cpu":
            generators.append(getattr(torch, self._device.type).get_rng_state())
        random = self._random
        if random is None:
            random = torch.cat(generators).numpy()
        optimizer = self._optimizer.state_dict()
        tensors = {f"weight-{index}": weight.detach() for index, weight in enumerate(self._trained)}
        tensors |= {f"best-{index}": weight for index, weight in enumerate(self._kept or [])}
        for index, moments in optimizer["state"].items():
            tensors |= {f"{name}-{index}": moment for name, moment in moments.items()}
        arrays = {name: tensor.cpu().numpy() for name, tensor in {**tensors, "order": self._drawing}.items()}
        arrays["random"] = random
        best = None
        if self._kept is not None:
            best = list(self._best)
        meta = {
            "epoch": self.epoch,
            "batches": self.batches,
            "losses": self.losses,
            "history": [asdict(epoch) for epoch in self.history],
            "best": best,
            "groups": optimizer["param_groups"],
            "rate": self._rate.last_epoch,
        }
        return arrays, meta

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Resume from a saved state."""

        def stored(name: str) -> list[Tensor]:
            return [torch.tensor(arrays[f"{name}-{index}"], device=self._device) for index in range(len(self._trained))]

        self.epoch = meta["epoch"]
        self.batches = meta["batches"]
        self.losses = meta["losses"]
        self.history = [Epoch(**epoch) for epoch in meta["history"]]
        self._set_weights(stored("weight"))
        if meta["best"] is not None:
            self._best = tuple(meta["best"])
            self._kept = stored("best")
        moments = defaultdict[int, dict[str, Tensor]](dict)
        for place, array in arrays.items():
            name, _, index = place.rpartition("-")
            if name not in ("", "weight", "best"):
                moments[int(index)][name] = torch.tensor(array)
        self._optimizer.load_state_dict({"state": moments, "param_groups": meta["groups"]})
        self._rate.last_epoch = meta["rate"]
        self._drawing = torch.tensor(arrays["order"])
        self._order.set_state(self._drawing)
        self._random = arrays["random"]

    def _set_weights(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._trained, values, strict=True):
                parameter.copy_(value)


# Time --------------------------------------------------------------------------------------------------------------

#: Seconds that are still allowed.
Left = Callable[[], float]

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


@dataclass(frozen=True)
class Limit:
    """What ends a training before its schedule does: a number of ``steps``, or the time ``left`` (None: no limit).

    For ``scoring`` and ``each`` see ``TimeBudget``.
    """

    steps: int | None = None
    left: Left | None = None
    scoring: float = 0.0
    each: float = 0.0


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
