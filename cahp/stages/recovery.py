"""Recovery of a pruned model: in closed form (mean ablation, refit), by fine-tuning, or by distillation."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cahp.models.bypass import WordChannels, check_bypass, check_tokens, count_unknowns
from cahp.models.cards import Site
from cahp.models.devices import check_room, float64_device
from cahp.models.head_model import Batch, HeadModel, LayerState, Projection
from cahp.models.reading import Teacher, average_outputs, hold_out, read_outputs
from cahp.models.surgery import add_bypass, copy_network, cut, find_bypass, separate
from cahp.models.training import Epoch, Hooks, Objective, Schedule, TimeIsUp, is_finite, optimise, train, until
from cahp.recoveries import QUICK, RANK, DistillEpoch, DistillReport, Recovery, RefitReport, refit_texts
from cahp.tasks.answers import Window
from cahp.tasks.texts import Item, Texts
from cahp.values import CahpError, HeadMask, Ints, Progress, silent, spread

STAGE = "refit"
#: Strength of the pull towards the old weights, relative to the mean square of a projection's inputs.
RIDGE = 0.1
#: The strengths that a refit tries.
_RIDGES = tuple(RIDGE * 10**power for power in range(4))
#: The shares of the change of the weights that a refit tries where something is read twice.
_STEPS = (1.0, 0.5, 0.25)
#: Of so many windows one is kept apart, to tell whether a feed-forward projection is better solved than not.
_CHECKED = 4
#: The projections of a layer that a refit solves where the sums inside the layer are known.
_ALL: set[Site] = {"output", "feed_out"}


class _Reached(Exception):
    """The inputs that are needed have been seen; the rest of the layer need not run."""


def solve(
    model: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Item],
    *,
    ridge: float = RIDGE,
    rank: int | None = None,
    untouched: int = 0,
    progress: Progress = silent,
) -> HeadModel:
    """The model cut to ``mask``, refitted on unlabelled ``inputs``, first layer to last, but for ``untouched`` ones.

    In each layer first the attention's output projection, then the feed-forward block's, is solved in closed form. The
    latter has many unknowns: of a language model it stays as it is where its solution on three quarters of the windows
    does not help on the others.
    ``X`` are its inputs in the pruned model (real tokens only) and a column of ones, ``W0`` its old weights, and
    ``Y = full residual + full output - pruned residual``, so that errors of lower layers are corrected too:
    ``W = W0 + (X'X + ridge m I)^-1 X' (Y - X W0)``, with ``m`` the mean square of ``X``'s channels. The intercept is
    not penalised, and left out of projections that have none. The full and the pruned model go through the layers in
    step, so no layer of the full model runs twice. Besides the hidden states of both, the inputs of one projection and
    what its outputs are added to are kept.

    Where the sums inside a layer are not known, only the attention's output projections are solved (``Y`` is the full
    output, whatever the residual is). A network that runs only as a whole runs anew for each layer.

    With a ``rank``, layers that lost heads get a bypass of that rank, see ``cahp.models.bypass``.

    Source: solving the weights that stay from a Gram matrix, with or without a ridge, is published: OSSCAR (ICML 2024),
    SlimGPT (NeurIPS 2024), ZipLM (NeurIPS 2023), GRAIL (arXiv 2602.23795) and CORP (arXiv 2602.05243), which corrects
    attention logits as well. Ours is layer by layer on the inputs of the pruned model, for any mask.

    Raises:
        OptionError: If the model cannot have a bypass of this rank.
        DataError: If there are fewer tokens than unknowns.
    """
    if rank is not None:
        check_bypass(model, rank)
    pruned = cut(model, mask)
    knows_sums = set(model.family.refits) >= _ALL
    # Then the hidden states after a layer need no other run of it.
    adds_up = knows_sums and model.family.residual == "pre" and len(model.stack) == model.layers
    stop: Site | None = None
    if not model.family.walks:
        # It runs anew for each layer, and need not run to the end.
        stop = "output"
    batches = model.batches(model.tokenize(inputs))
    if rank is not None:
        check_tokens(model, batches)
    # Both models share the inputs of the first layer.
    full = [_enter(model, batch) for batch in batches]
    behind = list(full)
    intact = 0
    if model.family.walks:
        # Before the first layer that lost heads, both models are the same.
        intact = int(np.argmin(np.append(mask.keep.all(axis=1), False)))
    total = (1 + knows_sums) * model.layers * len(batches)
    done = 0

    def tick() -> None:
        nonlocal done
        progress(STAGE, done, total)
        done += 1

    for layer in range(model.layers):
        if layer < intact:
            full = [model.step(state) for state in full]
            behind = list(full)
            done += (1 + knows_sums) * len(batches)
            progress(STAGE, done, total)
            continue
        words: WordChannels | None = None
        if rank is not None and not mask.keep[layer].all():
            words = WordChannels(model, layer)
        equations = _Equations(pruned, layer, "output", words)
        sums: list[Tensor] = []
        for index, batch in enumerate(batches):
            tick()
            before = full[index]
            seen, full[index] = _run_layer(model, batch, before, layer, until=stop)
            wanted = model.projection(layer).module(seen["output"])
            if knows_sums:
                wanted = before.hidden + wanted - behind[index].hidden
                # Without another norm after them, the sums are the hidden states after the layer.
                whole = full[index].hidden
                if not adds_up:
                    feeding = model.projection(layer, "feed_out").module(seen["feed_out"])
                    whole = _find_residual(model, before, seen, layer) + feeding
                sums.append(whole)
            seen, _ = _run_layer(pruned, batch, behind[index], layer, until="output")
            equations.add(seen, wanted, before.real)
        if layer >= untouched:
            equations.solve(ridge, rank)
        if knows_sums:
            equations = _Equations(pruned, layer, "feed_out", checks=isinstance(inputs[0], Window))
        fed: list[tuple[Tensor, Tensor]] = []
        for batch, state, whole in zip(batches, behind, sums, strict=False):
            tick()
            seen, _ = _run_layer(pruned, batch, state, layer, until="feed_out")
            residual = _find_residual(pruned, state, seen, layer)
            equations.add(seen, whole - residual, state.real)
            if adds_up:
                fed.append((residual, seen["feed_out"]))
        if knows_sums and layer >= untouched:
            equations.solve(ridge)
        if not model.family.walks or layer + 1 == model.layers:
            continue
        if adds_up:
            feed = pruned.projection(layer, "feed_out").module
            behind = [
                replace(state, layer=layer + 1, hidden=residual + feed(entering))
                for state, (residual, entering) in zip(behind, fed, strict=True)
            ]
        else:
            behind = [pruned.step(state) for state in behind]
    progress(STAGE, total, total)
    return pruned


def _enter(model: HeadModel, batch: Batch) -> LayerState:
    """The state of a batch before the first layer; of a network that runs only as a whole, without hidden states."""
    if model.family.walks:
        return model.enter(batch)
    return LayerState(0, torch.empty(0), batch.real, ())


def _run_layer(
    model: HeadModel, batch: Batch, state: LayerState, layer: int, *, until: Site | None = None
) -> tuple[dict[Site, Tensor], LayerState]:
    """The inputs of a layer's projections (up to ``until``, where the layer stops), and the state after the layer."""
    seen: dict[Site, Tensor] = {}
    walks = model.family.walks

    def watch(site: Site, at: int, entering: Tensor) -> None:
        if not walks and at != layer:
            return
        if site == "attention":
            seen[site] = entering
            return
        # One family concatenates the tokens of all texts in its feed-forward block.
        seen[site] = entering.reshape(*state.real.shape, entering.shape[-1])
        if site == until:
            raise _Reached

    after = state
    with suppress(_Reached):
        if walks:
            after = model.step(state, tap=watch)
        else:
            model.logits(batch, tap=watch)
    return seen, after


