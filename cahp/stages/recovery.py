"""Recovery of a pruned model: in closed form without training (refit), or by fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from cahp.models.devices import float64_device
from cahp.models.families import Site
from cahp.models.head_model import Batch, HeadModel, LayerState
from cahp.models.surgery import cut, separate
from cahp.models.training import Agreement, Schedule, TrainingCheckpoint, Watch, held_out_rows, logits_of, train
from cahp.models.training_state import Epoch
from cahp.recoveries import refit_texts
from cahp.values import CahpError, HeadMask, Input, OptionError, Progress, Texts, silent

STAGE = "refit"
#: Strength of the pull towards the old weights, relative to the mean square of a projection's inputs.
RIDGE = 0.1
#: The projections of a layer that a refit solves where the sums inside the layer are known.
_ALL: set[Site] = {"output", "feed_out"}


class _Reached(Exception):
    """The inputs that are needed have been seen; the rest of the layer need not run."""


@dataclass(frozen=True)
class Refit:
    """A pruned model with refitted projections, or only cut where the refit does not help (not ``accepted``)."""

    model: HeadModel
    accepted: bool
    reason: str
    examples: int


def split_held_out(texts: Texts) -> tuple[Texts, Texts]:
    """Split texts into calibration texts (four of five) and held-out texts (every fifth)."""
    learned, held_out = held_out_rows(len(texts))
    return texts.take(learned), texts.take(held_out)


class TargetActivations:
    """The activations of the full model on ``inputs`` that a refit approximates, layer by layer.

    If their ``nbytes`` (two hidden states for every token and layer) fit in ``room`` they are ``kept`` and serve many
    masks, else they serve a single mask. Not for several threads at once. Where only the attention's output is refitted
    there is nothing to keep.
    """

    def __init__(self, model: HeadModel, inputs: Sequence[Input], *, room: int = 0) -> None:
        self.model = model
        whole = set(model.family.refits) >= _ALL
        self._batches = model.batches(model.tokenize(inputs)) if whole else []
        tokens = sum(batch.tensors["attention_mask"].numel() for batch in self._batches)
        self.nbytes = 2 * 4 * model.layers * model.card.hidden * tokens
        self.kept = whole and self.nbytes <= room
        self._states: list[LayerState] = []
        self._sums: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    @cached_property
    def _start(self) -> list[LayerState]:
        return [self.model.enter(batch) for batch in self._batches]

    def begin(self) -> list[LayerState]:
        """The inputs of the first layer, which both models share, one state a batch."""
        start = self._start
        if not self._sums:
            self._states = list(start)
        if not self.kept:
            # Not needed again, and as large as the activations of a layer.
            del self._start
        return list(start)

    def at(self, layer: int, index: int) -> tuple[Tensor, Tensor]:
        """Residual plus output of a layer's attention, and of its feed-forward block, of one batch.

        To be called for the first layer first, and so on.
        """
        if (layer, index) in self._sums:
            return self._sums[layer, index]
        state, model = self._states[index], self.model
        assert state.layer == layer
        seen, self._states[index] = _run_layer(model, state)
        whole = state.hidden + model.projection(layer)(seen["output"])
        residual = seen["feed_in"] if model.family.residual == "post" else whole
        sums = whole, residual + model.projection(layer, "feed_out")(seen["feed_out"])
        if self.kept:
            self._sums[layer, index] = sums
        return sums


def solve(
    model: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Input],
    *,
    ridge: float = RIDGE,
    targets: TargetActivations | None = None,
    progress: Progress = silent,
) -> HeadModel:
    """The model cut to ``mask``, refitted on unlabelled ``inputs``, first layer to last.

    In each layer first the attention's output projection, then the feed-forward block's, is solved in closed form.
    ``X`` are its inputs in the pruned model (real tokens only) and a column of ones, ``W0`` its old weights, and
    ``Y = full residual + full output - pruned residual``, so that errors of lower layers are corrected too:
    ``W = W0 + (X'X + ridge m I)^-1 X' (Y - X W0)``, with ``m`` the mean square of ``X``'s channels. The intercept is
    not penalised, and left out of projections that have none. The full and the pruned model go through the layers in
    step, so no layer runs twice, and only three hidden states per batch are kept. ``targets`` are kept activations of
    the full model on the same inputs, for refits of many masks.

    Where the sums inside a layer are not known, only the attention's output projections are solved (``Y`` is the full
    output, whatever the residual is).

    Raises:
        OptionError: If the model's layers cannot be run one by one.
    """
    if model.card.no_refit:
        raise OptionError(f"{model.card.no_refit}; use --recover finetune or none")
    pruned = cut(model, mask)
    if not set(model.family.refits) >= _ALL:
        return _solve_outputs(model, pruned, inputs, ridge=ridge, progress=progress)
    targets = targets or TargetActivations(model, inputs)
    pruned_states = targets.begin()
    total, done = model.layers * len(pruned_states) * 3, 0

    def tick() -> None:
        nonlocal done
        progress(STAGE, done, total)
        done += 1

    for layer in range(model.layers):
        attention, feed = _Equations(pruned, layer, "output"), _Equations(pruned, layer, "feed_out")
        sums: list[Tensor] = []
        for index, behind in enumerate(pruned_states):
            tick()
            whole, full_output = targets.at(layer, index)
            sums.append(full_output)
            seen, _ = _run_layer(pruned, behind, until="output")
            attention.add(seen["output"], whole - behind.hidden, behind.real)
        attention.solve(ridge)
        for behind, whole in zip(pruned_states, sums, strict=True):
            tick()
            seen, _ = _run_layer(pruned, behind, until="feed_out")
            if model.family.residual == "post":
                residual = seen["feed_in"]
            else:
                residual = behind.hidden + pruned.projection(layer)(seen["output"])
            feed.add(seen["feed_out"], whole - residual, behind.real)
        feed.solve(ridge)
        for index, behind in enumerate(pruned_states):
            tick()
            if layer + 1 < model.layers:
                pruned_states[index] = pruned.step(behind)
    progress(STAGE, total, total)
    return pruned


def _solve_outputs(
    model: HeadModel, pruned: HeadModel, inputs: Sequence[Input], *, ridge: float, progress: Progress
) -> HeadModel:
    batches = model.batches(model.tokenize(inputs))
    walks = model.family.walks
    full = [model.enter(batch) for batch in batches] if walks else []
    behind = list(full)
    total = model.layers * len(batches)
    for layer in range(model.layers):
        equations = _Equations(pruned, layer, "output")
        for index, batch in enumerate(batches):
            progress(STAGE, layer * len(batches) + index, total)
            if walks:
                seen, full[index] = _run_layer(model, full[index])
                wanted, entering = seen["output"], _run_layer(pruned, behind[index], until="output")[0]["output"]
            else:
                wanted, entering = _entering(model, batch, layer), _entering(pruned, batch, layer)
            equations.add(entering, model.projection(layer)(wanted), batch.tensors["attention_mask"].bool())
        equations.solve(ridge)
        if walks and layer + 1 < model.layers:
            behind = [pruned.step(state) for state in behind]
    progress(STAGE, total, total)
    return pruned


def _entering(model: HeadModel, batch: Batch, layer: int) -> Tensor:
    """The inputs of a layer's output projection, in a network that runs as a whole."""
    seen: list[Tensor] = []

    def watch(site: Site, at: int, entering: Tensor) -> None:
        if (site, at) == ("output", layer):
            seen.append(entering)
            raise _Reached

    with suppress(_Reached):
        model.logits(batch, tap=watch)
    return seen[0].reshape(*batch.tensors["attention_mask"].shape, -1)


