"""PASS: gates drawn to be almost surely 0 or 1, as many of each as the budget says (Ding et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cahp.methods.shared.gates import SHIFT, GateRules, Learned
from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import mean_confidences
from cahp.values import Floats

if TYPE_CHECKING:
    from torch import Tensor

#: The penalty's strength grows from the first by the second over the steps of a rise that miss the target.
FIRST_STRENGTH = 1e-5
GROWTH = 1000.0
#: Shares of the training after which closed gates may reopen; in the second half gates settle.
REOPENINGS = (1 / 6, 1 / 3, 1 / 2)
#: Largest absolute parameter when gates reopen, so that every gate can still change.
SUREST = 5.0


def certainties(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities that each gate is exactly 0 and exactly 1: ``sigmoid(-a - 0.791)`` and ``sigmoid(a - 0.791)``."""
    return (-parameters - SHIFT).sigmoid(), (parameters - SHIFT).sigmoid()


def deviations(parameters: Tensor, *, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """The penalty's three terms, in heads, of parameters ``(L, H)`` of which ``kept`` should be open.

    ``|N - kept - sum p0|``, ``|kept - sum p1|`` and ``sum(1 - p0 - p1)``.
    """
    closed, opened = certainties(parameters)
    removed = parameters.numel() - kept
    return (removed - closed.sum()).abs(), (kept - opened.sum()).abs(), (1 - closed - opened).sum()


class Pressure:
    """The penalty of a training: ``strength`` times the three deviations together.

    The strength is ``1e-5 * 1000 ** (misses / rise)``, where a step misses that has half a head or more too many or
    too few surely closed or surely open.
    """

    def __init__(self, *, kept: int, rise: float) -> None:
        self._kept = kept
        self._rise = rise
        self._misses = 0

    @property
    def strength(self) -> float:
        """What a head that deviates costs now."""
        return float(FIRST_STRENGTH * GROWTH ** (self._misses / self._rise))

    def __call__(self, parameters: Tensor) -> Tensor:
        """The penalty of one step's parameters; counts the step if it misses."""
        too_closed, too_open, unsure = deviations(parameters, kept=self._kept)
        cost = self.strength * (too_closed + too_open + unsure)
        self._misses += max(float(too_closed.detach()), float(too_open.detach())) >= 0.5
        return cost


def reopen(parameters: Tensor, chance: Tensor, uniform: Tensor) -> Tensor:
    """Parameters cut to +-5, those of more likely closed gates set to 0, undecided, with probability ``chance``."""
    held = parameters.clamp(-SUREST, SUREST)
    closed = certainties(parameters)[0] > 0.5
    return held.masked_fill(closed & (uniform < chance), 0.0)


@register
class Pass(Learned):
    """Train hard concrete gates under a penalty for unsure gates and a wrong number of heads, and keep the open ones.

    Penalty: see ``Pressure``. Published trainings are long, with 1,000 missing steps for a thousandfold pressure; here
    ``rise``, a share of the steps, takes their place. At three points closed gates reopen, the likelier the more
    confident their heads are. The weights are frozen, and the term that gathers open gates in few layers is left out.
    Source: Ding et al., TMLR 2024 (PASS, openreview.net/forum?id=S4duStTKGL). Cost: a training of ``steps`` batches,
    and of an epoch at least, and a forward pass of every text. Labels: all. Randomness: start, noise, reopening and
    order of the texts.
    """

    name = "pass"
    #: For the confidence of the heads.
    passes = 1
    tries = ({}, {"rise": 1 / 6}, {"rise": 1 / 2})

    def __init__(self, *, steps: int = 200, rise: float = 1 / 3, learning_rate: float = 0.1) -> None:
        super().__init__(steps=steps, learning_rate=learning_rate)
        self._rise = rise

    def train(self, evidence: Evidence, *, budget: int) -> Floats:
        """The gates' parameters ``(L, H)``."""
        import torch

        steps = self.count_steps(evidence.texts)
        sure = torch.as_tensor(mean_confidences(evidence, "all"))
        points = {round(share * steps) for share in REOPENINGS}

        def revise(parameters: Tensor, done: int, uniform: Tensor) -> None:
            if done in points:
                parameters.copy_(reopen(parameters, sure / sure.max(), uniform))

        rules = GateRules(penalty=Pressure(kept=budget, rise=self._rise * steps), revise=revise)
        return self.train_cached(evidence, budget, rules)
