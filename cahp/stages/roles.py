"""Measure the roles of heads without labels or data: on repeated random tokens, and on questions about short texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.polynomial import Polynomial

from cahp.files import read_beside
from cahp.models.tokenizing import from_ids, known_tokens, list_special_ids
from cahp.values import (
    Bools,
    Estimate,
    Floats,
    Ints,
    JsonObject,
    ModelError,
    Progress,
    digest,
    holm_correction,
    nest_progress,
    report_progress,
    silent,
)
from cahp.values.head_roles import (
    FEWEST_SETS,
    ROLES,
    HeadRoles,
    RoleAblation,
    find_targets,
    round_by_head,
    score_sequence,
    summarise,
)
from cahp.values.statistics import half_interval

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

STAGE = "roles"
ABLATION = "ablation"

#: Fewer different tokens are no random sequence.
_FEWEST = 4
#: Most sets of other heads against which the heads of a role are removed.
_SETS = 199
#: Draws for each set that may be wanted: where there are so few that all of them are, each is drawn.
_REDRAWN = 20
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
TEMPLATES = msgspec.convert(read_beside(__file__)["templates"], tuple[Template, ...])


@dataclass(frozen=True, eq=False)
class Probe:
    """Token ``ids (S,)`` in which some next tokens can be known: those after the positions ``asked (Q,)``.

    ``targets (S, S)`` are those of each role, by query. They are compared with random ones among the ``candidates
    (S, S)`` (None: all tokens). ``template`` names the family of a text (empty: these are repeated random tokens).
    """

    ids: Ints
    asked: Ints
    targets: Mapping[str, Bools]
    candidates: Bools | None = None
    template: str = ""


def measure_roles(model: HeadModel, *, progress: Progress = silent) -> HeadRoles:
    """Measure the roles of all heads of the unpruned ``model``.

    Raises:
        ModelError: If it has too few different tokens, or reads too few at once.
    """
    copies = draw_copies(model)
    texts, reason = ask_questions(model)
    norms = [np.zeros((model.layers, model.heads * part)) for part in (model.card.group, 1)]

    def add_norms(batch: Batch, site: str, layer: int, entering: Tensor) -> None:
        """Add the norms of what query heads and units, by their context vectors, add to the output of a layer."""
        if site != "output":
            return
        real = batch.real
        contexts = entering.reshape(*real.shape, -1)[real].float()
        weight = model.projection(layer).weight.float()
        for sums in norms:
            parts = sums.shape[1]
            for part, (own, columns) in enumerate(zip(contexts.chunk(parts, 1), weight.chunk(parts, 1), strict=True)):
                sums[layer, part] += float((own @ columns.T).norm(dim=1).sum())

    measured, causal = _score(model, copies, nest_progress(progress, 0, 2), tap=add_norms)
    unmeasured = {}
    if not causal:
        unmeasured = {role.name: "attention is not causal" for role in ROLES.values() if role.causal}
    elif reason:
        unmeasured = {"retrieval": reason}
    else:
        measured |= _score(model, texts, nest_progress(progress, 1, 2))[0]
    names = [name for name in ROLES if name not in unmeasured]
    scores = {}
    for name in names:
        own = [probe for probe in (*copies, *texts) if name in probe.targets]
        queries = sum(int(probe.targets[name].any(axis=1).sum()) for probe in own)
        scores[name] = summarise(measured[name], queries, len(names) * measured[name].shape[1])
    if "retrieval" in scores:
        templates = {}
        for template in TEMPLATES:
            rows = [row for row, text in enumerate(texts) if text.template == template.name]
            templates[template.name] = round_by_head(measured["retrieval"][rows, :, 0].mean(axis=0))
        scores["retrieval"] = replace(scores["retrieval"], templates=templates)
    of_heads, of_units = (round_by_head(sums / np.maximum(sums.mean(axis=1, keepdims=True), 1e-30)) for sums in norms)
    return HeadRoles(model.layers, model.heads, model.card.group, scores, unmeasured, of_heads, of_units)


def _score(
    model: HeadModel, probes: Sequence[Probe], progress: Progress, *, tap: Callable[..., None] | None = None
) -> tuple[dict[str, Floats], bool]:
    """Score the attention of all query heads in each role, ``(T, N, 4)``; also tell whether attention is causal."""
    import torch

    group = model.card.group
    heads = model.heads * group
    scores: list[list[Floats]] = [[] for _ in probes]
    causal = True
    batches = model.batches(from_ids(probe.ids for probe in probes))
    with torch.inference_mode():
        for batch in report_progress(batches, STAGE, progress):

            def see(layer: int, weights: Tensor, rows: Ints = batch.rows) -> Tensor:
                nonlocal causal
                causal = causal and not bool(weights.triu(1).any())
                maps = weights.float().cpu().numpy()
                for row, seen in zip(rows, maps.repeat(heads // maps.shape[1], axis=1), strict=True):
                    probe = probes[row]
                    size = len(probe.ids)
                    own = score_sequence(seen[:, :size, :size], list(probe.targets.values()), probe.candidates)
                    scores[row].append(own)
                return weights

            options: JsonObject = {"probe": see}
            # A probe of key-value groups gets the means of their query heads, and an edit each of them.
            if group > 1 and model.family.edits:
                options = {"edit": see}
            if tap is not None:
                options["tap"] = partial(tap, batch)
            model.logits(batch, **options)
    stacked = np.array([np.concatenate(rows) for rows in scores])
    return {name: stacked[:, :, place] for place, name in enumerate(probes[0].targets)}, causal


# Sequences -------------------------------------------------------------------------------------------------------


def draw_copies(model: HeadModel, draw: Draw = ASSIGNING) -> list[Probe]:
    """Draw sequences of different random tokens, each repeated once, between the special tokens of a text.

    Raises:
        ModelError: If the model has too few different tokens, or reads too few at once.
    """
    from cahp.models.loading import special_ids, usual_ids

    before, after = list_special_ids(model)
    special = np.array(sorted(special_ids(model.tokenizer)), dtype=np.int64)
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
    probes = []
    for _ in range(draw.sequences):
        size = int(random.integers(shortest, longest + 1))
        half = random.choice(usual, size, replace=False)
        ids = np.concatenate([before, half, half, after]).astype(np.int64)
        # The first token of the copy cannot be known.
        asked = len(before) + size + np.arange(size - 1)
        probes.append(Probe(ids, asked, find_targets(ids, special)))
    return probes


def ask_questions(model: HeadModel, draw: Draw = ASSIGNING) -> tuple[list[Probe], str]:
    """Hide facts in filler text and ask for each of them after it; or return no probe, and the reason.

    Each of ``TEMPLATES`` has as many texts.
    """
    tokenizer = model.tokenizer
    unknown = "its tokenizer does not know the words of the questions, or not where they are"
    if model.card.no_next_token or not tokenizer.is_fast:
        return [], model.card.no_next_token or unknown
    before, _ = list_special_ids(model)
    random = np.random.default_rng(draw.seed)
    probes = []
    for template in TEMPLATES * draw.texts:
        # The facts with a random word each, among filler sentences in a random order.
        written = []
        words = []
        for fact, _, choices in template.facts:
            words.append(str(random.choice(choices.split())))
            written.append(fact.format(words[-1]))
        sentences = [*map(str, random.choice(template.filler, draw.filler, replace=False)), *written]
        text = template.separator.join(sentences[place] for place in random.permutation(len(sentences)))
        # The places of the hidden words.
        facts = []
        for sentence, (fact, _, _) in zip(written, template.facts, strict=True):
            facts.append(text.index(sentence) + fact.index("{"))
        # The questions in a random order, and the places of their answers.
        order = random.permutation(len(words))
        answers = []
        for number in order:
            text += f"\n{template.facts[number][1]} "
            answers.append(len(text))
            text += f"{words[number]}."
        encoded = tokenizer(text, add_special_tokens=False, verbose=False)
        ids = np.array([*before, *encoded["input_ids"]])
        tokens = [encoded.char_to_token(place) for place in (*facts, *answers)]
        if None in tokens:
            return [], unknown
        facts_at, answers_at = np.reshape(tokens, (2, -1)).astype(np.int64) + len(before)
        known = ids[facts_at]
        same = np.array_equal(known[order], ids[answers_at])
        if not same or len(np.unique(known)) < len(known) or ids.max() >= known_tokens(model):
            return [], unknown
        if len(ids) > model.longest_context:
            return [], f"it reads {model.longest_context:,} tokens at once, fewer than the questions have"
        asked = answers_at - 1
        target = np.zeros((len(ids), len(ids)), dtype=np.bool_)
        candidates = target.copy()
        target[asked, facts_at[order]] = True
        candidates[asked[:, None], facts_at] = True
        probes.append(Probe(ids, asked, {"retrieval": target}, candidates, template.name))
    return probes, ""


# Ablation --------------------------------------------------------------------------------------------------------


#: Returns the losses ``(M, T)`` that are kept under a name, or computes and keeps them.
Cached = Callable[[str, Callable[[], Floats]], Floats]


def ablate_roles(model: HeadModel, roles: HeadRoles, *, cached: Cached, progress: Progress = silent) -> HeadRoles:
    """Add the losses without the heads of each role, against sets of other heads of the same layers.

    A removed head is replaced by its mean output over the sequences, or questions, that assigned the roles; the losses
    are measured on others. ``cached`` gets some masks at a time, by a name that holds the masks and the loss.

    Raises:
        ModelError: If it is not a causal language model, which alone has these losses.
    """
    if model.card.no_next_token:
        raise ModelError(
            f"{model.card.id} has no loss by which ablation confirms roles: {model.card.no_next_token}; measure its "
            "roles without --ablate"
        )
    probes = {"copying": draw_copies(model, CONFIRMING), "retrieval": ask_questions(model, CONFIRMING)[0]}
    assigning: dict[str, Sequence[Probe]] = {"copying": draw_copies(model), "retrieval": ask_questions(model)[0]}
    random = np.random.default_rng(CONFIRMING.seed)
    rows = []
    for place, name in enumerate(roles.scores):
        own = np.zeros((roles.layers, roles.heads), dtype=np.bool_)
        own.flat[list(roles.units(name))] = True
        # Also for roles that are not tested here: the sets of the others stay the same.
        drawn, sets = draw_other_heads(own, _SETS, random)
        loss = ROLES[name].loss
        if not own.any() or not probes[loss]:
            continue
        watch = nest_progress(progress, place, len(roles.scores))
        keeps = ~np.concatenate([np.zeros_like(own)[None], own[None], drawn])
        parts = np.array_split(keeps, 1 + len(keeps) // _KEPT_TOGETHER)
        losses = []
        for number, part in enumerate([*parts, ~own[None]]):
            means = assigning[loss]
            if number == len(parts):
                means = ()
            measure = partial(_losses, model, probes[loss], part, means, nest_progress(watch, number, 1 + len(parts)))
            losses.append(cached(f"{loss} {len(means)} {digest(part.tobytes())}", measure))
        rows.append(_compare(name, own, sets, np.concatenate(losses)))
    tested = [row for row in rows if row.p is not None]
    corrected = dict(zip([row.role for row in tested], holm_correction([row.p or 0 for row in tested]), strict=True))
    return replace(roles, ablations=tuple(replace(row, corrected=corrected.get(row.role)) for row in rows))


def draw_other_heads(own: Bools, most: int, random: np.random.Generator) -> tuple[Bools, int]:
    """Draw sets ``(D, L, H)`` of as many heads of the same layers as ``own (L, H)``, without any of its heads.

    Each layer gives as many heads as it does to ``own``, as far as it has others; what is missing comes from any of
    these layers. All sets are returned if there are at most so many, or else ``most`` random ones. Also return how many
    there are.
    """
    free = ~own & own.any(axis=1, keepdims=True)
    least = np.minimum(own.sum(axis=1), free.sum(axis=1))
    # The coefficient of x^k is the number of sets with k heads more than the least of each layer.
    ways = Polynomial([1])
    for others, fewest in zip(free.sum(axis=1).tolist(), least.tolist(), strict=True):
        ways *= Polynomial([comb(others, size) for size in range(fewest, others + 1)])
    missing = own.sum() - least.sum()
    if missing > ways.degree():
        return np.zeros((0, *own.shape), dtype=np.bool_), 0
    sets = round(ways.coef[missing])
    order = np.where(free, random.random((_REDRAWN * most, *own.shape)), np.inf)
    # The least of each layer comes before all others.
    order[_rank(order) < least[:, None]] -= 1
    drawn = (_rank(order.reshape(len(order), -1)) < own.sum()).reshape(order.shape)
    if sets <= most:
        drawn = np.unique(drawn, axis=0)
    return drawn[:most], sets


def _rank(values: Floats) -> Ints:
    """Return the rank of each value along the last axis, from 0."""
    return np.asarray(values.argsort(axis=-1).argsort(axis=-1))


def _compare(role: str, own: Bools, sets: int, losses: Floats) -> RoleAblation:
    """Compare losses ``(3 + D, T)``: of the full model, without the role's heads or each drawn set, and with zeros."""
    full, without, *others, zero = losses
    rises = {"without": without - full, "zero": zero - full}
    means: Floats = np.zeros(0)
    if others:
        drawn = np.array(others) - full
        means = drawn.mean(axis=1)
        rises["random"] = drawn.mean(axis=0)
        rises["extra"] = rises["without"] - rises["random"]
    estimates: JsonObject = {name: _mean(rise) for name, rise in rises.items()}
    sequences = {name: tuple(rise.round(6).tolist()) for name, rise in rises.items()}
    rounded = tuple(means.round(5).tolist())
    row = RoleAblation(role, int(own.sum()), **estimates, sets=sets, losses=rounded, sequences=sequences)
    if row.drawn < FEWEST_SETS:
        return row
    # The share of sets with at least this rise, the role's own included.
    return replace(row, p=(1 + np.count_nonzero(means >= rises["without"].mean() - 1e-12)) / (1 + row.drawn))