class _Equations:
    """Normal equations, in float64, of one projection of a pruned model."""

    def __init__(self, pruned: HeadModel, layer: int, site: Site) -> None:
        self._projection = pruned.projection(layer, site)
        out, self._channels = self._projection.weight.shape
        width = self._channels + (self._projection.bias is not None)
        #: ``X'X``, which is symmetric: its diagonal and the values below.
        self._where = float64_device(pruned.device)
        self._gram = torch.zeros(width, width, dtype=torch.float64, device=self._where)
        self._cross = self._gram.new_zeros(width, out)

    def add(self, entering: Tensor, target: Tensor, real: Tensor) -> None:
        wanted = target[real].to(self._where).double()
        design = wanted.new_ones(len(wanted), len(self._gram))
        design[:, : self._channels] = entering[real].to(self._where)
        self._gram = _with_gram(self._gram, design)
        self._cross.addmm_(design.T, wanted)

    def solve(self, ridge: float) -> None:
        gram, channels = self._gram.tril() + self._gram.tril(-1).T, self._channels
        penalty = torch.full_like(gram.diagonal(), ridge * float(gram.diagonal()[:channels].mean()))
        penalty[channels:] = 0.0
        device, bias = self._projection.weight.device, self._projection.bias
        weight, bias = self._projection.weight.to(self._where), None if bias is None else bias.to(self._where)
        before = weight.double().T if bias is None else torch.cat([weight.T, bias[None]]).double()
        # X'(Y - X W0), without a product for every batch.
        factor = torch.linalg.cholesky(gram + penalty.diag())
        change = torch.cholesky_solve(self._cross - gram @ before, factor)
        self._projection.replace(
            (weight.double() + change[:channels].T).float().to(device),
            None if bias is None else (bias.double() + change[-1]).float().to(device),
        )


def _with_gram(gram: Tensor, design: Tensor) -> Tensor:
    """Add ``design' design`` to ``gram``, on and below its diagonal; the values above are ignored.

    On a CPU BLAS computes only that half, in place: this product takes most of a refit's time.
    """
    if gram.device.type != "cpu":
        return gram.addmm_(design.T, design)
    from scipy.linalg.blas import dsyrk

    # Seen from Fortran both are transposed, so that nothing is copied.
    return torch.from_numpy(dsyrk(1.0, design.numpy().T, beta=1.0, c=gram.numpy().T, overwrite_c=True).T)


