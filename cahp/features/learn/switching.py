"""Steps that switch heads off, and ask how many predictions change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from cahp.features.learn.counting import (
    Change,
    choose_counting,
    estimate_agreement,
    estimate_copying,
    state_perplexity,
)
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.outcomes import estimate_mean, wilson
from cahp.run.roles import find_roles
from cahp.tasks.answers import Evaluation, TokenEvaluation
from cahp.values import Estimate, HeadMask, Ints, OptionError, Progress
from cahp.words import number, percent

#: Random sets of other heads that heads are compared with.
CONTROLS = 5


def _ask_for_changes(subject: Subject, *, without: str = "", **fields: Any) -> Step:
    """Return the step with these ``fields`` that asks how many predictions change."""
    counting = choose_counting(subject)
    return Step(
        question=f"Of {counting.name_predictions(subject)}, how many will change{without}?",
        unit=counting.unit,
        highest=counting.count_predictions(subject),
        counted=counting.definition,
        units=counting.units,
        **fields,
    )


def _answer_with_changes(
    subject: Subject, change: Change, bars: dict[str, Evaluation], details: str, meaning: str
) -> Answer:
    """Return the answer to how many predictions change; the first of the ``bars`` is the full model."""
    counting = choose_counting(subject)
    full = bars["all heads"]
    return Answer(
        change.value,
        change.interval,
        f"{change.sentence} {details}",
        meaning,
        change.n,
        counting.estimate_bars(bars, full),
        outcome=counting.outcome,
    )


# One head -------------------------------------------------------------------------------------------------------


def _without_strongest(subject: Subject) -> HeadMask:
    layer, head = subject.strongest
    return subject.without([layer * subject.mask.heads + head])


def describe_one_head(subject: Subject) -> Step:
    """Switch off the head of the largest gradient."""
    counting = choose_counting(subject)
    heads = counting.name_heads(subject)
    return _ask_for_changes(
        subject,
        name="one-head",
        title=f"Switch off one {heads.one}",
        doing=f"The model has {subject.total} {heads.many}. We switch off the {heads.this} with the largest gradient: "
        f"{counting.locate(*subject.strongest)}. The other {subject.total - 1} stay.",
        terms=counting.terms,
        mask=_without_strongest(subject),
    )


def measure_one_head(subject: Subject, progress: Progress) -> Answer:
    """Count the predictions that change without the head of the largest gradient."""
    counting = choose_counting(subject)
    full, less = subject.evaluate([None, _without_strongest(subject)], progress)
    change = counting.count_changes(less, full)
    meaning = counting.many_change
    if change.hardly:
        meaning = counting.few_change
    bars = {"all heads": full, f"without {counting.locate(*subject.strongest)}": less}
    return _answer_with_changes(subject, change, bars, counting.compare(full, less), meaning)


# One cluster ----------------------------------------------------------------------------------------------------


def _list_redundant(subject: Subject) -> list[int]:
    """Return the heads of the largest cluster without its representative."""
    members, representative = subject.largest_cluster
    return [head for head in members if head != representative]


def describe_one_cluster(subject: Subject) -> Step:
    """Switch off all heads of the largest cluster but its representative."""
    members, _ = subject.largest_cluster
    return _ask_for_changes(
        subject,
        name="one-cluster",
        title="Switch off all heads of a cluster but one",
        doing=f"{len(members)} heads separate the classes in a similar way: the largest cluster. We keep one, its "
        f"representative, and switch off the other {len(members) - 1}.",
        terms={"cluster": "a group of heads that are more similar to each other than to other heads"},
        mask=subject.without(_list_redundant(subject)),
    )


def measure_one_cluster(subject: Subject, progress: Progress) -> Answer:
    """Count the predictions that change without the other heads of the largest cluster."""
    counting = choose_counting(subject)
    redundant = _list_redundant(subject)
    full, less = subject.evaluate([None, subject.without(redundant)], progress)
    change = counting.count_changes(less, full, hardly=0.1)
    if change.hardly:
        meaning = "Most of a cluster can go: with one of its heads left, the predictions hardly change."
    else:
        meaning = (
            "Many predictions change: these heads separate the classes in a similar way, but they are no copies of "
            "each other."
        )
    bars = {"all heads": full, f"without {len(redundant)} of the cluster": less}
    return _answer_with_changes(subject, change, bars, counting.compare(full, less), meaning)


# Representatives ------------------------------------------------------------------------------------------------


def describe_representatives(subject: Subject) -> Step:
    """Switch off the heads that CAHP keeps, and for comparison as many others."""
    kept = subject.mask.count
    return _ask_for_changes(
        subject,
        name="representatives",
        title="Switch off the representatives",
        doing=f"Now the reverse: we switch off the {kept} heads that CAHP keeps. The other {subject.total - kept} "
        f"stay. For comparison, we switch off as many of the others, drawn at random, {CONTROLS} times.",
        without=" without the representatives",
        terms={"representative": "the kept head of a cluster: the one with the largest gradient"},
        mask=subject.without(subject.mask.flat),
    )


def measure_representatives(subject: Subject, progress: Progress) -> Answer:
    """Count the predictions that change without the representatives, and without as many others."""
    counting = choose_counting(subject)
    kept = subject.mask.flat
    others = np.flatnonzero(~subject.mask.keep.ravel())
    # A large selection leaves fewer other heads than it has itself.
    size = min(len(kept), len(others))
    drawn = _draw_sets(subject, others, size)
    full, less, *controls = subject.evaluate([None, subject.without(kept), *drawn], progress)
    change = counting.count_changes(less, full)
    changed = int(change.value)
    in_draws = sorted(int(counting.count_changes(control, full).value) for control in controls)
    bars = {"all heads": full, f"without the {len(kept)} representatives": less}
    for place, control in enumerate(controls, start=1):
        bars[f"without {size} others, draw {place}"] = control
    meaning = (
        f"Without {size} of the others instead, {in_draws[0]} to {in_draws[-1]} answers changed ({CONTROLS} draws). "
        f"{_compare_with_draws(changed, in_draws, len(full))}"
    )
    return _answer_with_changes(subject, change, bars, counting.compare(full, less), meaning)


def _compare_with_draws(changed: int, drawn: Sequence[int], n: int) -> str:
    """Compare how many of ``n`` predictions change without the representatives and in random draws, in order."""
    if drawn[0] <= changed <= drawn[-1]:
        return (
            "Without the representatives as many predictions change, within the range of the draws: other heads "
            "replace them."
        )
    many = "fewer"
    reason = "the other heads replace them"
    if changed > drawn[-1]:
        many = "more"
        reason = "they do what no other head does"
    # A count whose interval reaches the draws may differ by chance.
    low, high = wilson(changed, n)
    if low * n <= drawn[-1] and high * n >= drawn[0]:
        return (
            f"Without the representatives {many} predictions change than in any draw, but with {n} texts this can be "
            "chance."
        )
    return f"Without the representatives {many} predictions change: {reason}."


# Heads of a role ------------------------------------------------------------------------------------------------


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


def _remove_role(subject: Subject, role: str, attends: str, progress: Progress) -> _Removed:
    """Evaluate the model without the heads of a role, and without as many others.

    Raises:
        OptionError: If no head has the role, or all have it.
    """
    own: Ints = np.array(find_roles(subject.bench.resources).units(role), dtype=np.int64)
    others = np.setdiff1d(np.arange(subject.total), own)
    size = min(len(own), len(others))
    if not len(own):
        raise OptionError(f"no head of {subject.bench.card.id} {attends}; continue with the next step")
    if not len(others):
        raise OptionError(f"every head of {subject.bench.card.id} {attends}; continue with the next step")
    mine = _draw_sets(subject, own, size)
    theirs = _draw_sets(subject, others, size)
    # Without all of some heads, every draw is the same.
    if len(own) == size:
        mine = mine[:1]
    if len(others) == size:
        theirs = theirs[:1]
    evaluations = subject.evaluate([None, subject.without(own), *mine, *theirs], progress)
    full, less, *rest = cast(list[TokenEvaluation], evaluations)
    return _Removed(full, less, len(own), size, rest[: len(mine)], rest[len(mine) :])


def _draw_sets(subject: Subject, heads: Ints, size: int) -> list[HeadMask]:
    """Return ``CONTROLS`` masks without ``size`` of the ``heads``, drawn at random."""
    drawn = [np.random.default_rng(seed).choice(heads, size=size, replace=False) for seed in range(CONTROLS)]
    return [subject.without(some) for some in drawn]


def describe_first_token(subject: Subject) -> Step:
    """Switch off the heads that attend to the first token, and for comparison as many others."""
    one = choose_counting(subject).name_heads(subject).one
    return _ask_for_changes(
        subject,
        name="first-token",
        title="Switch off what attends to the first token",
        doing="Some heads attend mostly to the first token of a text, whatever it is. We switch off every "
        f"{one} that has one. For comparison, we also switch off equally many with and without such a head, drawn "
        f"at random, {CONTROLS} times.",
        terms={"first-token head": "a head that gives at least 40 % of its attention on random tokens to the first"},
        role="first",
    )


def measure_first_token(subject: Subject, progress: Progress) -> Answer:
    """Count the predictions that change without the heads that attend to the first token."""
    counting = choose_counting(subject)
    removed = _remove_role(subject, "first", "attends mostly to the first token", progress)
    full = removed.full
    less = removed.less
    mine = _list_changes(removed.equal, full)
    others = _list_changes(removed.others, full)
    details = (
        f"{removed.heads} of {subject.total} were switched off. {counting.compare(full, less)} Without {removed.size} "
        f"of them, {_state_range(mine)} of the predictions change; without as many others, {_state_range(others)}."
    )
    if mine[0] > others[-1]:
        meaning = "Attending to the first token is not idle: these matter more than as many others."
    elif mine[-1] < others[0]:
        meaning = "They matter less than as many others: attending to the first token is often a way of doing nothing."
    else:
        meaning = "The difference from others is not significant."
    bars: dict[str, Evaluation] = {"all heads": full, f"without the {removed.heads} of the first token": less}
    return _answer_with_changes(subject, counting.count_changes(less, full), bars, details, meaning)


def _list_changes(evaluations: Sequence[Evaluation], full: Evaluation) -> list[float]:
    """Return the shares of predictions that differ from the full model's, in order."""
    return sorted(1 - estimate_agreement(evaluation, full).value for evaluation in evaluations)


