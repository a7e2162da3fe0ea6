"""The tests of a comparison in words, for its file, the terminal and the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cahp.comparison.plan import REFERENCE
from cahp.comparison.statistics import LEVEL, POWER, Verdict
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.words import counted, nats, number, percent

if TYPE_CHECKING:
    from cahp.comparison.result import SplitResults

#: A sentence lists up to this many names; more are counted.
_MOST_NAMES = 4
#: The smallest p that is written out.
_SMALLEST_P = 1e-3


def method_label(method: str) -> str:
    """The name of a method on the screen; files and the terminal use the option's name."""
    return "CAHP" if method == REFERENCE else method


def name_outcome(outcome: str) -> str:
    """The short name of an outcome, such as "KL divergence"."""
    return OUTCOMES[outcome].label.removesuffix(" from the full model").removesuffix(" with the full model")


def list_heads(budgets: Sequence[int]) -> str:
    """The heads of a test: "at 12", or "area over 6 and 12"."""
    where = "at"
    if len(budgets) > 1:
        where = "area over"
    return f"{where} {join(list(map(str, budgets)))}"


def describe_place(outcome: str, recovery: str, budgets: Sequence[int], total: int, unit: str) -> str:
    """What a primary test compares: "KL divergence, after refit, area over 6 and 12 of 72 heads".

    ``unit`` is what a head is called.
    """
    return f"{name_outcome(outcome)}, {RECOVERIES[recovery].beside}, {list_heads(budgets)} of {total} {unit}s"


def describe_p(p: float | None) -> str:
    """Write a corrected p value: "p = 0.02", and never a smaller one than "p < 0.001" (None: there was one seed)."""
    if p is None:
        return "one seed: no verdict"
    if p < _SMALLEST_P:
        return f"p < {_SMALLEST_P}"
    text = f"{p:.2g}"
    if float(text) <= LEVEL < p:
        # Rounded, it would read as significant.
        text = f"{p:.3g}"
    return f"p = {text}"


def describe_result(test: Verdict, noun: str = "texts") -> str:
    """The result of a test: "CAHP is better", "equivalent within 1 point", or that it is not significant.

    That stands with the numbers of texts and seeds and the smallest detectable difference.
    """
    if not test.tested:
        return "one seed, no verdict"
    if test.better is not None:
        return f"{method_label(test.better)} is better"
    if not test.equivalent:
        return f"not significant ({count_texts(test, noun)}; {describe_power([test])})"
    margin = test.margin or 0.0
    if test.unit == "points":
        return f"equivalent within {counted(round(margin), 'point')}"
    return f"equivalent within {number(margin, 3)} nats"


def count_texts(test: Verdict, noun: str) -> str:
    """The numbers of texts and seeds of a test, such as "n = 311, 5 seeds"; ``noun`` names what ``n`` counts."""
    words = f"n = {test.n:,}"
    if noun != "texts":
        words += f" {noun}"
    return f"{words}, {counted(test.seeds, 'seed')}"


def describe_power(tests: Sequence[Verdict]) -> str:
    """The smallest difference that each of these tests in one unit finds: "80 % power from 0.17 nats"."""
    write = number if tests[0].unit == "points" else nats
    detectable = write(max(test.detectable for test in tests))
    return f"{percent(POWER, 0)} power from {detectable} {tests[0].unit}"


def headline(results: SplitResults) -> str:
    """The title of a comparison: which methods the reference beats in the primary test."""
    primary = results.primary
    if primary is None:
        return "The primary test was not measured"
    return f"Primary test ({primary.words}): {ahead_and_behind(results.against, primary.tests, noun=results.noun)}"


def ahead_and_behind(against: str, tests: Iterable[Verdict], *, noun: str) -> str:
    """The methods that ``against`` is ahead of and behind, by tests after one recovery, as a clause.

    ``noun`` names what the ``n`` of a test counts.
    """
    ordered = sorted(tests, key=lambda test: (test.tie, test.better != against))
    if not ordered:
        return f"{method_label(against)} was compared with no other method"
    numbers = [count_texts(ordered[0], noun)]
    undecided = []
    groups: dict[str, dict[str, None]] = {}
    for test in ordered:
        result = "behind"
        if test.better == against:
            result = "ahead of"
        elif not test.tested:
            result = "without a verdict, with one seed, against"
        elif test.equivalent:
            result = "equivalent to"
        elif test.tie:
            result = "not significantly different from"
            undecided.append(test)
        groups.setdefault(result, {})[method_label(test.method)] = None
    if undecided:
        numbers.append(describe_power(undecided))
    clauses = []
    for result, names in groups.items():
        listed = join([*names])
        if len(names) > _MOST_NAMES:
            listed = f"{len(names)} methods"
        clauses.append(f"{result} {listed}")
    return f"{method_label(against)} is {'; '.join(clauses)} ({'; '.join(numbers)})"


def join(names: Sequence[str]) -> str:
    """Join names for a sentence: "a, b and c"."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"
