"""Steps that show one head, and remove it and its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.features.learn.scene import Scene
from cahp.outcomes import OUTCOMES, changed_rows, estimate_mean, wilson
from cahp.tasks import Evaluation, TokenEvaluation
from cahp.values import Estimate, HeadMask, Ints, Progress
from cahp.words import number, percent, signed

#: Random sets of other heads that heads are compared with.
CONTROLS = 5


def _ask_for_changes(subject: Subject, **fields: Any) -> Step:
    """Return the step with these ``fields`` that asks how many predictions change."""
    counting = choose_counting(subject)
    return Step(
        question=f"Of {counting.name_predictions(subject)}, how many will change?",
        unit=counting.unit,
        highest=counting.count_predictions(subject),
        counted=counting.definition,
        units=subject.texts.units,
        **fields,
    )


def _measure_changes(
    subject: Subject, heads: Iterable[int], progress: Progress, *, variant: str, hardly: float
) -> tuple[Change, dict[str, Any]]:
    """Count the predictions that change without ``heads``; return the other fields of the answer, too.

    ``variant`` names the bar; up to ``hardly`` of the predictions are few.
    """
    counting = choose_counting(subject)
    full, less = subject.evaluate([None, subject.without(heads)], progress)
    change = counting.count_changes(less, full, hardly=hardly)
    return change, {
        "value": change.value,
        "interval": change.interval,
        "found": f"{change.sentence} {counting.compare(full, less)}",
        "n": change.n,
        "bars": counting.estimate_bars({"all heads": full, variant: less}, full),
        "outcome": counting.outcome,
    }


# One head -------------------------------------------------------------------------------------------------------


def describe_head(subject: Subject) -> Step:
    """Show one head at work."""
    counting = choose_counting(subject)
    group = subject.bench.card.group
    title = "This is an attention head"
    doing = "For each word, it decides which other words to look at."
    if group > 1:
        title = f"This is a group of {group} attention heads"
        doing = "For each word, they decide which earlier words to look at. One group is kept or removed as a whole."
    return Step(
        "head",
        f"A {counting.name_heads(subject).one}",
        title,
        doing,
        subject.without([]),
        terms=counting.terms,
    )


def describe_one_head(subject: Subject) -> Step:
    """Remove the head that was shown."""
    counting = choose_counting(subject)
    heads = counting.name_heads(subject)
    return _ask_for_changes(
        subject,
        name="one-head",
        short="Remove it",
        title=f"Remove this {heads.one}",
        doing=f"The model has {subject.total} {heads.many}. We remove this one; the other {subject.total - 1} stay.",
        mask=subject.without([subject.scene.head]),
    )


def measure_one_head(subject: Subject, progress: Progress) -> Answer:
    """Count the predictions that change without the head that was shown."""
    counting = choose_counting(subject)
    heads = [subject.scene.head]
    change, fields = _measure_changes(subject, heads, progress, variant="without this head", hardly=0.05)
    meaning = counting.many_change
    if change.hardly:
        meaning = counting.few_change
    fields["found"] += f" {compare_answers(subject.scene)}"
    headline = f"{change.sentence} {state_answer(subject.scene)}"
    return Answer(headline=headline, meaning=meaning, **fields)


def compare_answers(scene: Scene) -> str:
    """State the answers to the sentence with their probabilities."""
    before = f"“{scene.before.words}” with {percent(scene.before.share)}"
    after = f"“{scene.after.words}” with {percent(scene.after.share)}"
    return f"The sentence is answered by {before}, without the head by {after}."


def state_answer(scene: Scene) -> str:
    """State what removing the head does to the answer to the sentence."""
    if scene.before.words == scene.after.words:
        return f"Here it stays “{scene.before.words}”."
    return f"Here “{scene.before.words}” becomes “{scene.after.words}”."


# Its family -----------------------------------------------------------------------------------------------------


def describe_one_cluster(subject: Subject) -> Step:
    """Remove all heads of the largest cluster but its representative."""
    count = len(subject.family.heads)
    unit = choose_counting(subject).name_heads(subject).one
    return _ask_for_changes(
        subject,
        name="one-cluster",
        short="Its family",
        title="Its family attends alike",
        doing=f"{count} {unit}s {subject.texts.task.words.likeness}. We keep one and remove the other "
        f"{len(subject.family.leaving)}.",
        terms={"family": "a cluster: heads that are more similar to each other than to other heads"},
        mask=subject.without(subject.family.leaving),
    )


def measure_one_cluster(subject: Subject, progress: Progress) -> Answer:
    """Count the predictions that change without the other heads of the family."""
    family = subject.family
    variant = f"without {len(family.leaving)} of the family"
    change, fields = _measure_changes(subject, family.leaving, progress, variant=variant, hardly=0.1)
    meaning = "Many predictions change: these heads are similar, but they are no copies of each other."
    if change.hardly:
        meaning = "Most of a family can go: with one of its heads left, the predictions hardly change."
    headline = f"{len(family.leaving)} of {len(family.heads)} heads are gone. {change.sentence}"
    return Answer(headline=headline, meaning=meaning, **fields)


# Heads that copy -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Removed:
    """The full model, the one without all ``heads`` of the family, and those without equally many of it and of others.

    ``equal`` are without ``size`` heads of the family, ``others`` without as many others, drawn at random.
    """

    full: TokenEvaluation
    less: TokenEvaluation
    heads: int
    size: int
    equal: list[TokenEvaluation]
    others: list[TokenEvaluation]


def _remove_family(subject: Subject, progress: Progress) -> _Removed:
    """Evaluate the model without the heads of the family, and without as many others."""
    own: Ints = np.array(subject.family.heads, dtype=np.int64)
    others = np.setdiff1d(np.arange(subject.total), own)
    size = min(len(own), len(others))
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


def describe_induction(subject: Subject) -> Step:
    """Switch off the heads that copy."""
    one = choose_counting(subject).name_heads(subject).one
    others = ""
    if subject.family.named_otherwise:
        others = f" ({subject.family.named_otherwise} of them under another role on the board)"
    return Step(
        "induction",
        "Its family",
        f"Remove every {one} that copies",
        "An induction head finds an earlier copy of a token and attends to the token after it. We remove all "
        f"{len(subject.family.heads)}{others}, and repeat random tokens.",
        subject.without(subject.family.heads),
        "By how many per cent does the loss on the repeated tokens rise?",
        "per cent",
        300,
        "Per cent of the loss with all heads, on the second half of each sequence, which repeats the first.",
        {"loss": "minus the logarithm of the probability of the next token, in nats: 0 where it is certain"},
        units="sequences",
    )


def measure_induction(subject: Subject, progress: Progress) -> Answer:
    """Measure the rise of the loss on repeated tokens without the heads that copy."""
    counting = choose_counting(subject)
    removed = _remove_family(subject, progress)
    full = removed.full
    less = removed.less
    before = estimate_copying(full)
    rise = _estimate_rise(full, less)
    mine = sorted(_estimate_rise(full, evaluation).value for evaluation in removed.equal)
    others = sorted(_estimate_rise(full, evaluation).value for evaluation in removed.others)
    found = (
        f"Without {removed.heads} of {subject.total}, the loss goes from {before.text} to "
        f"{estimate_copying(less).text} nats. On ordinary text, the perplexity goes from {state_perplexity(full)} to "
        f"{state_perplexity(less)}. Without as many others, the loss changes by {signed(others[0], 2)} to "
        f"{signed(others[-1], 2)} nats."
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
    moves = "rises"
    if rise.value < 0:
        moves = "falls"
    per_cent = number(abs(scale * rise.value), 0)
    headline = f"Without all {removed.heads} that copy, the loss on repeated tokens {moves} by {per_cent} %."
    return Answer(scale * rise.value, interval, headline, found, meaning, rise.n, bars, outcome=counting.outcome)


def _estimate_rise(full: TokenEvaluation, less: TokenEvaluation) -> Estimate:
    """Estimate the rise of the loss on repeated tokens, paired by sequence."""
    before, units = full.copying
    after, _ = less.copying
    return estimate_mean(after - before, 0, units=units)


# How the steps that all models have count predictions, and what they say of them, by task ---------------------------


@dataclass(frozen=True)
class Change:
    """Predictions that change: ``value`` in the unit of a guess, with its 95 % interval over ``n`` units.

    ``sentence`` states the value; ``hardly`` tells whether only few of the predictions change.
    """

    value: float
    interval: tuple[float, float] | None
    n: int
    sentence: str
    hardly: bool


@dataclass(frozen=True)
class Heads:
    """What is switched off, in words: attention heads, or groups of them."""

    many: str
    one: str


class Counting(ABC):
    """What a task decides about the steps that all models have.

    A guess about changed predictions is in ``unit``, which ``definition`` defines. The bars of an answer show
    ``outcome``. ``terms`` are explained in the first step.
    """

    unit: ClassVar[str]
    definition: ClassVar[str]
    outcome: ClassVar[str]
    terms: ClassVar[Mapping[str, str]]
    #: The meaning if hardly any, or many, predictions change without one head.
    few_change: ClassVar[str]
    many_change: ClassVar[str]

    def estimate_bars(self, variants: Mapping[str, Evaluation], full: Evaluation) -> dict[str, Estimate]:
        """Estimate the outcome of each variant by name."""
        return {name: OUTCOMES[self.outcome].estimate(variant, full, 0) for name, variant in variants.items()}

    @abstractmethod
    def name_heads(self, subject: Subject) -> Heads:
        """Return what the heads of a model are called."""

    @abstractmethod
    def count_predictions(self, subject: Subject) -> int:
        """Return of how many predictions the changed ones are counted: the highest guess."""

    @abstractmethod
    def name_predictions(self, subject: Subject) -> str:
        """Return these predictions in words."""

    @abstractmethod
    def count_changes(self, less: Evaluation, full: Evaluation, *, hardly: float = 0.05) -> Change:
        """Count the predictions of ``less`` that differ from the full model's; up to the share ``hardly`` are few."""

    @abstractmethod
    def compare(self, full: Evaluation, less: Evaluation) -> str:
        """Return what a change costs, as a sentence."""