def _find_residual(model: HeadModel, state: LayerState, seen: Mapping[Site, Tensor], layer: int) -> Tensor:
    """What the output of a layer's feed-forward block is added to."""
    if model.family.residual == "pre":
        return torch.add(state.hidden, model.projection(layer).module(seen["output"]))
    return seen["feed_in"]


class _Equations:
    """Normal equations, in float64, of one projection of a pruned model, with a bypass beside it if it has ``words``.

    The unknowns are those of the projection's channels, of the words, and an intercept. With ``checks``, every fourth
    window is kept apart, and the solution of the others must be nearer to what is wanted there than the old weights.
    """

    def __init__(
        self, pruned: HeadModel, layer: int, site: Site, words: WordChannels | None = None, *, checks: bool = False
    ) -> None:
        self._pruned = pruned
        self._layer = layer
        self._site = site
        self._projection = pruned.projection(layer, site)
        self._words = words
        out, self._channels = self._projection.weight.shape
        #: The places of the words.
        self._beside = slice(self._channels, self._channels)
        if words is not None:
            self._beside = slice(self._channels, self._channels + words.width)
        width = self._beside.stop + (self._projection.bias is not None)
        self._where = float64_device(pruned.device)
        self._texts = 0
        #: ``X'X`` and ``X'Y`` of the texts, and of those that are kept apart.
        self._grams = torch.zeros(1 + checks, width, width, dtype=torch.float64, device=self._where)
        self._crosses = self._grams.new_zeros(1 + checks, width, out)

    def add(self, seen: Mapping[Site, Tensor], target: Tensor, real: Tensor) -> None:
        if not self._grams.shape[1]:
            # Neither heads nor an intercept are left.
            return
        parts = [real]
        if len(self._grams) > 1:
            numbers = self._texts + torch.arange(len(real), device=real.device)
            apart = (numbers % _CHECKED == _CHECKED - 1)[:, None]
            parts = [real & ~apart, real & apart]
            self._texts += len(real)
        for gram, cross, part in zip(self._grams, self._crosses, parts, strict=True):
            design = _list_inputs(seen, self._site, part, self._words, gram)
            wanted = target[part].to(self._where).double()
            if self._projection.bias is None:
                # An intercept follows from small differences of these sums; without one, a batch's need no more digits.
                design = design.float()
                wanted = wanted.float()
            gram += design.T @ design
            cross += design.T @ wanted

    def solve(self, ridge: float, rank: int | None = None) -> None:
        gram = self._grams.sum(0)
        if not len(gram):
            return
        before = _stack(self._projection, self._where)
        if self._words is not None and rank is not None:
            cross = self._crosses.sum(0)
            solved, down, up = solve_beside(gram, cross, before, self._beside, ridge=ridge, rank=rank)
            _replace(self._projection, solved)
            add_bypass(self._pruned, self._layer, self._words.merge(down), up.float())
            return
        residuals = self._crosses - self._grams @ before
        if len(residuals) > 1:
            # Whether the solution of the other windows is nearer to what is wanted on those that are kept apart.
            change = solve_change(self._grams[0], residuals[0], self._channels, ridge)
            # The squared error after the change, less that before; not `> 0`, since NaN is no help either.
            if not (change * (self._grams[1] @ change - 2 * residuals[1])).sum() <= 0:
                return
        _replace(self._projection, before + solve_change(gram, residuals.sum(0), self._channels, ridge))