def _losses(
    model: HeadModel,
    probes: Sequence[Probe],
    keeps: Bools,
    means: Sequence[Probe],
    progress: Progress,
) -> Floats:
    """The mean loss of each probe ``(M, T)`` under each mask, on tokens that can be known, in nats per token.

    Removed heads are replaced by their mean outputs on the probes ``means`` (empty: by zeros). Progress counts the
    masks ``keeps (M, L, H)``.
    """
    import torch

    from cahp.models.reading import average_outputs
    from cahp.models.vocabulary import read_tokens
    from cahp.tasks.answers import LOSS

    losses = np.zeros((len(keeps), len(probes)))
    batches = model.batches(from_ids(probe.ids for probe in probes))
    with torch.inference_mode():
        fill = None
        if means:
            averages, _ = average_outputs(model, from_ids(probe.ids for probe in means), ABLATION, silent)
            fill = [average.float() for average in averages]
        for number, keep in enumerate(keeps):
            progress(ABLATION, number, len(keeps))
            gates = model.gates(keep)
            for batch in batches:
                hidden = model.logits(batch, states=True, gates=gates, fill=fill)
                for place, row in enumerate(batch.rows.tolist()):
                    asked = torch.as_tensor(probes[row].asked, device=model.device)
                    targets = batch.tensors["input_ids"][place, asked + 1]
                    values = read_tokens(model.network, hidden[place, asked], targets)[:, LOSS]
                    losses[number, row] = float(values.double().mean())
    progress(ABLATION, len(keeps), len(keeps))
    return losses


def _mean(values: Floats) -> Estimate:
    """Estimate a mean over sequences; its interval is Student's t."""
    half = float(half_interval(values))
    mean = float(values.mean())
    return Estimate(mean, (mean - half, mean + half), len(values), "nats")