class AnswerCounting(Counting):
    """The answers of a classifier: one for each text."""

    unit = "answers"
    definition = (
        "An answer is the class that the model predicts for a text. A change is any answer that differs from that with "
        "all heads, right or wrong."
    )
    outcome = "accuracy"
    terms: ClassVar = {
        "attention head": "a part of a layer that decides which words attend to which",
    }
    few_change = "Even without this head, the predictions hardly change."
    many_change = "Without this head many predictions change: it does something that the other heads do not."

    def name_heads(self, subject: Subject) -> Heads:
        """Return what the heads of a model are called."""
        return Heads("attention heads", "head")

    def count_predictions(self, subject: Subject) -> int:
        """Return the number of texts."""
        return len(subject.texts)

    def name_predictions(self, subject: Subject) -> str:
        """Return the answers in words."""
        return f"{len(subject.texts)} answers"

    def count_changes(self, less: Evaluation, full: Evaluation, *, hardly: float = 0.05) -> Change:
        """Count the answers that differ from the full model's."""
        n = len(full)
        changed = len(changed_rows(less, full))
        low, high = wilson(changed, n)
        sentence = f"{changed} of {n} answers changed."
        return Change(float(changed), (low * n, high * n), n, sentence, changed <= hardly * n)

    def compare(self, full: Evaluation, less: Evaluation) -> str:
        """Return both accuracies."""
        before = estimate_accuracy(full)
        after = estimate_accuracy(less)
        return f"Accuracy: {before.text} with all heads, {after.text} now."


