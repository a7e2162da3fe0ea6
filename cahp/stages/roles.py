"""Measure the roles of heads without labels or data: on repeated random tokens, and on questions about short texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.models.tokenizing import known_tokens, start_id
from cahp.values import Bools, Estimate, Ints, ModelError, Progress, digest, holm_correction, report_progress, silent
from cahp.values.head_roles import (
    ROLES,
    HeadRoles,
    Loss,
    RoleAblation,
    find_p,
    find_targets,
    score_sequence,
    summarise,
)

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

STAGE = "roles"
ABLATION = "ablation"

#: Fewer different tokens are no random sequence.
_FEWEST = 4
#: Random sets of heads against which the heads of a role are removed: fewer could hardly reach p < 0.05.
_SETS = 199
#: Sets whose losses are kept together: an interrupted ablation goes on after them.
_KEPT_TOGETHER = 32


@dataclass(frozen=True)
class Draw:
    """What is drawn with ``seed``: ``sequences`` of random tokens, and ``texts`` with questions of each template.

    A part of ``shortest`` to ``longest`` tokens is repeated: lengths differ, so that a head that attends to a fixed
    distance finds no copies. A text has ``filler`` sentences without a fact.
    """

    seed: int
    sequences: int
    shortest: int
    longest: int
    texts: int
    filler: int


#: What assigns roles, and what confirms them: other sequences and questions, and shorter ones, since each random set of
#: heads takes a pass of all.
ASSIGNING = Draw(0, sequences=16, shortest=16, longest=28, texts=3, filler=5)
CONFIRMING = Draw(1, sequences=5, shortest=18, longest=24, texts=2, filler=2)


@dataclass(frozen=True)
class Template:
    """A family of texts: ``filler`` and hidden facts, joined by ``separator``.

    A fact is a sentence with a gap, a question in other words that the same word answers, and the words to choose from.
    """

    name: str
    filler: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]
    separator: str = " "


#: Families with other wordings, other kinds of questions and other filler: a head that finds the answers in all of them
#: does more than follow one sentence pattern.
TEMPLATES = (
    Template(
        "statements",
        (
            "The road along the river is quiet in the morning.",
            "A light wind moves the leaves of the old trees.",
            "Some people walk slowly and talk about the day.",
            "It rained last night, and the stones are still wet.",
            "Nobody is in a hurry, since it is a holiday.",
        ),
        (
            ("Anna lives in {}.", "The home of Anna is the city of", "Paris London Berlin Rome Madrid Tokyo Boston"),
            ("Peter has a {} car.", "The colour of Peter's car is", "red blue green white black yellow brown grey"),
            ("Maria plays the {}.", "The instrument of Maria is the", "piano guitar violin drums flute organ trumpet"),
            (
                "Thomas keeps a {} in the garden.",
                "The animal of Thomas is a",
                "horse dog cat goat cow pig rabbit sheep",
            ),
        ),
    ),
    Template(
        "notes",
        (
            "Weather: cloudy, a little sun after lunch",
            "Windows: closed in every room at night",
            "Floor: swept twice a week",
            "Visitors: none before ten",
            "Lift: out of order until further notice",
        ),
        (
            ("Next meeting: {}", "We all come together again on", "Monday Tuesday Wednesday Thursday Friday Saturday"),
            ("Drink for guests: {}", "Whoever visits us gets a cup of", "coffee tea milk water juice wine beer soup"),
            ("Pet in the office: {}", "Under the desk sleeps our", "cat dog bird fish snake mouse turtle hamster"),
            (
                "Head of sales: {}",
                "The boss of those who sell is called",
                "Smith Brown Miller Wilson Taylor Clark King",
            ),
        ),
        separator="\n",
    ),
    Template(
        "interview",
        (
            "The market opens early, and the first stalls are busy.",
            "Two children count the pigeons on the roof.",
            "Someone sells flowers near the gate.",
            "The clock of the church is five minutes slow.",
            "An old man reads the newspaper on a bench.",
        ),
        (
            (
                "At noon Clara bought a {} there.",
                "Question: What is in Clara's bag? Answer: a",
                "book hat lamp shirt pen",
            ),
            (
                "Her brother drives a {}.",
                "Question: Which vehicle does her brother use? Answer: a",
                "truck taxi bus train tractor",
            ),
            (
                "The uncle comes from {}.",
                "Question: Where was the uncle born? Answer: in",
                "France Italy Spain Poland Japan",
            ),
            (
                "Mr Hall teaches {}.",
                "Question: Which subject has Mr Hall? Answer:",
                "music history physics chemistry English",
            ),
        ),
    ),
)


@dataclass(frozen=True, eq=False)
class Probe:
    """Token ``ids (S,)`` in which some next tokens can be known: those after the positions ``asked (Q,)``.

    ``answers (Q, K)`` are the positions of the answers to all questions of a text, the query's own first (None: these
    are repeated random tokens), and ``template`` is the name of its family.
    """

    ids: NDArray[np.int64]
    asked: NDArray[np.int64]
    answers: NDArray[np.int64] | None = None
    template: str | None = None


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
            assert probe.answers is not None
            own = np.zeros((len(probe.ids), len(probe.ids)), dtype=np.bool_)
            every = own.copy()
            own[probe.asked, probe.answers[:, 0]] = True
            every[probe.asked[:, None], probe.answers] = True
            targets.append([own])
            candidates.append(every)
        scores, _ = _score(model, texts, targets, candidates, progress=_part(progress, len(copies), total))
        measured["retrieval"] = scores[:, :, 0]
        queries["retrieval"] = sum(len(probe.asked) for probe in texts)
    measured = {name: measured[name] for name in ROLES if name in measured and name not in unmeasured}
    tests = len(measured) * scores.shape[1]
    summaries = {name: summarise(one, queries[name], tests) for name, one in measured.items()}
    if "retrieval" in summaries and not isinstance(texts, str):
        templates: dict[str, tuple[float, ...]] = {}
        for template in TEMPLATES:
            chosen = np.array([text.template == template.name for text in texts])
            means = measured["retrieval"][chosen, :, 0].mean(axis=0)
            templates[template.name] = tuple(means.round(4).tolist())
        summaries["retrieval"] = replace(summaries["retrieval"], templates=templates)
    own_norms, unit_norms = norms.relative
    return HeadRoles(
        model.layers,
        model.heads,
        model.card.group,
        summaries,
        unmeasured,
        own_norms,
        unit_norms,
    )


def _part(progress: Progress, before: int, total: int) -> Progress:
    """Report a part of ``total`` sequences, after those ``before`` it."""
    return lambda stage, done, _: progress(stage, before + done, total)


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


def draw_copies(model: HeadModel, draw: Draw = ASSIGNING) -> list[Probe]:
    """Draw sequences of different random tokens, each repeated once, between the special tokens of a text.

    Raises:
        ModelError: If the model has too few different tokens, or reads too few at once.
    """
    from cahp.models.loading import usual_ids

    before, after = _frame(model)
    usual = usual_ids(model.tokenizer)
    usual = usual[usual < known_tokens(model)]
    longest = min(draw.longest, len(usual), (model.longest_context - len(before) - len(after)) // 2)
    if longest < _FEWEST:
        raise ModelError(
            f"{model.card.id} has {len(usual):,} different tokens and reads {model.longest_context:,} at once, too few "
            f"to measure roles; name a model with {_FEWEST} tokens that reads {2 * _FEWEST + 2}"
        )
    random = np.random.default_rng(draw.seed)
    shortest = max(_FEWEST, longest * draw.shortest // draw.longest)
    probes: list[Probe] = []
    for _ in range(draw.sequences):
        size = int(random.integers(shortest, longest + 1))
        half = random.choice(usual, size, replace=False)
        # The first token of the copy cannot be known.
        asked = len(before) + size + np.arange(size - 1)
        probes.append(Probe(np.concatenate([before, half, half, after]).astype(np.int64), asked))
    return probes


def ask_questions(model: HeadModel, draw: Draw = ASSIGNING) -> list[Probe] | str:
    """Hide facts in filler text and ask for each of them after it; or return the reason why there are no such texts.

    Each of ``TEMPLATES`` has as many texts.
    """
    tokenizer = model.tokenizer
    if model.card.language != "causal":
        return "it is not a causal language model"
    if not tokenizer.is_fast:
        return "its tokenizer does not tell where its tokens lie"
    before, _ = _frame(model)
    random = np.random.default_rng(draw.seed)
    probes: list[Probe] = []
    for template in TEMPLATES * draw.texts:
        text, hidden, spots, order = _write_questions(template, draw.filler, random)
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
        if not same or len(np.unique(known)) < len(known) or ids.max() >= known_tokens(model):
            return "its tokenizer does not know the words of the questions"
        if len(ids) > model.longest_context:
            return f"it reads {model.longest_context:,} tokens at once, fewer than the questions have"
        others = [np.roll(hidden_at, -number) for number in order]
        probes.append(Probe(ids, asked_at - 1, np.array(others), template.name))
    return probes


def _write_questions(
    template: Template, filler: int, random: np.random.Generator
) -> tuple[str, list[int], list[int], Ints]:
    """Write a text that hides facts among ``filler`` sentences, and questions about them with their answers.

    Returns the text, the places of the hidden words, those of the answers, and the fact of each answer.
    """
    text_facts: list[str] = []
    words: list[str] = []
    for fact, _, choices in template.facts:
        words.append(str(random.choice(choices.split())))
        text_facts.append(fact.format(words[-1]))
    idle = random.choice(template.filler, filler, replace=False)
    sentences = [*map(str, idle), *text_facts]
    text = template.separator.join(sentences[place] for place in random.permutation(len(sentences)))
    hidden: list[int] = []
    for written, (fact, _, _) in zip(text_facts, template.facts, strict=True):
        hidden.append(text.index(written) + fact.index("{"))
    order = random.permutation(len(words))
    answers: list[int] = []
    for number in order:
        _, question, _ = template.facts[number]
        text += f"\n{question} "
        answers.append(len(text))
        text += f"{words[number]}."
    return text, hidden, answers, order


def _frame(model: HeadModel) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    if model.card.language == "causal":
        start = start_id(model.tokenizer)
        # A tokenizer may have a token that the model was never given.
        if start is None or start >= known_tokens(model):
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
    from cahp.models.tokenizing import from_ids

    return model.batches(from_ids(probe.ids for probe in probes))


# Ablation --------------------------------------------------------------------------------------------------------


#: Returns the losses ``(M, T)`` that are kept under a name, or computes and keeps them.
Cached = Callable[[str, Callable[[], NDArray[np.float64]]], NDArray[np.float64]]


def _compute(name: str, compute: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Compute losses, and keep nothing."""
    return compute()


