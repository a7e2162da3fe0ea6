"""The full model as a teacher: what it says to texts, and how far another model's answers are from its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cahp import processes as parallel
from cahp.models.head_model import Batch, HeadModel, Tokens
from cahp.values import Ints, Progress, silent

#: Bytes of hidden states that a teacher keeps; what does not fit is computed again for every batch.
ROOM = 512 << 20


@dataclass(frozen=True, order=True)
class Agreement:
    """Of how many texts two models say the same class, and minus the mean divergence (nats) of one from the other.

    Ordered: more equal answers agree better, and of as many those that diverge less.
    """

    same: int
    nearness: float

    @classmethod
    def of(cls, logits: Tensor, teacher: Tensor) -> Agreement:
        """Agreement of ``logits (n, C)`` with those of the teacher."""
        mine, wanted = logits.float().log_softmax(-1), teacher.float().log_softmax(-1)
        divergence = nn.functional.kl_div(mine, wanted, reduction="none", log_target=True).sum(-1)
        return cls(int((logits.argmax(-1) == teacher.argmax(-1)).sum()), -float(divergence.mean()))


@torch.no_grad()
def logits_of(
    model: HeadModel,
    tokens: Tokens,
    *,
    network: Any = None,
    stage: str = "evaluation",
    progress: Progress = silent,
) -> Tensor:
    """Class scores ``(n, C)`` of each text, in the order of ``tokens``; shared out among processes.

    ``network`` answers in the place of the model's own.
    """
    batches = parallel.share(model.batches(tokens))
    found = np.zeros((len(tokens), len(model.card.labels)), dtype=np.float64)
    for done, batch in enumerate(batches):
        progress(stage, done, len(batches))
        logits = model.logits(batch) if network is None else model.scores(batch.tensors, network)
        found[batch.rows] = logits.float().cpu().numpy()
    progress(stage, len(batches), len(batches))
    # Each text was answered by one process, and is 0 in the others.
    return torch.tensor(parallel.total(found), dtype=torch.float32, device=model.device)


class Teacher:
    """Hidden states of the full model after each layer, on the real tokens of the texts it teaches on.

    Computed once where those of all texts fit in ``room`` bytes (``kept``), else for each batch that asks. In the order
    of the passes; a layer that is used in many passes speaks after each.
    """

    def __init__(self, model: HeadModel, tokens: Tokens, *, room: int = ROOM) -> None:
        self._model = model
        self._states: dict[int, Tensor] = {}
        passes = len(_walked(model, model.batches(tokens[:1])[0])[0]) if tokens else 0
        self.nbytes = 4 * passes * model.card.hidden * sum(len(entry["input_ids"]) for entry in tokens)
        # Several processes draw other texts in every epoch, and would each keep all.
        self.kept = self.nbytes <= room and parallel.world() == 1
        if self.kept:
            for batch in model.batches(tokens):
                states, real = _walked(model, batch)
                for row, found, mine in zip(batch.rows, torch.stack(states, 1), real, strict=True):
                    self._states[int(row)] = found[:, mine]

    def states(self, inputs: Mapping[str, Tensor], rows: Sequence[int] | Ints) -> list[Tensor]:
        """After each pass ``(real tokens of the batch, hidden)``."""
        if self.kept:
            return list(torch.cat([self._states[int(row)] for row in rows], dim=1))
        real = inputs["attention_mask"].bool()
        states, _ = _walked(self._model, Batch(np.asarray(rows), real.sum(1), dict(inputs)))
        return [state[real] for state in states]


@torch.no_grad()
def _walked(model: HeadModel, batch: Batch) -> tuple[list[Tensor], Tensor]:
    states: list[Tensor] = []
    model.logits(batch, leaving=states.append)
    return states, batch.tensors["attention_mask"].bool()