class TokenCounting(Counting):
    """The next tokens that a language model predicts, of a hundred."""

    unit = "tokens"
    definition = (
        "At each token of the texts, the model predicts the most probable next token. It changes when it differs from "
        "that with all heads."
    )
    outcome = "agreement"
    terms: ClassVar = {
        "attention head": "a part of a layer that decides which earlier tokens a token attends to",
        "token": "a word or a part of a word",
    }
    few_change = "Even without it, the predictions hardly change."
    many_change = "Many predictions change: the others do not do the same, and nothing has been recovered yet."

    def name_heads(self, subject: Subject) -> Heads:
        """Return what the heads of a model, or its groups of heads, are called."""
        card = subject.bench.card
        if card.group > 1:
            return Heads(f"groups of {card.group} attention heads that share keys and values", "group")
        return Heads("attention heads", "head")

    def count_predictions(self, subject: Subject) -> int:
        """Return a hundred."""
        return 100

    def name_predictions(self, subject: Subject) -> str:
        """Return a hundred predictions in words."""
        return "100 predicted tokens"

    def count_changes(self, less: Evaluation, full: Evaluation, *, hardly: float = 0.05) -> Change:
        """Count the predicted tokens of a hundred that differ from the full model's."""
        agreement = estimate_agreement(less, full)
        changed = 100 * (1 - agreement.value)
        interval = None
        if agreement.ci95 is not None:
            interval = (100 * (1 - agreement.high), 100 * (1 - agreement.low))
        sentence = f"{number(changed)} of 100 predicted tokens changed."
        return Change(changed, interval, agreement.n, sentence, agreement.value >= 1 - hardly)

    def compare(self, full: Evaluation, less: Evaluation) -> str:
        """Return both perplexities."""
        return f"Perplexity: {state_perplexity(full)} with all heads, {state_perplexity(less)} now."


def choose_counting(subject: Subject) -> Counting:
    """Return how the predictions of a subject's model are counted."""
    if subject.texts.task.predicts_labels:
        return AnswerCounting()
    return TokenCounting()


# Outcomes -------------------------------------------------------------------------------------------------------


def estimate_accuracy(evaluation: Evaluation) -> Estimate:
    """Estimate the accuracy."""
    return OUTCOMES["accuracy"].estimate(evaluation, evaluation, 0)


def estimate_agreement(evaluation: Evaluation, full: Evaluation) -> Estimate:
    """Estimate the agreement with the full model."""
    return OUTCOMES["agreement"].estimate(evaluation, full, 0)


def estimate_copying(evaluation: Evaluation) -> Estimate:
    """Estimate the loss on repeated random tokens."""
    return OUTCOMES["copying"].estimate(evaluation, evaluation, 0)


def state_perplexity(evaluation: Evaluation) -> str:
    """Return the perplexity with its interval, if it has one."""
    estimate = OUTCOMES["perplexity"].estimate(evaluation, evaluation, 0)
    if not estimate.ci95:
        return estimate.text
    return f"{estimate.text} ({estimate.span})"