def _list_inputs(
    seen: Mapping[Site, Tensor], site: Site, real: Tensor, words: WordChannels | None, gram: Tensor
) -> Tensor:
    """The inputs of a projection at real tokens, one row each, as wide as their ``gram``.

    They are those of its channels, then of the ``words``, and ones for an intercept.
    """
    parts = [seen[site][real]]
    if words is not None:
        parts.append(words.read(seen["attention"], real)[real])
    inputs = torch.cat(parts, dim=1).to(gram.device).double()
    return nn.functional.pad(inputs, (0, len(gram) - inputs.shape[1]), value=1.0)


def _stack(projection: Projection, where: torch.device) -> Tensor:
    """The weights of a projection and its intercept, if it has one, as float64 ``(in or in + 1, out)``."""
    parts = [projection.weight.T]
    if projection.bias is not None:
        parts.append(projection.bias[None])
    return torch.cat([part.to(where).double() for part in parts])


def _replace(projection: Projection, solved: Tensor) -> None:
    """Replace the weights of a projection, and its intercept if ``solved`` has a row beyond those of its channels."""
    device = projection.weight.device
    channels = projection.weight.shape[1]
    bias = projection.bias
    if len(solved) > channels:
        bias = solved[-1].float().to(device)
    projection.replace(solved[:channels].T.float().to(device), bias)


