"""What recoveries take, counted in forward passes of the full model, and what one may take, in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cahp.run.settings import Recovery
from cahp.values import Input, Ints, refit_texts

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.pacing import Left

#: What a refit costs, in forward passes of the full model of each text it calibrates on, and of each that decides
#: whether it is accepted.
REFIT, _ACCEPTED = 4.1, 2.0
#: Every fifth text is held out.
_LEARNED, _HELD_OUT = 0.8, 0.2
#: An epoch of a training: a forward and a backward pass of each text learned from, and an evaluation on the others.
_EPOCH = 3 * _LEARNED + _HELD_OUT
#: What the teacher answers before, and what the student does.
_TEACHER = 1 + _HELD_OUT
#: What a refit's equations cost to solve, however few the texts: so many passes of a token for each hidden channel.
_SOLVED = 4.4
#: Fewer texts are not worth a recovery, whatever the time.
_FEWEST = 40
#: Texts that tell how long a pass takes, and the share of the time that a plan fills.
_TRIED, _FILLED = 8, 0.8


def recovery_passes(texts: int, *, refitted: bool = True, epochs: int = 3) -> dict[Recovery, float]:
    """Forward passes of a text that each recovery takes on so many calibration texts; ``auto`` with all the time."""
    refit = refit_texts(texts) * REFIT + _HELD_OUT * texts * _ACCEPTED
    training = epochs * _EPOCH * texts
    distill = (refit if refitted else 0.0) + _TEACHER * texts + training
    return {"none": 0.0, "refit": refit, "distill": distill, "auto": distill, "finetune": training}


class Allowance:
    """The seconds that a recovery may take, of which ``spent`` went into an attempt that was stopped."""

    def __init__(self, seconds: float, clock: Callable[[], float], *, spent: float = 0.0) -> None:
        self.seconds, self._clock, self._spent, self._began = seconds, clock, spent, clock()

    @property
    def used(self) -> float:
        """Seconds that are gone."""
        return self._spent + self._clock() - self._began

    def left(self) -> float:
        """Seconds that are not."""
        return self.seconds - self.used


def texts_in_time(model: HeadModel, inputs: Sequence[Input], left: Left, *, refitted: bool) -> int:
    """How many of ``inputs`` refit and one epoch of distillation fit into the time left for.

    All of them, where that is enough for all.
    """
    tried = model.tokenize([inputs[row] for row in spread(len(inputs), _TRIED)])
    batches = model.batches(tried)
    tokens = sum(len(entry["input_ids"]) for entry in tried) / len(tried)
    solving = _SOLVED * model.card.hidden / tokens if refitted else 0.0
    each = 0.0
    # The first pass sets things up.
    for _ in range(2):
        before = left()
        for batch in batches:
            model.logits(batch)
        each = (before - left()) / len(tried)
        if each * len(tried) > 0.02 * before:
            break
    low, most = min(_FEWEST, len(inputs)), len(inputs)
    seconds = _FILLED * left()
    while low < most:
        middle = (low + most + 1) // 2
        needed = each * (solving + recovery_passes(middle, refitted=refitted, epochs=1)["distill"])
        low, most = (middle, most) if needed <= seconds else (low, middle - 1)
    return low


def spread(there: int, count: int) -> Ints:
    """So many of ``there`` rows, evenly."""
    return np.unique(np.linspace(0, there - 1, min(count, there)).round().astype(np.int64))
