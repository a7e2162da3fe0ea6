"""What a head's output is made of, and what its removal costs with something else in its place.

The output of a head is what its context vector ``c`` adds to the residual stream, ``W c``. It is predicted by ridge
regressions, from nothing to all that is known of the token: the mean; the words, which are what enters the attention at
the token, at the one before (and after it, where attention sees both sides), and running means of these (see
``cahp.models.compact.mix_words``); the context vectors of the other heads of its layer; and both. All are solved on one
Gram matrix of a layer over texts to learn from, without their means. The ridge is that of a refit: of context vectors
relative to their mean variance, of each channel of the words relative to its own. What is left of the output, and the
cost of removing the head with the prediction in its place, are measured on other texts.

Source of the parts: commonality analysis (Mood 1969; Nimon and Oswald 2013). The words as regressors are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cahp.models.bypass import WordChannels
from cahp.models.cards import Site
from cahp.models.devices import check_room, float64_device
from cahp.models.head_model import Batch, HeadModel
from cahp.models.reading import Reader
from cahp.models.surgery import tail
from cahp.tasks.texts import Item, Texts
from cahp.values import Floats, Ints, OptionError, Precision, Progress, silent

STAGE = "anatomy"
#: Added to the diagonal of a Gram matrix, relative to it: as a refit's.
RIDGE = 0.1
#: What predicts the output of a head: nothing, its mean, the token itself, this with its neighbours, these with running
#: means, the other heads of the layer, and all words with these heads.
PREDICTORS = ("zero", "mean", "token", "neighbours", "words", "heads", "both")
#: The predictors that take the place of a removed head.
REPLACEMENTS = ("zero", "mean", "words", "both")


class _LayerSeen(Exception):
    """What is needed of a layer has been seen; the rest of the network need not run."""


@dataclass(frozen=True, eq=False)
class Dissection:
    """What is left of the output of each head, and what its removal costs.

    ``energies`` are, for each of ``PREDICTORS``, the sums ``(L, H)`` over all tokens and channels of the squared output
    that it leaves; ``divergences``, for each of ``REPLACEMENTS`` in the place of the head, the KL divergences
    ``(L, H, n)`` of each prediction from the full model's, in nats. ``units (n,)`` are the independent units that
    predictions belong to (None: each is one), ``learned`` and ``held_out`` the numbers of tokens.
    """

    energies: Mapping[str, NDArray[np.float64]]
    divergences: Mapping[str, NDArray[np.float64]]
    units: Ints | None
    learned: int
    held_out: int


def dissect(
    model: HeadModel,
    inputs: Sequence[Item],
    held_out: Texts,
    *,
    ridge: float = RIDGE,
    precision: Precision = "float32",
    progress: Progress = silent,
) -> Dissection:
    """Take the output of each head apart: regressions are learned on ``inputs`` and measured on ``held_out`` texts.

    The full model goes through the layers once. A removal runs only the layers from that of the head on, unless the
    model cannot be divided.

    Raises:
        OptionError: If what enters the attention of the model is not known.
        ModelError: If the device has no room for the Gram matrix of a layer.
    """
    learning, holding = (model.batches(model.tokenize(some)) for some in (inputs, held_out.inputs))
    reader = Reader(held_out, full=model, precision=precision)
    full = reader.evaluate(holding, lambda _, batch: reader.read(model, batch))
    scores = np.empty_like(full.scores)
    energies = np.zeros((len(PREDICTORS), model.layers, model.heads))
    divergences = np.zeros((len(REPLACEMENTS), model.layers, model.heads, len(full.divergences(full))))
    learning_states: list[Tensor | None] = [None] * len(learning)
    states: list[Tensor | None] = [None] * len(holding)
    steps = len(learning) + len(holding) * (1 + model.heads * len(REPLACEMENTS))
    done = 0

    def tick() -> None:
        nonlocal done
        progress(STAGE, done, steps * model.layers)
        done += 1

    for layer in range(model.layers):
        rest = model
        if layer:
            rest = tail(model, layer) or model
        equations = _LayerRegressions(model, layer)
        for number, batch in enumerate(learning):
            tick()
            design, after = _read_layer(rest, equations, batch, learning_states[number], precision)
            equations.add(design[batch.real])
            if model.has_tails:
                learning_states[number] = after
        equations.solve(ridge)
        replaced: list[list[Tensor]] = []
        following = list(states)
        for number, batch in enumerate(holding):
            tick()
            design, after = _read_layer(rest, equations, batch, states[number], precision)
            predictions = equations.predict(design)
            real = batch.real
            energies[:, layer] += equations.measure_energies(design[real], predictions[:, real])
            chosen = [PREDICTORS.index(name) for name in REPLACEMENTS]
            replaced.append([one.float().to(model.device) for one in predictions[chosen]])
            if model.has_tails:
                following[number] = after
        for head in range(model.heads):
            keep = np.ones((model.layers, model.heads))
            keep[layer, head] = 0
            gates = model.gates(keep)
            for place in range(len(REPLACEMENTS)):
                for number, batch in enumerate(holding):
                    tick()
                    fill: list[Tensor | float] = [0.0] * model.layers
                    fill[layer] = replaced[number][place]
                    call = {"gates": gates, "fill": fill, "start": states[number]}
                    scores[batch.rows] = reader.read(rest, batch, **call).cpu().numpy()
                divergences[place, layer, head] = held_out.evaluation_of(scores).divergences(full)
        states = following
    progress(STAGE, done, done)
    counts = [sum(batch.tokens for batch in some) for some in (learning, holding)]
    return Dissection(
        dict(zip(PREDICTORS, energies, strict=True)),
        dict(zip(REPLACEMENTS, divergences, strict=True)),
        full.units,
        *counts,
    )


def _read_layer(
    rest: HeadModel, equations: _LayerRegressions, batch: Batch, start: Tensor | None, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Run a model up to a layer, where it begins with the states ``start`` (None: it begins with the tokens).

    Returns the regressors ``(b, n, width)``, and the states that leave the layer.
    """
    seen: dict[Site, Tensor] = {}
    left: list[Tensor] = []

    def watch(site: Site, layer: int, entering: Tensor) -> None:
        if layer == equations.layer:
            seen[site] = entering

    def leave(hidden: Tensor) -> None:
        if "output" in seen:
            left.append(hidden)
            raise _LayerSeen

    with torch.no_grad(), suppress(_LayerSeen):
        rest.logits(batch, start=start, tap=watch, leaving=leave, precision=precision)
    if "attention" not in seen:
        raise OptionError(f"the states that enter the attention of {rest.card.id} are not known; choose another model")
    real = batch.real
    return equations.read(seen["attention"], seen["output"].reshape(*real.shape, -1), real), left[0]