def ablate_roles(
    model: HeadModel,
    roles: HeadRoles,
    *,
    cached: Cached = _compute,
    progress: Progress = silent,
) -> HeadRoles:
    """Add the losses without the heads of each role, against random sets of heads of the same layers.

    They are measured on sequences and questions that did not assign the roles. ``cached`` gets some masks at a time, by
    a name that holds the masks and the loss. Progress counts masks.

    Raises:
        ModelError: If it is not a causal language model, which alone has these losses.
    """
    if model.card.language != "causal":
        raise ModelError(
            f"{model.card.id} is not a causal language model, and only these have the losses by which ablation "
            "confirms roles; measure its roles without --ablate"
        )
    probes: dict[Loss, list[Probe]] = {"copying": draw_copies(model, CONFIRMING)}
    texts = ask_questions(model, CONFIRMING)
    if not isinstance(texts, str):
        probes["retrieval"] = texts
    plans = []
    random = np.random.default_rng(CONFIRMING.seed)
    for name in roles.scores:
        flat = np.zeros(roles.layers * roles.heads, dtype=np.bool_)
        flat[list(roles.units(name))] = True
        own = flat.reshape(roles.layers, roles.heads)
        # Also for roles that are not tested here: the sets of the others stay the same.
        drawn = draw_within_layers(own, _SETS, random)
        if own.any() and ROLES[name].loss in probes:
            removed = np.concatenate([np.zeros_like(own)[None], own[None], drawn])
            different, numbers = np.unique(removed.reshape(len(removed), -1), axis=0, return_inverse=True)
            plans.append((name, own, ~different.reshape(-1, *own.shape), numbers.ravel()))
    total = sum(len(keeps) for _, _, keeps, _ in plans)
    done = 0
    rows = []
    for name, own, keeps, numbers in plans:
        loss = ROLES[name].loss
        values: list[NDArray[np.float64]] = []
        for start in range(0, len(keeps), _KEPT_TOGETHER):
            part = keeps[start : start + _KEPT_TOGETHER]
            compute = partial(_losses, model, probes[loss], part, _part(progress, done, total))
            values.append(cached(f"{loss} {digest(part.tobytes())}", compute))
            done += len(part)
        rows.append(_compare(name, own, np.concatenate(values)[numbers]))
    progress(ABLATION, total, total)
    corrected = holm_correction([row.p for row in rows if row.p is not None])
    levels = iter(corrected)
    ablations = []
    for row in rows:
        if row.p is not None:
            row = replace(row, corrected=float(next(levels)))
        ablations.append(row)
    return replace(roles, ablations=tuple(ablations))


