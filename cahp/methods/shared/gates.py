"""Learned gates: their training, and the hard concrete distribution."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from cahp.methods.shared.registry import Evidence
from cahp.methods.shared.scored import Budgeted
from cahp.models.cards import SelectionCost
from cahp.stages.selection import Minimum, top
from cahp.tasks.texts import Texts
from cahp.values import Floats, JsonObject, Progress, Selection, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import HeadModel

STAGE = "training gates"
BATCH = 32
#: Largest norm of a step's gradients; larger ones are scaled down.
CLIP = 1.0
#: Hard concrete distribution (Louizos et al. 2018): how soft it is, and to where it is stretched before it is cut.
TEMPERATURE = 0.33
STRETCH = (-0.1, 1.1)
#: ``P(gate > 0) = sigmoid(a + SHIFT)`` and ``P(gate = 1) = sigmoid(a - SHIFT)``; about 0.791.
SHIFT = -TEMPERATURE * math.log(-STRETCH[0] / STRETCH[1])

#: Gates ``(L, H)`` from their parameters, noise that is uniform in (0, 1), both ``(L, H)`` in float64, and the share
#: of the training that lies behind.
Draw = Callable[["Tensor", "Tensor", float], "Tensor"]
#: Called after every step with the gates' parameters, which it may set, the number of steps done, and noise.
Revise = Callable[["Tensor", int, "Tensor"], None]


@dataclass(frozen=True)
class GateRules:
    """How a method trains gates: how it draws them, and what it adds.

    They are hard concrete by default. A ``penalty`` of the parameters is added to the loss, and ``revise`` may change
    them after every step. ``joint`` also trains the weights of a copy of the model, with dropout and at the rate and
    decay of the recovery, and discards them.
    """

    draw: Draw = lambda parameters, uniform, behind: hard_concrete(parameters, uniform)
    penalty: Callable[[Tensor], Tensor] | None = None
    revise: Revise | None = None
    joint: bool = False


class Learned(Budgeted):
    """A method that trains gates on the calibration texts, and keeps the heads with the highest parameters.

    Its result is only a mask of the full model: weights trained with the gates are discarded, so that the masks of all
    methods have the same recovery from the same weights. A training has ``steps`` batches, or ``epochs`` if that is
    more. A choice takes at most so many ``trainings``, and ``passes`` beside them.
    """

    labels = "needed"
    learned = True
    epochs = 1
    trainings = 1

    def __init__(self, *, steps: int = 0, learning_rate: float) -> None:
        self._steps = steps
        self._learning_rate = learning_rate

    @abstractmethod
    def train(self, evidence: Evidence, *, budget: int) -> Floats:
        """The gates' parameters ``(L, H)`` after a training towards ``budget`` heads."""

    def keep(self, evidence: Evidence, budget: int, min_per_layer: Minimum) -> Selection:
        """Keep the heads of the highest parameters."""
        return top(self.train(evidence, budget=budget), budget=budget, min_per_layer=min_per_layer)

    def estimate_cost(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """A forward and a backward pass, three forward passes' worth, of every text in every epoch of a training."""
        texts = len(evidence.texts)
        steps = self.count_steps(evidence.texts)
        training = 3 * texts * steps / math.ceil(texts / BATCH)
        return SelectionCost(self.trainings * training + self.passes * texts, min(texts, steps * BATCH))

    def count_steps(self, texts: Texts) -> int:
        """The number of batches of a training."""
        return max(self._steps, self.epochs * math.ceil(len(texts) / BATCH))

    def train_cached(
        self, evidence: Evidence, goal: float, rules: GateRules, *, progress: Progress | None = None
    ) -> Floats:
        """The parameters of a training towards a ``goal``, cached; its ``progress`` is the evidence's if None."""
        return evidence.cached(
            f"{self.name} 1 {goal} {sorted(vars(self).items())}",
            lambda: train_gates(
                evidence.model,
                evidence.texts,
                rules,
                learning_rate=self._learning_rate,
                steps=self.count_steps(evidence.texts),
                seed=evidence.seed,
                progress=progress or evidence.progress,
            ),
        )


def hard_concrete(parameters: Tensor, uniform: Tensor) -> Tensor:
    """Gates in 0..1, many of them exactly 0 or 1, from parameters ``a`` and uniform noise ``u``.

    ``min(1, max(0, 1.2 s - 0.1))`` with ``s = sigmoid((log u - log(1 - u) + a) / 0.33)`` (Louizos et al. 2018).
    """
    low, high = STRETCH
    soft = ((uniform.log() - (1 - uniform).log() + parameters) / TEMPERATURE).sigmoid()
    return (soft * (high - low) + low).clamp(0, 1)


def train_gates(
    model: HeadModel,
    texts: Texts,
    rules: GateRules,
    *,
    learning_rate: float,
    steps: int,
    seed: int,
    progress: Progress = silent,
) -> Floats:
    """Train one parameter a head on the labels of ``texts``; their values ``(L, H)`` after ``steps`` batches of 32.

    A step minimises the mean cross-entropy under gates that are drawn by the ``rules``, plus their penalty. AdamW
    without decay, its rate falling linearly to 0; the start is uniform in ``+-sqrt(6 / (L + H))`` (Glorot and Bengio
    2010). The model itself stays as it is.
    """
    import torch
    from torch import nn

    from cahp.models.head_model import Batch
    from cahp.models.reading import losses
    from cahp.models.surgery import separate
    from cahp.models.training import Hooks, Objective, Schedule, optimise

    generator = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        tiny = torch.finfo(torch.float64).eps
        noise = torch.rand(model.layers, model.heads, generator=generator, dtype=torch.float64)
        return noise.clamp(tiny, 1 - tiny)

    start = (2 * uniform() - 1) * math.sqrt(6 / (model.layers + model.heads))
    parameters = nn.Parameter(start.float())
    # Cold gates of two heads that are all but equal have infinite gradients.
    parameters.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    )
    trained = nn.Module()
    trained.register_parameter("gates", parameters)
    groups: list[JsonObject] = [{"params": [parameters], "lr": learning_rate}]
    if rules.joint:
        model = separate(model)
        recovery = Schedule()
        trained.add_module("network", model.network)
        weights = list(model.network.parameters())
        groups.append({"params": weights, "lr": recovery.learning_rate, "weight_decay": recovery.weight_decay})
    labels = torch.as_tensor(texts.labels, device=model.device)
    finished = count()

    def loss(batch: Batch) -> Tensor:
        gates = rules.draw(parameters.double(), uniform(), next(finished) / steps).float().to(model.device)
        total = losses(model, batch, labels[batch.rows], gates=gates).mean()
        if rules.penalty is not None:
            total = total + rules.penalty(parameters.double()).float().to(model.device)
        return total

    def after(step: int) -> None:
        if rules.revise is not None:
            with torch.no_grad():
                rules.revise(parameters, step, uniform())

    devices = []
    if model.device.type == "cuda":
        devices.append(model.device)
    # Dropout and the loader draw from the global generator, which is left as it was.
    with torch.random.fork_rng(devices):
        optimise(
            trained,
            model,
            Objective(texts.inputs, loss, groups=groups, steps=steps),
            schedule=Schedule(batch=BATCH, clip=CLIP, weight_decay=0.0, warmup=0.0),
            seed=seed,
            hooks=Hooks(STAGE, progress, after=after),
        )
    return parameters.detach().double().numpy()