class _LayerRegressions:
    """The regressions of one layer: the context vectors of each head on the words and on those of the other heads."""

    def __init__(self, model: HeadModel, layer: int) -> None:
        self.layer = layer
        self._words = WordChannels(model, layer)
        weight = model.projection(layer).weight
        self._channels = weight.shape[1]
        self._heads = model.heads
        self._where = float64_device(model.device)
        by_head = weight.to(self._where).double().reshape(len(weight), model.heads, -1)
        #: What a head's context vector writes: its squared length is that of the vector in this metric, ``(H, d, d)``.
        self._metric = torch.einsum("ohd,ohe->hde", by_head, by_head)
        width = self._channels + self._words.width
        purpose = f"the regressions of {model.card.id} need"
        check_room(self._where, 40 * width**2, purpose, "use a machine with more memory")
        #: The products of all regressors and a constant: the diagonal and the values below.
        self._gram = torch.zeros(width + 1, width + 1, dtype=torch.float64, device=self._where)
        self._mean = self._gram[-1, :-1]
        self._weights = self._gram.new_zeros(0)

    def read(self, hidden: Tensor, contexts: Tensor, real: Tensor) -> Tensor:
        """Return the regressors ``(b, n, width)``: context vectors, then words."""
        return torch.cat([contexts, self._words.read(hidden, real)], dim=-1).to(self._where).double()

    def add(self, design: Tensor) -> None:
        """Add the products of regressors ``(n, width)``."""
        design = torch.cat([design, design.new_ones(len(design), 1)], dim=1)
        self._gram.addmm_(design.T, design)

    def solve(self, ridge: float) -> None:
        """Solve the regressions of all context vectors on each of ``PREDICTORS``."""
        count = self._gram[-1, -1]
        self._mean = self._gram[-1, :-1] / count
        gram = self._gram[:-1, :-1] - count * torch.outer(self._mean, self._mean)
        channels = self._channels
        penalty = ridge * gram.diagonal()
        penalty[:channels] = penalty[:channels].mean()
        # Where a channel is constant, any ridge will do.
        penalty = penalty.clamp(min=1e-6 * float(penalty.mean()) or 1.0)
        every = torch.arange(len(gram), device=self._where)
        weights = gram.new_zeros(len(PREDICTORS), len(gram), channels)

        def regress(name: str, regressors: Tensor, targets: Tensor) -> None:
            known = gram[regressors][:, regressors] + penalty[regressors].diag()
            solved = torch.cholesky_solve(gram[regressors][:, targets], torch.linalg.cholesky(known))
            weights[PREDICTORS.index(name)][regressors[:, None], targets] = solved

        ends = np.cumsum(self._words.widths) + channels
        for name, end in (("token", ends[0]), ("neighbours", ends[self._words.alone - 1]), ("words", ends[-1])):
            regress(name, every[channels:end], every[:channels])
        for targets in every[:channels].chunk(self._heads):
            others = every[~torch.isin(every, targets)]
            regress("heads", others[others < channels], targets)
            regress("both", others, targets)
        self._weights = weights

    def predict(self, design: Tensor) -> Tensor:
        """Return the context vectors ``(7, b, n, channels)`` by each of ``PREDICTORS``."""
        predictions = (design - self._mean) @ self._weights[:, None] + self._mean[: self._channels]
        predictions[0] = 0
        return predictions

    def measure_energies(self, design: Tensor, predictions: Tensor) -> Floats:
        """Return the squared output of each head ``(7, H)`` that predictions ``(7, n, channels)`` leave, summed."""
        left = design[:, : self._channels] - predictions
        left = left.reshape(*left.shape[:2], self._heads, -1)
        moments = torch.einsum("pnhd,pnhe->phde", left, left)
        return np.asarray((moments * self._metric).sum((2, 3)).cpu())