def draw_within_layers(own: Bools, count: int, random: np.random.Generator) -> Bools:
    """Draw ``count`` random sets ``(count, L, H)`` with as many heads of each layer as ``own (L, H)``.

    They are drawn from all heads of the layer; none is drawn where ``own`` is the one possible set.
    """
    sizes = own.sum(axis=1)
    if np.isin(sizes, (0, own.shape[1])).all():
        count = 0
    order = random.random((count, *own.shape)).argsort(axis=2)
    return np.asarray(order < sizes[:, None])


def _compare(role: str, own: Bools, losses: NDArray[np.float64]) -> RoleAblation:
    """Compare losses ``(2 + D, T)``: of the full model, without the heads of a role, and without each random set."""
    full, without, *drawn = losses
    width = own.shape[1]
    sizes = own.sum(axis=1)
    free = (sizes > 0) & (sizes < width)
    rise = without - full
    row = RoleAblation(
        role,
        ROLES[role].loss,
        int(own.sum()),
        _mean(full),
        _mean(rise),
        sets=prod(comb(width, int(size)) for size in sizes),
        layers=int((sizes > 0).sum()),
        free_layers=int(free.sum()),
        free_heads=int(np.minimum(sizes, width - sizes)[free].sum()),
    )
    if not drawn:
        return row
    rises = np.array(drawn) - full
    random = rises.mean(axis=0)
    each = rises.mean(axis=1)
    return replace(
        row,
        random=_mean(random),
        spread=(float(each.min()), float(each.max())),
        extra=_mean(rise - random),
        draws=len(drawn),
        p=find_p(float(rise.mean()), each),
    )