def _run_layer(
    model: HeadModel, state: LayerState, *, until: Site | None = None
) -> tuple[dict[Site, Tensor], LayerState]:
    """The inputs of a layer's projections (up to ``until``, where the layer stops), and the state after the layer."""
    seen: dict[Site, Tensor] = {}
    shape = state.real.shape

    def watch(site: Site, _: int, entering: Tensor) -> None:
        # One family concatenates the tokens of all texts in its feed-forward block.
        seen[site] = entering.reshape(*shape, -1)
        if site == until:
            raise _Reached

    with suppress(_Reached):
        state = model.step(state, tap=watch)
    return seen, state


def choose_inputs(inputs: Sequence[Input], calibration: int | None = None) -> list[Input]:
    """Choose the inputs of a refit, evenly spread over those that are not held out.

    ``calibration`` is their largest number (None: ``cahp.recoveries.refit_texts``).
    """
    learned, _ = held_out_rows(len(inputs))
    calibration = refit_texts(len(inputs)) if calibration is None else calibration
    spread = np.linspace(0, len(learned) - 1, min(calibration, len(learned))).astype(np.int64)
    return [inputs[row] for row in learned[np.unique(spread)]]


def refit(
    model: HeadModel,
    mask: HeadMask,
    texts: Texts,
    *,
    ridge: float = RIDGE,
    calibration: int | None = None,
    targets: TargetActivations | None = None,
    progress: Progress = silent,
) -> Refit:
    """Refit on inputs of ``texts`` (not their labels), and accept it only if it does not lower held-out accuracy.

    Its inputs are those of ``choose_inputs``. Every fifth text is held out: the refit is accepted if its accuracy there
    is at least that of the pruned model (on a tie: with no higher loss). ``targets`` are kept activations on the same
    inputs.
    """
    _, held_out = split_held_out(texts)
    inputs = choose_inputs(texts.inputs, calibration)
    solved = solve(model, mask, inputs, ridge=ridge, targets=targets, progress=progress)
    plain = cut(model, mask)
    before, after = (_answers(candidate, held_out) for candidate in (plain, solved))
    accepted = (after[0], -after[1]) >= (before[0], -before[1])
    reason = (
        f"{after[0]} of {len(held_out)} held-out texts right after refit, {before[0]} before"
        f"{'' if accepted else ': the old weights stay'}"
    )
    return Refit(solved if accepted else plain, accepted, reason, len(inputs))


def refit_unlabelled(
    model: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Input],
    *,
    calibration: int | None = None,
    progress: Progress = silent,
) -> Refit:
    """``refit`` without labels: it is accepted if the agreement with the full model on held-out texts is not lower."""
    learned = choose_inputs(inputs, calibration)
    solved = solve(model, mask, learned, progress=progress)
    plain = cut(model, mask)
    tokens = model.tokenize([inputs[row] for row in held_out_rows(len(inputs))[1]])
    wanted, *answers = (logits_of(one, tokens, stage=STAGE, progress=progress) for one in (model, plain, solved))
    before, after = (Agreement.of(one, wanted) for one in answers)
    accepted = after >= before
    reason = (
        f"{after.same} of {len(tokens)} held-out texts answered as by the full model after refit, {before.same} before"
        f"{'' if accepted else ': the old weights stay'}"
    )
    return Refit(solved if accepted else plain, accepted, reason, len(learned))


def _answers(model: HeadModel, texts: Texts) -> tuple[int, float]:
    labels = torch.as_tensor(texts.labels, device=model.device)
    right, loss = 0, 0.0
    for batch in model.batches(model.tokenize(texts.inputs)):
        logits = model.logits(batch)
        right += int((logits.argmax(-1) == labels[batch.rows]).sum())
        loss += float(nn.functional.cross_entropy(logits, labels[batch.rows], reduction="sum"))
    return right, loss / max(1, len(texts))


def finetune(
    model: HeadModel,
    mask: HeadMask,
    texts: Texts,
    *,
    schedule: Schedule = Schedule(),  # noqa: B008 - frozen
    seed: int = 42,
    progress: Progress = silent,
    watch: Watch | None = None,
    checkpoint: TrainingCheckpoint | None = None,
) -> tuple[HeadModel, list[Epoch]]:
    """Train all weights of the pruned model on ``texts`` (the paper's recovery); return it and its epochs.

    Every fifth text is held out, and the epoch with the highest accuracy there is kept. With a ``checkpoint`` an
    interrupted training is resumed; see ``cahp.models.training.optimise``.

    Raises:
        CahpError: If the training diverges.
    """
    calibration, held_out = split_held_out(texts)
    pruned = cut(model, mask)
    network = separate(pruned).network.requires_grad_(True)
    history = train(
        network,
        pruned,
        calibration,
        schedule=schedule,
        validation=held_out,
        seed=seed,
        stage="finetune",
        progress=progress,
        watch=watch,
        checkpoint=checkpoint,
    )
    if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        raise CahpError(
            "fine-tuning diverged: the weights are no longer finite numbers; lower --learning-rate, or use "
            "--recover refit"
        )
    return model.around(network), history
