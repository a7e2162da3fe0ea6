"""Differentiable subset pruning: gates relaxed so that they always add up to the budget (Li et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cahp.methods.shared.gates import Draw, GateRules, Learned
from cahp.methods.shared.registry import Evidence, register
from cahp.values import Floats

if TYPE_CHECKING:
    from torch import Tensor

#: The temperature at the start, and the share of the steps over which it falls.
TAU_START = 1000.0
COOL_DOWN = 2 / 3


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise of uniform noise: ``-log(-log u)``."""
    return -(-uniform.log()).log()


def relaxed_top(scores: Tensor, *, k: int, temperature: float) -> Tensor:
    """A relaxed indicator of the ``k`` highest ``scores``, of their shape; it adds up to ``k``.

    ``k`` times ``p = softmax(r / temperature)``, then ``r += log(max(1 - p, tiny))``; the gate is the sum of the
    ``p`` (Xie and Ermon 2019). Cold, it is the indicator itself.
    """
    import torch

    left = scores.flatten()
    total = torch.zeros_like(left)
    tiny = torch.finfo(scores.dtype).tiny
    for _ in range(k):
        taken = (left / temperature).softmax(0)
        total = total + taken
        left = left + (1 - taken).clamp_min(tiny).log()
    return total.reshape(scores.shape)


def straight_through_top(scores: Tensor, *, k: int) -> Tensor:
    """The indicator of the ``k`` highest ``scores``; going back, the gradient passes as it is to every one of them."""
    import torch

    flat = scores.flatten()
    hard = torch.zeros_like(flat).scatter(0, flat.topk(k).indices, 1.0)
    return (hard + (flat - flat.detach())).reshape(scores.shape)


@register
class Dsp(Learned):
    """Train a relaxed gate for each head for one epoch, with frozen weights, and keep the heads with the highest gates.

    Gates: ``relaxed_top`` of parameters plus Gumbel noise; the temperature falls geometrically over the first two
    thirds of the steps and stays at its end. Source: Li et al., TACL 2021 (arXiv 2108.04657), pipelined. Cost: a
    forward and a backward pass of every text in every epoch. Labels: all. Randomness: start, noise and order of the
    texts.
    """

    name = "dsp"
    tries = ({}, {"tau_end": 0.1}, {"tau_end": 0.1, "learning_rate": 0.1})
    joint = False

    def __init__(self, *, tau_end: float = 1e-8, learning_rate: float = 0.5) -> None:
        super().__init__(learning_rate=learning_rate)
        self._tau_end = tau_end

    def draw(self, budget: int) -> Draw:
        """Gates of a training towards ``budget`` heads."""

        def relaxed(parameters: Tensor, uniform: Tensor, behind: float) -> Tensor:
            return relaxed_top(parameters + gumbel(uniform), k=budget, temperature=self.temperature(behind))

        return relaxed

    def temperature(self, behind: float) -> float:
        """The temperature when that share of the training lies behind."""
        return float(TAU_START * (self._tau_end / TAU_START) ** min(1.0, behind / COOL_DOWN))

    def train(self, evidence: Evidence, *, budget: int) -> Floats:
        """The gates' parameters ``(L, H)``."""
        return self.train_cached(evidence, budget, GateRules(self.draw(budget), joint=self.joint))


@register
class JointDsp(Dsp):
    """Train relaxed gates and all weights together for three epochs, and keep the heads with the highest gates.

    As ``dsp``, but the weights of a copy are trained too; they are thrown away and the mask alone is kept, since what
    is compared is which heads a method finds: all meet the same recovery from the same weights. Source: Li et al., TACL
    2021 (arXiv 2108.04657), joint. Cost: three epochs, forward and backward. Labels: all. Randomness: as ``dsp``, and
    dropout.
    """

    name = "dsp-joint"
    joint = True
    epochs = 3


@register
class StraightThroughDsp(Dsp):
    """Train gates for one epoch that are 0 or 1 in the forward pass, and keep the heads with the highest gates.

    As ``dsp``, but the gates are the indicator of the top parameters, without noise or temperature, and the gradient
    passes to all parameters as if the gates were these. Source: Li et al., TACL 2021 (arXiv 2108.04657). Cost: as
    ``dsp``. Labels: all. Randomness: start and order of the texts.
    """

    name = "dsp-straight-through"
    tries = ({}, {"learning_rate": 0.1}, {"learning_rate": 0.02})

    def draw(self, budget: int) -> Draw:
        """Gates of a training towards ``budget`` heads."""

        def hard(parameters: Tensor, uniform: Tensor, behind: float) -> Tensor:
            return straight_through_top(parameters, k=budget)

        return hard