def _state_range(shares: Sequence[float]) -> str:
    if len(shares) == 1:
        return percent(shares[0])
    return f"{percent(shares[0])} to {percent(shares[-1])}"


def describe_induction(subject: Subject) -> Step:
    """Switch off the heads that copy."""
    one = choose_counting(subject).name_heads(subject).one
    return Step(
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
    )


def measure_induction(subject: Subject, progress: Progress) -> Answer:
    """Measure the rise of the loss on repeated tokens without the heads that copy."""
    counting = choose_counting(subject)
    removed = _remove_role(subject, "induction", "copies", progress)
    full = removed.full
    less = removed.less
    before = estimate_copying(full)
    rise = _estimate_rise(full, less)
    mine = sorted(_estimate_rise(full, evaluation).value for evaluation in removed.equal)
    others = sorted(_estimate_rise(full, evaluation).value for evaluation in removed.others)
    found = (
        f"Without {removed.heads} of {subject.total}, the loss rises from {before.text} to "
        f"{estimate_copying(less).text} nats. On ordinary text, the perplexity rises from {state_perplexity(full)} to "
        f"{state_perplexity(less)}. Without as many others, the loss rises by {number(others[0], 2)} to "
        f"{number(others[-1], 2)} nats."
    )
    if mine[0] > others[-1]:
        meaning = "These heads copy: without them, the model no longer sees that the tokens repeat."
    else:
        meaning = "Without as many others, copying breaks as much: its parts are spread over more heads."
    scale = 100 / before.value
    interval = None
    if rise.ci95 is not None:
        interval = (scale * rise.low, scale * rise.high)
    bars = counting.estimate_bars({"all heads": full, f"without the {removed.heads} that copy": less}, full)
    return Answer(scale * rise.value, interval, found, meaning, rise.n, bars, outcome=counting.outcome)


def _estimate_rise(full: TokenEvaluation, less: TokenEvaluation) -> Estimate:
    """Estimate the rise of the loss on repeated tokens, paired by sequence."""
    before, units = full.copying
    after, _ = less.copying
    return estimate_mean(after - before, 0, units=units)