def _losses(model: HeadModel, probes: Sequence[Probe], keeps: Bools, progress: Progress) -> NDArray[np.float64]:
    """The mean loss of each probe ``(M, T)`` under each mask, on tokens that can be known, in nats per token.

    Layers before the first in which the masks ``keeps (M, L, H)`` differ are computed once. Progress counts masks.
    """
    import torch

    from cahp.models.surgery import tail
    from cahp.models.vocabulary import read_tokens
    from cahp.tasks.answers import LOSS

    losses = np.zeros((len(keeps), len(probes)))
    first = int((keeps != keeps[:1]).any(axis=(0, 2)).argmax())
    rest = None
    if first and model.has_tails:
        rest = tail(model, first)
    batches = _batches(model, probes)
    with torch.inference_mode():
        for place, batch in enumerate(batches):
            asked = [probes[row].asked for row in batch.rows]
            counts = [len(positions) for positions in asked]
            rows = torch.arange(len(batch)).repeat_interleave(torch.tensor(counts))
            at = torch.as_tensor(np.concatenate(asked), device=model.device)
            targets = batch.tensors["input_ids"][rows, at + 1]
            options: dict[str, Any] = {}
            if rest is not None:
                state = model.enter(batch)
                shared = model.gates(keeps[0])
                while state.layer < first:
                    state = model.step(state, gates=shared)
                options["start"] = state.hidden
            for number, keep in enumerate(keeps):
                progress(ABLATION, (place * len(keeps) + number) // len(batches), len(keeps))
                gates = model.gates(keep)
                hidden = (rest or model).logits(batch, states=True, gates=gates, **options)[rows, at]
                values = read_tokens(model.network, hidden, targets)[:, LOSS].double().cpu().numpy()
                losses[number, batch.rows] = np.bincount(rows.numpy(), values) / counts
    return losses


def _mean(values: NDArray[np.float64]) -> Estimate:
    """Estimate a mean over sequences; its interval is Student's t."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    mean = float(values.mean())
    return Estimate(mean, (mean - half, mean + half), len(values), "nats")
