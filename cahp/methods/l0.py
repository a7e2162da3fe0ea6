"""L0: gates trained with a penalty on the number of open gates (Voita et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cahp.methods.shared.gates import SHIFT, GateRules, Learned
from cahp.methods.shared.registry import Evidence, register
from cahp.values import Floats

if TYPE_CHECKING:
    from torch import Tensor

#: Range of the penalty of an open head, in units of the loss.
WEAKEST = 1e-4
STRONGEST = 1.0
#: Number of trainings to find the penalty that leaves as many heads open as the budget.
TRAININGS = 6


def expected_open(parameters: Tensor) -> Tensor:
    """Expected number of gates that are not 0: ``sum sigmoid(a + 0.791)``."""
    return (parameters + SHIFT).sigmoid().sum()


@register
class L0(Learned):
    """Train hard concrete gates under a penalty on open gates, with frozen weights, and keep the most open ones.

    Penalty: ``strength * sum sigmoid(a + 0.791)``; the strength is bisected, on a logarithmic scale, until about as
    many gates are open as the budget. Heads are ranked by ``a``, since many clamped gates are equal. Source: Voita et
    al., ACL 2019 (arXiv 1905.09418). Cost: up to six trainings of ``steps`` batches, and of an epoch at least; budgets
    share some. Labels: all. Randomness: start, noise and order of the texts.
    """

    name = "l0"
    tries = ({}, {"steps": 50}, {"steps": 200})
    trainings = TRAININGS

    def __init__(self, *, steps: int = 100, learning_rate: float = 0.1) -> None:
        super().__init__(steps=steps, learning_rate=learning_rate)

    def train(self, evidence: Evidence, *, budget: int) -> Floats:
        """The gates' parameters ``(L, H)`` of the training whose open gates come nearest to the budget."""
        import torch

        low = 0.0
        high = 1.0
        trainings = []
        for turn in range(TRAININGS):
            # All budgets bisect the same interval, so they share their first trainings.
            middle = (low + high) / 2
            parameters = self._train_once(evidence, WEAKEST * (STRONGEST / WEAKEST) ** middle, turn)
            surplus = float(expected_open(torch.as_tensor(parameters))) - budget
            trainings.append((abs(surplus), parameters))
            if abs(surplus) < 0.5:
                break
            if surplus > 0:
                low = middle
            else:
                high = middle
        return min(trainings, key=lambda training: training[0])[1]

    def _train_once(self, evidence: Evidence, strength: float, turn: int) -> Floats:
        rules = GateRules(penalty=lambda parameters: strength * expected_open(parameters))

        def progress(stage: str, done: int, total: int) -> None:
            evidence.progress(stage, turn * total + done, TRAININGS * total)

        return self.train_cached(evidence, strength, rules, progress=progress)
