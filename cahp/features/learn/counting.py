"""How the steps that all models have count predictions, and what they say of them, by task.

A classifier gives one answer to each text, whose accuracy is known. A language model predicts a token after each
token, which is compared with the full model's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cahp.features.learn.lessons import Subject
from cahp.outcomes import OUTCOMES, changed_rows, wilson
from cahp.tasks.answers import Evaluation
from cahp.values import Estimate
from cahp.words import number


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
