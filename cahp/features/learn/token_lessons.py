"""Six guesses about a language model: the questions, and the functions that measure the answers.

Outcomes are those of next tokens: agreement with the full model, perplexity, the loss on repeated random tokens, and
the cache of keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from cahp.features.learn.lessons import CONTROLS, DRAWS, STAGE, Answer, Step, Subject, random_masks, rate_choice
from cahp.outcomes import OUTCOMES, estimate_mean, same_predictions
from cahp.run.roles import find_roles
from cahp.tasks.answers import Evaluation, TokenEvaluation
from cahp.values import Estimate, HeadMask, Ints, OptionError, Progress
from cahp.words import number, percent, signed

#: Bytes of a mebibyte.
_MIB = 1 << 20


def steps(subject: Subject) -> list[Step]:
    """Return the six steps in order, with the numbers of the subject in their texts."""
    card, (layer, head) = subject.bench.card, subject.strongest
    total, kept = subject.mask.keep.size, subject.mask.count
    heads, one = "attention heads", "head"
    if card.group > 1:
        heads, one = f"groups of {card.group} attention heads that share keys and values", "group"
    changing = (
        "At each token of the texts, the model predicts the most probable next token. It changes when it differs from "
        "that with all heads."
    )
    terms = {
        "attention head": "a part of a layer that decides which earlier tokens a token attends to",
        "token": "a word or a part of a word",
    }
    return [
        Step(
            "one-head",
            f"Switch off one {one}",
            f"The model has {total} {heads}. We switch off the {one} with the largest gradient: number {head} of layer "
            f"{layer}. The other {total - 1} stay.",
            "Of 100 predicted tokens, how many will change?",
            "tokens",
            100,
            changing,
            terms | {"gradient": "how much the model's error would change if the output were turned down a little"},
            units="documents",
            mask=subject.without([layer * subject.mask.heads + head]),
        ),
        Step(
            "first-token",
            "Switch off what attends to the first token",
            "Some heads attend mostly to the first token of a text, whatever it is. We switch off every "
            f"{one} that has one. For comparison, we also switch off equally many with and without such a head, drawn "
            f"at random, {CONTROLS} times.",
            "Of 100 predicted tokens, how many will change?",
            "tokens",
            100,
            changing,
            {"first-token head": "a head that gives at least 40 % of its attention on random tokens to the first"},
            units="documents",
            role="first",
        ),
        Step(
            "induction",
            "Switch off what copies",
            "An induction head finds an earlier copy of a token and attends to the token after it. We repeat sequences "
            f"of random tokens, and switch off every {one} with an induction head.",
            "By how many per cent does the loss on the repeated tokens rise?",
            "per cent",
            300,
            "Per cent of the loss with all heads, on the second half of each sequence, which repeats the first.",
            {"loss": "minus the logarithm of the probability of the next token, in nats: 0 where it is certain"},
            units="sequences",
            role="induction",
        ),
        Step(
            "random",
            "Choose at random instead",
            f"CAHP keeps {kept} of {total}. We keep as many at random, {DRAWS} times, and compare the KL divergence "
            "from the full model.",
            f"How many of the {DRAWS} random selections are at least as close to the full model?",
            "selections",
            DRAWS,
            f"A random selection keeps {kept} of {total}, at least one per layer. It counts if its KL divergence is at "
            "most CAHP's.",
            {
                "CAHP": "complementary attention head pruning: keep one representative per cluster, prune the others",
                "KL divergence": "how far predicted probabilities are from those of the full model, in nats; 0: equal",
            },
            units="documents",
            mask=subject.mask,
        ),
        Step(
            "refit",
            "Recover without training",
            f"With {kept} of {total}, the rest of the model gets inputs that it was not trained on. A refit solves for "
            "new output weights in closed form, on ordinary texts.",
            "How many points of agreement with the full model does the refit regain?",
            "points",
            60,
            "One point is one more token of a hundred at which both models predict the same.",
            {"output weights": "the weights that mix the outputs of the heads into the output of the layer"},
            units="documents",
            mask=subject.mask,
        ),
        Step(
            "cache",
            "What does the cache save?",
            "A language model keeps the keys and values of all earlier tokens, instead of computing them again. "
            f"We cut {total - kept} of {total} {heads} out.",
            "How much smaller is this cache?",
            "per cent",
            100,
            "Per cent of the bytes that the full model caches for a token.",
            {"to cut": "to remove weights from the model; switching off only sets an output to zero"},
            units="",
            mask=subject.mask,
        ),
    ]


# The six --------------------------------------------------------------------------------------------------------


def _one_head(subject: Subject, progress: Progress) -> Answer:
    layer, head = subject.strongest
    full, less = _evaluate(subject, [None, subject.without([layer * subject.mask.heads + head])], progress)
    agreement = _agreement(less, full)
    if agreement.value >= 0.95:
        meaning = "Even without the largest gradient, the predictions hardly change: others do nearly the same."
    else:
        meaning = "Many predictions change: the others do not do the same, and nothing has been recovered yet."
    found = f"The perplexity rises from {_perplexity(full)} to {_perplexity(less)}."
    return _changes(agreement, {"all heads": full, f"without number {head} of layer {layer}": less}, found, meaning)


def _first_token(subject: Subject, progress: Progress) -> Answer:
    removed = _without_role(subject, "first", "attends mostly to the first token", progress)
    full, less, total = removed.full, removed.less, subject.mask.keep.size
    agreement = _agreement(less, full)
    mine, others = (sorted(1 - _agreement(one, full).value for one in some) for some in (removed.equal, removed.others))
    found = (
        f"{removed.heads} of {total} were switched off. The perplexity rises from {_perplexity(full)} to "
        f"{_perplexity(less)}. Without {removed.size} of them, {_range(mine)} of the predictions change; without as "
        f"many others, {_range(others)}."
    )
    if mine[0] > others[-1]:
        meaning = "Attending to the first token is not idle: these matter more than as many others."
    elif mine[-1] < others[0]:
        meaning = "They matter less than as many others: attending to the first token is often a way of doing nothing."
    else:
        meaning = "They matter about as much as others: no difference is resolved."
    return _changes(
        agreement, {"all heads": full, f"without the {removed.heads} of the first token": less}, found, meaning
    )


def _induction(subject: Subject, progress: Progress) -> Answer:
    removed = _without_role(subject, "induction", "copies", progress)
    full, less = removed.full, removed.less
    before, rise = _copying(full), _rise(full, less)
    mine, others = (sorted(_rise(full, one).value for one in some) for some in (removed.equal, removed.others))
    found = (
        f"Without {removed.heads} of {subject.mask.keep.size}, the loss rises from {before.text} to "
        f"{_copying(less).text} nats. On ordinary text, the perplexity rises from {_perplexity(full)} to "
        f"{_perplexity(less)}. Without as many others, the loss rises by {number(others[0], 2)} to "
        f"{number(others[-1], 2)} nats."
    )
    if mine[0] > others[-1]:
        meaning = "These heads copy: without them, the model no longer sees that the tokens repeat."
    else:
        meaning = "Without as many others, copying breaks as much: its parts are spread over more heads."
    scale = 100 / before.value
    bars = _bars({"all heads": full, f"without the {removed.heads} that copy": less})
    return Answer(scale * rise.value, _scaled(rise, scale), found, meaning, rise.n, bars, outcome="agreement")


def _random(subject: Subject, progress: Progress) -> Answer:
    full, chosen, *drawn = _evaluate(subject, [None, subject.mask, *random_masks(subject)], progress)
    ours, others = _divergence(chosen, full), [_divergence(one, full).value for one in drawn]
    as_good = sum(value <= ours.value for value in others)
    found = (
        f"{as_good} of {DRAWS} random selections are at least as close. KL divergence in nats per token: CAHP "
        f"{ours.text} ({ours.span}); random {number(min(others), 2)} to {number(max(others), 2)}, median "
        f"{number(float(np.median(others)), 2)}."
    )
    meaning = rate_choice(
        as_good,
        clear="The choice matters: random selections are further from the full model.",
        level="Random selections are as close: at this number, CAHP's choice is no better than chance.",
    )
    bars = _bars({"all heads": full, f"with CAHP's {subject.mask.count}": chosen})
    draws = {f"{DRAWS} random selections": tuple(_agreement(one, full).value for one in drawn)}
    return Answer(float(as_good), None, found, meaning, ours.n, bars, draws, outcome="agreement")


def _refit(subject: Subject, progress: Progress) -> Answer:
    bench = subject.bench
    if bench.recoveries.no_refit:
        raise OptionError(f"{bench.recoveries.no_refit}, so this step cannot be shown; continue with the next one")
    full, before = _evaluate(subject, [None, subject.mask], progress)
    recovered = bench.recoveries.refit(subject.mask)
    after = bench.measurements.evaluate(subject.sample, mask=subject.mask, recovered=recovered)
    gained = same_predictions(after, full).astype(np.float64) - same_predictions(before, full)
    won = estimate_mean(100 * gained, 0, "points", units=full.units)
    found = (
        f"Agreement {_agreement(before, full).text} before, {_agreement(after, full).text} after "
        f"({signed(won.value)} points). Perplexity {_perplexity(before)} before, {_perplexity(after)} after, "
        f"{_perplexity(full)} with all heads."
    )
    copying = [_copying(cast(TokenEvaluation, one)) for one in (full, before, after)]
    if not recovered.report.accepted:
        meaning = f"The refit was rejected, so nothing changed: {recovered.report.reason}."
    elif won.low > 0:
        meaning = (
            "Much of the loss comes from how the remaining heads are mixed, and a refit recovers it without training."
        )
    else:
        meaning = "No measurable gain: there was little to recover, or these texts are too few to measure it."
    if copying[0].n:
        found += f" Loss on repeated random tokens: {copying[1].text} before, {copying[2].text} after."
        if copying[2].low > copying[1].high:
            meaning += (
                " But copying, which its texts hardly need, is worse than before: a recovery knows only its texts."
            )
    bars = _bars({"all heads": full, "after refit": after, "before refit": before})
    return Answer(won.value, won.ci95, found, meaning, won.n, bars, outcome="agreement")


def _cache(subject: Subject, progress: Progress) -> Answer:
    card, mask = subject.bench.card, subject.mask
    cache = card.measure_cache(mask)
    if cache is None:
        raise OptionError(f"the size of the cache of {card.id} is not known; continue with the next step")
    found = f"{cache.full:,} bytes per token before, {cache.pruned:,} after."
    if cache.shape.positions is not None:
        tokens = cache.shape.positions
        sizes = [cache.shape.of_context(one, tokens) for one in (HeadMask.full(mask.layers, mask.heads), mask)]
        before, after = (f"{size / _MIB:,.0f} MiB" for size in sizes)
        found += f" At {tokens:,} tokens, the longest context, that is {before} and {after}."
    meaning = "The cache shrinks in proportion to what is cut."
    if card.attention_weights is not None:
        removed = (1 - mask.count / mask.keep.size) * card.attention_weights
        meaning += f" The model itself hardly does: attention is {percent(card.attention_weights)} of its weights, so "
        meaning += f"they shrink by {percent(removed)}."
    return Answer(100 * (1 - cache.share), None, found, meaning, 0)


MEASURES: Mapping[str, Callable[[Subject, Progress], Answer]] = {
    "one-head": _one_head,
    "first-token": _first_token,
    "induction": _induction,
    "random": _random,
    "refit": _refit,
    "cache": _cache,
}


def _evaluate(subject: Subject, masks: Sequence[HeadMask | None], progress: Progress) -> list[TokenEvaluation]:
    """Evaluate the model under each mask (None: all heads)."""
    evaluations = list[TokenEvaluation]()
    for done, mask in enumerate(masks):
        progress(STAGE, done, len(masks))
        evaluations.append(cast(TokenEvaluation, subject.bench.measurements.evaluate(subject.sample, mask=mask)))
    return evaluations


@dataclass(frozen=True, eq=False)
class _Removed:
    """The full model, the one without all ``heads`` of a role, and those without equally many with and without it.

    ``equal`` are without ``size`` heads of the role, ``others`` without as many others, drawn at random.
    """

    full: TokenEvaluation
    less: TokenEvaluation
    heads: int
    size: int
    equal: list[TokenEvaluation]
    others: list[TokenEvaluation]


def _without_role(subject: Subject, role: str, words: str, progress: Progress) -> _Removed:
    """Evaluate the model without the heads of a role, and without as many others.

    Raises:
        OptionError: If no head has the role, or all have it.
    """
    total = subject.mask.keep.size
    own: Ints = np.array(find_roles(subject.bench.resources).units(role), dtype=np.int64)
    others = np.setdiff1d(np.arange(total), own)
    size = min(len(own), len(others))
    if not size:
        some = "every" if len(own) else "no"
        raise OptionError(f"{some} head of {subject.bench.card.id} {words}; continue with the next step")

    def draw(heads: Ints) -> list[HeadMask]:
        # Where all of them are switched off, all draws are the same.
        seeds = range(CONTROLS if len(heads) > size else 1)
        return [subject.without(np.random.default_rng(seed).choice(heads, size=size, replace=False)) for seed in seeds]

    mine, theirs = draw(own), draw(others)
    full, less, *rest = _evaluate(subject, [None, subject.without(own), *mine, *theirs], progress)
    return _Removed(full, less, len(own), size, rest[: len(mine)], rest[len(mine) :])


def _changes(agreement: Estimate, variants: Mapping[str, Evaluation], found: str, meaning: str) -> Answer:
    changed = 100 * (1 - agreement.value)
    interval = None if agreement.ci95 is None else (100 * (1 - agreement.high), 100 * (1 - agreement.low))
    found = f"{number(changed)} of 100 predicted tokens changed. {found}"
    return Answer(changed, interval, found, meaning, agreement.n, _bars(variants), outcome="agreement")


def _bars(variants: Mapping[str, Evaluation]) -> dict[str, Estimate]:
    full = next(iter(variants.values()))
    return {name: _agreement(variant, full) for name, variant in variants.items()}


def _agreement(evaluation: Evaluation, full: Evaluation) -> Estimate:
    return OUTCOMES["agreement"].estimate(evaluation, full, 0)


def _divergence(evaluation: Evaluation, full: Evaluation) -> Estimate:
    return OUTCOMES["kl"].estimate(evaluation, full, 0)


def _copying(evaluation: TokenEvaluation) -> Estimate:
    return OUTCOMES["copying"].estimate(evaluation, evaluation, 0)


def _rise(full: TokenEvaluation, less: TokenEvaluation) -> Estimate:
    """Estimate the rise of the loss on repeated tokens, paired by sequence."""
    (before, units), (after, _) = full.copying, less.copying
    return estimate_mean(after - before, 0, units=units)


def _scaled(estimate: Estimate, scale: float) -> tuple[float, float] | None:
    return None if estimate.ci95 is None else (scale * estimate.low, scale * estimate.high)


def _perplexity(evaluation: Evaluation) -> str:
    estimate = OUTCOMES["perplexity"].estimate(evaluation, evaluation, 0)
    return f"{estimate.text} ({estimate.span})" if estimate.ci95 else estimate.text


def _range(shares: Sequence[float]) -> str:
    return percent(shares[0]) if len(shares) == 1 else f"{percent(shares[0])} to {percent(shares[-1])}"