def solve_change(gram: Tensor, residual: Tensor, channels: int, ridge: float) -> Tensor:
    """``(G + ridge m I)^-1 R`` with ``m`` the mean square of the ``channels``; an intercept after them has no ridge."""
    penalty = torch.zeros_like(gram.diagonal())
    penalty[:channels] = ridge * float(gram.diagonal()[:channels].sum()) / max(1, channels)
    return torch.cholesky_solve(residual, torch.linalg.cholesky(gram + penalty.diag()))


def _raise_zeros(penalty: Tensor) -> Tensor:
    """Return penalties of channels, relative to their own squares; where a channel is always 0, any ridge will do."""
    return penalty.clamp(min=1e-6 * float(penalty.mean()))


def solve_beside(
    gram: Tensor, cross: Tensor, before: Tensor, words: slice, *, ridge: float, rank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve a projection together with what the ``words`` tell, and cut that to a ``rank``.

    ``gram (n, n)`` and ``cross (n, out)`` are the products of the inputs (channels, words, perhaps an intercept) with
    each other and with the wanted output; ``before`` are the old weights of channels and intercept. Returns their new
    weights, and ``down (rank, words)`` and ``up (out, rank)`` of the words.
    """
    own = [*range(words.start), *range(words.stop, len(gram))]
    penalty = ridge * gram.diagonal().clone()
    penalty[words] = _raise_zeros(penalty[words])
    penalty[: words.start] = penalty[: words.start].mean()
    penalty[words.stop :] = 0
    start = gram.new_zeros(len(gram), cross.shape[1])
    start[own] = before
    beside = torch.cholesky_solve(cross - gram @ start, torch.linalg.cholesky(gram + penalty.diag()))[words]
    # The directions of the output in which the words write most.
    up = torch.linalg.eigh(beside.T @ gram[words, words] @ beside).eigenvectors[:, -rank:]
    down = (beside @ up).T
    left = cross[own] - gram[own, words] @ (up @ down).T
    gram = gram[own][:, own]
    return before + solve_change(gram, left - gram @ before, words.start, ridge), down, up


def _check_memory(model: HeadModel, recovery: Recovery) -> None:
    """Check that a refit has room, for a model whose weights are not kept in float32.

    Raises:
        ModelError: If it has not.
    """
    solved = [
        model.projection(layer, site).weight.shape for layer in range(model.layers) for site in model.family.refits
    ]
    # All solutions in float32, and the equations of one projection in float64 with their factor.
    weights = sum(rows * columns for rows, columns in solved)
    widest = max(columns for _, columns in solved)
    if recovery.adds_bypass:
        widest = max(widest, count_unknowns(model))
    advice = "use --recover mean or none, or a machine with more memory"
    check_room(model.device, 4 * weights + 24 * widest**2, f"a {recovery.noun} of {model.card.id} needs", advice)


def mean_ablate(
    model: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Item],
    *,
    ridge: float | None = None,
    progress: Progress = silent,
) -> HeadModel:
    """The model cut to ``mask``, with the mean output of each dropped head added to its projection's bias.

    The means are those of the full model over the tokens of ``inputs``. A projection without a bias gets one
    where heads were dropped. There is no ``ridge``.
    """
    means, _ = average_outputs(model, model.tokenize(inputs), STAGE, progress)
    pruned = cut(model, mask)
    for layer, average in enumerate(means):
        if mask.keep[layer].all():
            continue
        weight = model.projection(layer).weight
        output = pruned.projection(layer)
        mean = average.float().to(weight.device)
        dropped = torch.as_tensor(~mask.keep[layer], device=weight.device)
        dropped = dropped.repeat_interleave(len(mean) // model.heads)
        bias = weight[:, dropped] @ mean[dropped]
        if output.bias is not None:
            bias = output.bias + bias
        output.replace(output.weight, bias)
    return pruned


#: The recoveries in closed form that held-out texts check, by their names in ``cahp.recoveries``: a function of model,
#: mask and inputs, and the strengths that are tried one after the other until the result is accepted.
CLOSED_FORMS: Mapping[str, tuple[Callable[..., HeadModel], Sequence[float | None]]] = {
    "mean": (mean_ablate, (None,)),
    "refit": (solve, _RIDGES),
    "bypass": (solve, _RIDGES),
}


def choose_inputs(inputs: Sequence[Item], *, seed: int = 42) -> list[Item]:
    """Choose the inputs of a refit, evenly spread over those that are not held out."""
    learned, _ = hold_out(inputs, seed)
    chosen = np.linspace(0, len(learned) - 1, min(refit_texts(len(inputs)), len(learned))).astype(np.int64)
    return [inputs[row] for row in learned[np.unique(chosen)]]


def refit(
    model: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Item],
    *,
    recovery: Recovery = QUICK,
    seed: int = 42,
    progress: Progress = silent,
    **options: Any,
) -> tuple[HeadModel, RefitReport]:
    """Recover the model cut to ``mask`` in closed form, and keep that only if it is nearer to ``model``.

    About a fifth of ``inputs``, drawn with the ``seed``, is held out (see ``hold_out``): the KL divergence from
    ``model`` must be lower there than that of the cut model, and no higher on what is read twice. Otherwise half of the
    change of the weights is tried, where something is read twice, then a quarter; then a refit is solved again with ten
    times the ridge, up to three times. A baseline is kept in any case. ``options`` are further ones of its function.
    """
    if model.notice is not None and recovery.at_once:
        _check_memory(model, recovery)
    learned = choose_inputs(inputs, seed=seed)
    items = [inputs[row] for row in hold_out(inputs, seed)[1]]
    plain = cut(model, mask)
    place = 0, 1

    def watch(stage: str, done: int, total: int) -> None:
        nonlocal place
        place = done, total
        progress(stage, done, total)

    # It may be stopped in a comparison too, and the progress does not go back.
    def pause(stage: str, done: int, total: int) -> None:
        progress(STAGE, *place)

    teacher = Teacher(model, items, progress=pause)
    rows = np.arange(len(items))
    before = teacher.compare(plain, rows, progress=pause)
    make, ridges = CLOSED_FORMS[recovery.name]
    steps: Sequence[float] = (1.0,)
    if before.repeats is not None and not recovery.baseline:
        steps = _STEPS
    after = before
    accepted = False
    step = steps[-1]
    for ridge in ridges:
        try:
            solved = make(model, mask, learned, ridge=ridge, progress=watch, **options)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            # Equations of inputs that hardly vary have no solution at a weak ridge.
            continue
        for step in steps:
            refitted = _move(plain, solved, step)
            after = teacher.compare(refitted, rows, progress=pause)
            accepted = recovery.baseline or after.is_better_than(before)
            if accepted:
                break
        if accepted:
            break
    reason = after.describe_change(before, recovery.noun, model.card.words.items)
    if not accepted:
        refitted = plain
        reason += ": the old weights stay"
    elif step < 1:
        reason += f" (a step of {step:g})"
    if accepted and recovery.adds_bypass:
        reason += f"; it {model.card.describe_bypass(mask, options.get('rank', RANK))}"
    report = RefitReport(
        accepted,
        reason,
        len(learned),
        ridge=ridge,
        kl_before=before.text,
        kl_after=after.text,
        recovery=recovery.name,
        step=step,
        repeats_before=before.repeats,
        repeats_after=after.repeats,
    )
    return refitted, report


def _move(plain: HeadModel, solved: HeadModel, step: float) -> HeadModel:
    """Return the cut model ``plain`` with its projections moved by a share of the way to those of ``solved``."""
    if step == 1:
        return solved
    moved = copy_network(solved)
    for layer in range(moved.layers):
        for site in moved.family.refits:
            start = plain.projection(layer, site)
            end = moved.projection(layer, site)
            bias = end.bias
            if bias is not None and start.bias is not None:
                bias = torch.lerp(start.bias, bias, step)
            end.replace(torch.lerp(start.weight, end.weight, step), bias)
        bypass = find_bypass(moved, layer)
        if bypass is not None:
            add_bypass(moved, layer, bypass.down, step * bypass.up)
    return moved


def finetune(
    start: HeadModel,
    texts: Texts,
    *,
    schedule: Schedule,
    seed: int = 42,
    hooks: Hooks = Hooks(),  # noqa: B008
) -> tuple[HeadModel, list[Epoch]]:
    """Train all weights of the pruned model ``start`` on ``texts`` (the paper's recovery); return it and its epochs.

    A fifth of the texts is held out, and the epoch with the highest accuracy there is kept.

    Raises:
        CahpError: If the training diverges.
    """
    learned, held_out = hold_out(texts.inputs, seed)
    trained = separate(start)
    history = train(
        trained,
        texts.take(learned),
        schedule=schedule,
        validation=texts.take(held_out),
        seed=seed,
        hooks=replace(hooks, stage="finetune"),
    )
    if not is_finite(trained.network):
        raise CahpError(
            "fine-tuning diverged: the weights are no longer finite numbers; lower --learning-rate, or use "
            "--recover refit"
        )
    trained.network.requires_grad_(False)
    return trained, history


# The quick refit --------------------------------------------------------------------------------------------


#: Strength of the pull towards the old weights, relative to the mean square of the kept channels.
QUICK_RIDGE = 0.01
#: Tokens that a quick bypass learns from, per unknown of an output: more cost time, and a person waits for it.
_TOKENS_PER_UNKNOWN = 8


@dataclass(frozen=True, eq=False)
class Grams:
    """Gram matrices of the inputs of each layer's output projection in the full model, over ``items`` texts or windows.

    ``products (L, D + W + 1, D + W + 1)`` float32 are means over tokens of ``x x'``, with ``x`` the context vectors of
    a layer's heads side by side, what the words tell of them in ``W`` channels, and a last channel that is always 1.
    ``readers (L, W, width)`` float32 make these of the channels of ``cahp.models.bypass.WordChannels`` (None: no
    words).
    """

    products: NDArray[np.float32]
    items: int
    readers: NDArray[np.float32] | None = None


def collect_grams(model: HeadModel, inputs: Sequence[Item], *, progress: Progress = silent) -> Grams:
    """Run the full model over ``inputs`` once, and sum up what each output projection reads."""
    width = model.projection(0).weight.shape[1] + 1
    # An intercept follows from small differences of these sums.
    sums = torch.zeros(model.layers, width, width, dtype=torch.float64, device=float64_device(model.device))

    def add(layer: int, rows: Tensor) -> None:
        design = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        sums[layer].addmm_(design.T, design)

    tokens = read_outputs(model, model.tokenize(inputs), add, "gram matrices", progress)
    return Grams((sums / max(1, tokens)).float().cpu().numpy(), len(inputs))


def collect_word_grams(model: HeadModel, inputs: Sequence[Item], *, rank: int, progress: Progress = silent) -> Grams:
    """Run the full model over ``inputs`` once, and sum up what output projections read and what the words tell of it.

    All that a linear function of words and contexts can tell of a head follows from the contexts and from what the
    words alone predict of each context. Of these predictions four times as many directions are kept as a bypass has
    (its ``rank``): those in which the outputs of single heads are largest. Where there are more tokens than it takes,
    evenly spread ``inputs`` are read.

    Raises:
        OptionError: If the model cannot have a bypass of this rank.
        DataError: If there are fewer tokens than unknowns.
    """
    check_bypass(model, rank)
    read = model.tokenize(inputs)
    tokens = check_tokens(model, model.batches(read))
    enough = math.ceil(len(read) * _TOKENS_PER_UNKNOWN * count_unknowns(model) / tokens)
    batches = model.batches([read[row] for row in spread(len(read), enough)])
    states = [_enter(model, batch) for batch in batches]
    where = float64_device(model.device)
    products = []
    readers = []
    for layer in range(model.layers):
        words = WordChannels(model, layer)
        output = model.projection(layer)
        size = output.weight.shape[1]
        gram = torch.zeros(size + words.width + 1, size + words.width + 1, dtype=torch.float64, device=where)
        for number, batch in enumerate(batches):
            progress("gram matrices", layer * len(batches) + number, model.layers * len(batches))
            seen, states[number] = _run_layer(model, batch, states[number], layer)
            design = _list_inputs(seen, "output", states[number].real, words, gram)
            gram.addmm_(design.T, design)
        # The last channel counts the tokens.
        gram = gram / gram[-1, -1]
        known = slice(size, len(gram) - (output.bias is None))
        weights = output.weight.to(where).double().view(-1, model.heads, size // model.heads)
        reader = choose_directions(gram[known, known], gram[known, :size], weights, min(4 * rank, size))
        reader = reader[: words.width].T
        # The rows of words, then the columns.
        for _ in range(2):
            gram = torch.cat([gram[:size], reader @ gram[size:-1], gram[-1:]]).T
        products.append(gram.float().cpu().numpy())
        readers.append(reader.float().cpu().numpy())
    return Grams(np.stack(products), min(enough, len(read)), np.stack(readers))


def choose_directions(
    gram: Tensor, cross: Tensor, weights: Tensor, count: int, *, ridge: float = QUICK_RIDGE
) -> Tensor:
    """Choose functions of the words ``(words, count)`` that predict contexts, those first that change outputs most.

    ``gram (words, words)`` and ``cross (words, D)`` are products of the words with each other and with the contexts,
    ``weights (out, H, D / H)`` make outputs of the contexts of each head.
    """
    penalty = _raise_zeros(ridge * gram.diagonal())
    predicted = torch.cholesky_solve(cross, torch.linalg.cholesky(gram + penalty.diag()))
    squares = torch.einsum("ohd,ohe->hde", weights, weights)
    squares += 1e-6 * squares.mean() * torch.eye(squares.shape[1]).to(squares)
    written = torch.einsum("whd,hde->whe", predicted.view(-1, *squares.shape[:2]), torch.linalg.cholesky(squares))
    written = written.flatten(1)
    return torch.mm(written, torch.linalg.eigh(written.T @ gram @ written).eigenvectors[:, -count:])


def solve_at_once(
    model: HeadModel, mask: HeadMask, grams: Grams, *, ridge: float = QUICK_RIDGE, rank: int = RANK
) -> HeadModel:
    """Return the model cut to ``mask`` whose attention outputs are solved from ``grams``; nothing is run.

    For a layer with output projection ``W`` (one row per channel), inputs ``X`` in the *full* model and ``G = X'X``,
    the kept channels ``K`` get ``W' = W_K + (G_KK + ridge m I)^-1 (G_K: W - G_KK W_K)``, with ``m`` the mean square of
    the kept channels: the nearest outputs to the full model's that they can make. An intercept counts as a kept channel
    that is not penalised. Errors of lower layers are not corrected, since the inputs are those of the full model: that
    takes ``solve``, which runs every layer again for every mask.

    Layers that keep all heads stay as they are. The others get a bypass of this ``rank`` if the ``grams`` know words.
    """
    pruned = cut(model, mask)
    where = float64_device(model.device)
    width = model.projection(0).weight.shape[1]
    for layer, keep in enumerate(mask.keep):
        output = pruned.projection(layer)
        if keep.all():
            continue
        channels = np.flatnonzero(np.repeat(keep, width // model.heads)).tolist()
        whole = _stack(model.projection(layer), where)
        products = torch.from_numpy(grams.products[layer]).to(where).double()
        words = list(range(width, len(products) - 1))
        # Of a projection with an intercept, the last channel counts.
        last = [len(products) - 1] * (len(whole) - width)
        known = channels + words + last
        if not known:
            continue
        gram = products[known][:, known]
        cross = products[known][:, [*range(width), *last]] @ whole
        kept = [*channels, *range(width, len(whole))]
        before = whole[kept]
        if grams.readers is None:
            solved = before + solve_change(gram, cross - gram @ before, len(channels), ridge)
        else:
            beside = slice(len(channels), len(channels) + len(words))
            solved, down, up = solve_beside(gram, cross, before, beside, ridge=ridge, rank=rank)
            down = down @ torch.from_numpy(grams.readers[layer]).to(down)
            add_bypass(pruned, layer, WordChannels(model, layer).merge(down), up.float())
        if output.weight.shape[1] == width:
            # Heads of this model are masked, and not cut: the projection reads all of them.
            placed = torch.zeros_like(whole)
            placed[kept] = solved
            solved = placed
        _replace(output, solved)
    return pruned


# Distillation -----------------------------------------------------------------------------------------------


#: The pass of the full model before the training.
TEACHER = "teacher"
#: Time that is left for one more batch and a score, as a multiple of what they took before.
_RESERVED = 1.25


def distill(
    model: HeadModel,
    start: HeadModel,
    inputs: Sequence[Item],
    *,
    schedule: Schedule,
    labels: Ints | None = None,
    called: str = "the refit",
    seed: int = 42,
    hooks: Hooks = Hooks(),  # noqa: B008 - frozen
) -> tuple[HeadModel, DistillReport]:
    """Train all weights of ``start``, a pruned model, but the embeddings to agree with ``model``.

    Returns the distilled model, or ``start`` if that did not help, and the report. The loss is
    ``T^2 KL(model, student)``, with ``T = 2`` for the scores of classes and ``T = 1`` for next tokens, plus the
    cross-entropy of any ``labels``. ``called`` names ``start`` in messages. Some texts are held out (see ``hold_out``).
    The training is accepted only if the KL divergence from ``model`` there is lower than that of ``start``, and no
    higher on what is read twice. Of the epochs for which that holds, the one with the lowest divergence is kept. With
    seconds left by the ``hooks`` it has as many batches as fit.
    """
    learned, held_out = hold_out(inputs, seed)
    student = separate(start)
    # Most words do not occur in the few texts.
    student.network.get_input_embeddings().requires_grad_(False)
    bounded = until(hooks.progress, hooks.left)
    report = DistillReport(
        False, f"no time was left for it: {called} stays", len(learned), labels is not None, len(held_out)
    )
    left = hooks.left or perf_counter
    try:
        teacher = Teacher(model, inputs, stage=TEACHER, progress=bounded)
        ready = left()
        first = teacher.compare(student, held_out, progress=bounded)
        scoring = abs(ready - left())
    except TimeIsUp:
        return start, report

    def score(pause: Callable[[], None]) -> tuple[float, ...]:
        now = teacher.compare(student, held_out, progress=lambda *_: pause())
        return float(now.is_better_than(first)), -now.text, now.agreement

    def loss(batch: Batch) -> Tensor:
        numbers = learned[batch.rows]
        known = None
        if labels is not None:
            known = torch.as_tensor(labels[numbers], device=model.device)
        return teacher.loss(student, batch, numbers, labels=known)

    # A pass back takes twice as long as one forward, and the machine may become busier.
    batch = 3 * scoring * schedule.batch / len(held_out)
    training = optimise(
        student.network,
        student,
        Objective([inputs[row] for row in learned], loss, score),
        schedule=schedule,
        seed=seed,
        hooks=replace(hooks, stage="distill", reserve=_RESERVED * (2 * scoring + batch)),
    )
    last = first
    whole = schedule.epochs * math.ceil(len(learned) / schedule.batch)
    if not training.epochs:
        reason = "no time was left for it"
    elif not is_finite(student.network):
        reason = "its weights are no longer finite numbers (a lower --learning-rate may help)"
    else:
        last = teacher.compare(student, held_out)
        reason = last.describe_change(first, "it", model.card.words.items)
        if training.step < whole:
            reason += f" (time allowed {schedule.epochs * training.step / whole:.1f} of {schedule.epochs} epochs)"
    accepted = last.is_better_than(first)
    student.network.requires_grad_(False)
    made = student
    if not accepted:
        reason += f": {called} stays"
        made = start
    return made, replace(
        report,
        accepted=accepted,
        reason=reason,
        agreement_before=first.agreement,
        held_out_agreement=last.agreement,
        epochs=tuple(DistillEpoch(epoch.epoch, epoch.loss, epoch.accuracy or 0.0) for epoch in training.epochs),
        kl_before=first.text,
        kl_after=last.text,
        repeats_before=first.repeats,
        repeats_after=last.repeats,
    )
