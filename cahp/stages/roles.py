"""Measure the roles of heads without labels or data: on repeated random tokens, and on questions about short texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.values import Bools, Estimate, Ints, ModelError, Progress, report_progress, silent
from cahp.values.head_roles import ROLES, HeadRoles, Loss, RoleAblation, find_targets, score_sequence, summarise

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

STAGE = "roles"
ABLATION = "ablation"

#: Sequences of random tokens, and the shortest and longest part that is repeated: lengths differ, so that a head which
#: attends to a fixed distance finds no copies.
_SEQUENCES = 16
_SHORTEST = 16
_LONGEST = 28
#: Fewer different tokens are no random sequence.
_FEWEST = 4
#: Number of texts with questions.
_TEXTS = 8
_FILLER = (
    "The road along the river is quiet in the morning.",
    "A light wind moves the leaves of the old trees.",
    "Some people walk slowly and talk about the day.",
    "It rained last night, and the stones are still wet.",
    "Nobody is in a hurry, since it is a holiday.",
)
#: What is hidden in the filler, how it is asked for in other words, and what it may be.
_NEEDLES = (
    ("Anna lives in {}.", "The home of Anna is the city of", "Paris London Berlin Rome Madrid Tokyo Boston Chicago"),
    ("Peter has a {} car.", "The colour of Peter's car is", "red blue green white black yellow brown grey"),
    ("Maria plays the {}.", "The instrument of Maria is the", "piano guitar violin drums flute organ trumpet harp"),
    ("Thomas keeps a {} in the garden.", "The animal of Thomas is a", "horse dog cat goat cow pig rabbit sheep"),
)


#: Draws of random heads against which the heads of a role are removed.
_DRAWS = 10
#: Sequences of random tokens without the heads of a role, since each draw takes a pass of all.
_ABLATED = 8


@dataclass(frozen=True, eq=False)
class Probe:
    """Token ``ids (S,)`` in which some next tokens can be known: those after the positions ``asked (Q,)``.

    ``answers (Q, K)`` are the positions of the answers to all questions of a text, the query's own first (None: these
    are repeated random tokens).
    """

    ids: NDArray[np.int64]
    asked: NDArray[np.int64]
    answers: NDArray[np.int64] | None = None


def measure_roles(model: HeadModel, *, progress: Progress = silent) -> HeadRoles:
    """Measure the roles of all heads of the unpruned ``model``; progress counts sequences.

    Raises:
        ModelError: If it has too few different tokens, or reads too few at once.
    """
    from cahp.models.loading import special_ids

    special = np.array(sorted(special_ids(model.tokenizer)), dtype=np.int64)
    copies = draw_copies(model)
    norms = _Norms(model)
    by_role = [find_targets(probe.ids, special) for probe in copies]
    texts = ask_questions(model)
    total = len(copies)
    if not isinstance(texts, str):
        total += len(texts)
    targets = [list(found.values()) for found in by_role]
    scores, causal = _score(model, copies, targets, tap=norms.add, progress=_part(progress, 0, total))
    measured: dict[str, NDArray[np.float64]] = {}
    queries: dict[str, int] = {}
    for place, name in enumerate(by_role[0]):
        measured[name] = scores[:, :, place]
        queries[name] = sum(int(found[name].any(axis=1).sum()) for found in by_role)
    unmeasured: dict[str, str] = {}
    if not causal:
        unmeasured = {role.name: "attention is not causal" for role in ROLES.values() if role.causal}
    elif isinstance(texts, str):
        unmeasured = {"retrieval": texts}
    else:
        targets = []
        candidates = []
        for probe in texts:
            own, every = _mark_answers(probe)
            targets.append([own])
            candidates.append(every)
        scores, _ = _score(model, texts, targets, candidates, progress=_part(progress, len(copies), total))
        measured["retrieval"] = scores[:, :, 0]
        queries["retrieval"] = sum(len(probe.asked) for probe in texts)
    measured = {name: measured[name] for name in ROLES if name in measured and name not in unmeasured}
    tests = len(measured) * scores.shape[1]
    own_norms, unit_norms = norms.relative
    return HeadRoles(
        model.layers,
        model.heads,
        model.card.group,
        {name: summarise(one, queries[name], tests) for name, one in measured.items()},
        unmeasured,
        own_norms,
        unit_norms,
    )


def _part(progress: Progress, before: int, total: int) -> Progress:
    """Report a part of ``total`` sequences, after those ``before`` it."""
    return lambda stage, done, _: progress(stage, before + done, total)


def _mark_answers(probe: Probe) -> tuple[Bools, Bools]:
    """The answer to each question of a text, and the answers to all, as targets ``(S, S)``."""
    assert probe.answers is not None
    own = np.zeros((len(probe.ids), len(probe.ids)), dtype=np.bool_)
    every = own.copy()
    own[probe.asked, probe.answers[:, 0]] = True
    every[probe.asked[:, None], probe.answers] = True
    return own, every


def _score(
    model: HeadModel,
    probes: Sequence[Probe],
    targets: Sequence[Sequence[Bools]],
    candidates: Sequence[Bools] | None = None,
    *,
    tap: Callable[..., None] | None = None,
    progress: Progress,
) -> tuple[NDArray[np.float64], bool]:
    """Score the attention of all query heads on each probe, ``(T, N, R, 4)``; also tell whether attention is causal."""
    import torch

    group = model.card.group
    heads = model.heads * group
    scores: list[list[Any]] = [[None] * model.layers for _ in probes]
    causal = True
    with torch.inference_mode():
        for batch in report_progress(_batches(model, probes), STAGE, progress):

            def see(layer: int, weights: Tensor, rows: Ints = batch.rows) -> Tensor:
                nonlocal causal
                causal = causal and not bool(weights.triu(1).any())
                maps = weights.float().cpu().numpy()
                for row, seen in zip(rows, maps.repeat(heads // maps.shape[1], axis=1), strict=True):
                    size = len(probes[row].ids)
                    among = None
                    if candidates is not None:
                        among = candidates[row]
                    scores[row][layer] = score_sequence(seen[:, :size, :size], targets[row], among)
                return weights

            options: dict[str, Any] = {"states": model.card.language == "causal"}
            if tap is not None:
                options["tap"] = partial(tap, batch)
            # A probe of key-value groups gets the means of their query heads, and an edit each of them.
            if group > 1 and model.family.edits:
                options["edit"] = see
            else:
                options["probe"] = see
            model.logits(batch, **options)
    return np.array([np.concatenate(rows) for rows in scores]), causal


class _Norms:
    """Sums over tokens of the norms of what query heads and units add to the output of their layer."""

    def __init__(self, model: HeadModel) -> None:
        self._model = model
        self._sums = [np.zeros((model.layers, model.heads * part)) for part in (model.card.group, 1)]
        self._grams: dict[tuple[int, int], Tensor] = {}

    def add(self, batch: Batch, site: str, layer: int, entering: Tensor) -> None:
        """Add the tokens of a batch, given the context vectors that enter the output projection."""
        import torch

        if site != "output":
            return
        real = batch.tensors["attention_mask"].bool()
        contexts = entering.reshape(*real.shape, -1)[real].float()
        for sums in self._sums:
            parts = sums.shape[1]
            if (layer, parts) not in self._grams:
                weight = self._model.projection(layer).weight.float()
                weights = weight.reshape(len(weight), parts, -1)
                self._grams[layer, parts] = torch.einsum("onc,ond->ncd", weights, weights)
            own = contexts.reshape(len(contexts), parts, -1)
            squares = torch.einsum("tnc,ncd,tnd->tn", own, self._grams[layer, parts], own)
            sums[layer] += squares.clamp_min(0).sqrt().sum(0).cpu().numpy()

    @property
    def relative(self) -> tuple[tuple[float, ...], ...]:
        """The norms of query heads and of units, relative to the mean of their layer."""
        relative: list[tuple[float, ...]] = []
        for sums in self._sums:
            norms = sums / np.maximum(sums.mean(axis=1, keepdims=True), 1e-30)
            relative.append(tuple(norms.ravel().round(4).tolist()))
        return tuple(relative)


# Sequences -------------------------------------------------------------------------------------------------------


def draw_copies(model: HeadModel) -> list[Probe]:
    """Draw sequences of different random tokens, each repeated once, between the special tokens of a text.

    Raises:
        ModelError: If the model has too few different tokens, or reads too few at once.
    """
    from cahp.models.loading import usual_ids

    before, after = _frame(model)
    usual = usual_ids(model.tokenizer)
    usual = usual[usual < _rows(model)]
    longest = min(_LONGEST, len(usual), (model.longest_context - len(before) - len(after)) // 2)
    if longest < _FEWEST:
        raise ModelError(
            f"{model.card.id} has {len(usual):,} different tokens and reads {model.longest_context:,} at once, too few "
            f"to measure roles; name a model with {_FEWEST} tokens that reads {2 * _FEWEST + 2}"
        )
    random = np.random.default_rng(0)
    probes: list[Probe] = []
    for _ in range(_SEQUENCES):
        size = int(random.integers(max(_FEWEST, longest * _SHORTEST // _LONGEST), longest + 1))
        half = random.choice(usual, size, replace=False)
        # The first token of the copy cannot be known.
        asked = len(before) + size + np.arange(size - 1)
        probes.append(Probe(np.concatenate([before, half, half, after]).astype(np.int64), asked))
    return probes


def ask_questions(model: HeadModel) -> list[Probe] | str:
    """Hide facts in filler text and ask for each of them after it; or return the reason why there are no such texts."""
    tokenizer = model.tokenizer
    if model.card.language != "causal":
        return "it is not a causal language model"
    if not tokenizer.is_fast:
        return "its tokenizer does not tell where its tokens lie"
    before, _ = _frame(model)
    random = np.random.default_rng(0)
    probes: list[Probe] = []
    for _ in range(_TEXTS):
        text, hidden, spots, order = _write_questions(random)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = np.array([*before, *encoded["input_ids"]])
        ends = np.array(encoded["offset_mapping"])[:, 1]
        hidden_at = len(before) + np.searchsorted(ends, hidden, side="right")
        asked_at = len(before) + np.searchsorted(ends, spots, side="right")
        # An unknown word may have no token at all.
        padded = np.append(ids, -1)
        known = padded[np.minimum(hidden_at, len(ids))]
        answered = padded[np.minimum(asked_at, len(ids))]
        same = np.array_equal(known[order], answered)
        if not same or len(np.unique(known)) < len(known) or ids.max() >= _rows(model):
            return "its tokenizer does not know the words of the questions"
        if len(ids) > model.longest_context:
            return f"it reads {model.longest_context:,} tokens at once, fewer than the questions have"
        others = [np.roll(hidden_at, -number) for number in order]
        probes.append(Probe(ids, asked_at - 1, np.array(others)))
    return probes


def _write_questions(random: np.random.Generator) -> tuple[str, list[int], list[int], Ints]:
    """Write a text that hides facts, and questions about them with their answers.

    Returns the text, the places of the hidden words, those of the answers, and the fact of each answer.
    """
    text_facts: list[str] = []
    words: list[str] = []
    for fact, _, choices in _NEEDLES:
        words.append(str(random.choice(choices.split())))
        text_facts.append(fact.format(words[-1]))
    sentences = [*_FILLER, *text_facts]
    text = " ".join(sentences[place] for place in random.permutation(len(sentences)))
    hidden = [text.index(written) + fact.index("{") for written, (fact, _, _) in zip(text_facts, _NEEDLES, strict=True)]
    order = random.permutation(len(words))
    answers: list[int] = []
    for number in order:
        _, question, _ = _NEEDLES[number]
        text += f"\n{question} "
        answers.append(len(text))
        text += f"{words[number]}."
    return text, hidden, answers, order


def _rows(model: HeadModel) -> int:
    """Number of tokens that the model knows."""
    return int(model.network.get_input_embeddings().num_embeddings)


def _frame(model: HeadModel) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    from cahp.models.loading import start_id

    if model.card.language == "causal":
        start = start_id(model.tokenizer)
        # A tokenizer may have a token that the model was never given.
        if start is None or start >= _rows(model):
            return [], []
        return [start], []
    encoded = model.tokenizer("a", return_special_tokens_mask=True)
    ids = encoded["input_ids"]
    special = np.array(encoded["special_tokens_mask"], dtype=np.bool_)
    if special.all():
        return ids, []
    first = int(np.argmin(special))
    last = len(ids) - int(np.argmin(special[::-1]))
    return ids[:first], ids[last:]


def _batches(model: HeadModel, probes: Sequence[Probe]) -> list[Batch]:
    return model.batches(
        [{"input_ids": probe.ids.tolist(), "attention_mask": [1] * len(probe.ids)} for probe in probes]
    )


# Ablation --------------------------------------------------------------------------------------------------------


def ablate_roles(model: HeadModel, roles: HeadRoles, *, progress: Progress = silent) -> HeadRoles:
    """Add the losses without the heads of each role, against as many random heads without it.

    Progress counts sequences.

    Raises:
        ModelError: If it is not a causal language model, which alone has these losses.
    """
    if model.card.language != "causal":
        raise ModelError(
            f"{model.card.id} is not a causal language model, and only these have the losses by which ablation "
            "confirms roles; measure its roles without --ablate"
        )
    texts = ask_questions(model)
    units = model.layers * model.heads
    probes: dict[Loss, list[Probe]] = {"copying": draw_copies(model)[:_ABLATED]}
    if not isinstance(texts, str):
        probes["retrieval"] = texts
    random = np.random.default_rng(0)
    plans: list[tuple[str, Loss, Ints, list[Ints]]] = []
    for name in roles.scores:
        loss = ROLES[name].loss
        own: Ints = np.array(roles.units(name), dtype=np.int64)
        if not len(own) or loss not in probes:
            continue
        others = np.setdiff1d(np.arange(units), own)
        plans.append((name, loss, own, _draw_sets(others, len(own), random)))
    losses = sorted({loss for _, loss, _, _ in plans})
    total = sum(len(probes[loss]) * (1 + len(draws)) for _, loss, _, draws in plans)
    total += sum(len(probes[loss]) for loss in losses)
    done = 0

    def measure(loss: Loss, removed: Ints) -> NDArray[np.float64]:
        nonlocal done
        keep = np.ones(units, dtype=np.bool_)
        keep[removed] = False
        values = _losses(model, probes[loss], keep.reshape(model.layers, model.heads), _part(progress, done, total))
        done += len(probes[loss])
        return values

    nothing = np.array([], dtype=np.int64)
    full = {loss: measure(loss, nothing) for loss in losses}
    rows = []
    for name, loss, own, draws in plans:
        without = measure(loss, own) - full[loss]
        row = RoleAblation(name, loss, len(own), _mean(full[loss]), _mean(without))
        if draws:
            rises = np.array([measure(loss, removed) - full[loss] for removed in draws])
            each = rises.mean(axis=1)
            rise = rises.mean(axis=0)
            spread = float(each.min()), float(each.max())
            row = replace(row, random=_mean(rise), spread=spread, extra=_mean(without - rise), draws=len(draws))
        rows.append(row)
    progress(ABLATION, total, total)
    return replace(roles, ablations=tuple(rows))


def _draw_sets(heads: Ints, size: int, random: np.random.Generator) -> list[Ints]:
    """Draw different sets of ``size`` heads; none if there are too few heads, all if there are few sets."""
    wanted = min(_DRAWS, comb(len(heads), size))
    sets = dict[bytes, Ints]()
    while len(sets) < wanted:
        drawn = np.sort(random.choice(heads, size, replace=False))
        sets[drawn.tobytes()] = drawn
    return list(sets.values())


def _losses(model: HeadModel, probes: Sequence[Probe], keep: Bools, progress: Progress) -> NDArray[np.float64]:
    """The mean loss of each probe ``(T,)`` on the tokens that can be known, in nats per token."""
    import torch

    from cahp.models.vocabulary import read_tokens
    from cahp.tasks.answers import LOSS

    losses = np.zeros(len(probes))
    gates = model.gates(keep)
    with torch.inference_mode():
        for batch in report_progress(_batches(model, probes), ABLATION, progress):
            asked = [probes[row].asked for row in batch.rows]
            counts = [len(positions) for positions in asked]
            rows = torch.arange(len(batch)).repeat_interleave(torch.tensor(counts))
            at = torch.as_tensor(np.concatenate(asked), device=model.device)
            targets = batch.tensors["input_ids"][rows, at + 1]
            states = model.logits(batch, states=True, gates=gates)[rows, at]
            values = read_tokens(model.network, states, targets)[:, LOSS].double().cpu().numpy()
            losses[batch.rows] = np.bincount(rows.numpy(), values) / counts
    return losses


def _mean(values: NDArray[np.float64]) -> Estimate:
    """Estimate a mean over sequences; its interval is Student's t."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    mean = float(values.mean())
    return Estimate(mean, (mean - half, mean + half), len(values), "nats")
