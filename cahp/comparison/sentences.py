"""The verdicts of a comparison in sentences: for its file, the terminal and the screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cahp.comparison.document import AreaVerdict, Verdict
from cahp.comparison.plan import REFERENCE
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.words import capital, counted, number

if TYPE_CHECKING:
    from cahp.comparison.result import SplitResults

#: A sentence lists up to this many names; more are counted.
_MOST_NAMES = 4
#: The smallest p that is written out, and the largest that is significant.
_SMALLEST_P = 1e-3
_LEVEL = 0.05


def method_label(method: str) -> str:
    """The name of a method on the screen; files and the terminal use the option's name."""
    return "CAHP" if method == REFERENCE else method


def after(recovery: str) -> str:
    """When an outcome was measured: as pruned, or after which recovery."""
    return RECOVERIES[recovery].beside


def over(budgets: Sequence[int], all_budgets: Sequence[int]) -> str:
    """The budgets of an area, such as "over all budgets"; ``all_budgets`` are those of the comparison."""
    # Some recoveries are measured at a few budgets.
    if set(budgets) == set(all_budgets):
        return "over all budgets"
    return f"over {join(list(map(str, budgets)))} heads"


def describe_test(verdict: Verdict, budgets: Sequence[int]) -> str:
    """Budget and recovery of a test; ``budgets`` are those of the comparison."""
    heads = f"{verdict.budget} heads"
    if isinstance(verdict, AreaVerdict) and verdict.budget is None:
        heads = over(verdict.budgets, budgets)
    return f"{heads}, {after(verdict.recovery)}"


def describe_place(outcome: str, recovery: str, budgets: Sequence[int], total: int, unit: str) -> str:
    """What a primary test compares: "KL divergence, after refit, area over 6 and 12 of 72 heads".

    ``unit`` is what a head is called.
    """
    where = "at"
    if len(budgets) > 1:
        where = "area over"
    return f"{name_outcome(outcome)}, {after(recovery)}, {where} {join(list(map(str, budgets)))} of {total} {unit}s"


def name_outcome(outcome: str) -> str:
    """The short name of an outcome, such as "KL divergence"."""
    return OUTCOMES[outcome].label.removesuffix(" from the full model").removesuffix(" with the full model")


def describe_p(verdict: Verdict) -> str:
    """The corrected p of a test, such as "p = 0.02"."""
    if verdict.p_holm is None:
        return "one seed: no verdict"
    return write_p(verdict.p_holm)


def write_p(p: float) -> str:
    """Write a p value: "p = 0.02", and never a smaller one than "p < 0.001"."""
    if p < _SMALLEST_P:
        return f"p < {_SMALLEST_P}"
    text = f"{p:.2g}"
    if float(text) <= _LEVEL < p:
        # Rounded, it would read as significant.
        text = f"{p:.3g}"
    return f"p = {text}"


def is_equivalent(verdict: Verdict) -> bool:
    """Tell whether two one-sided tests at 5 % show that a difference is smaller than its margin.

    They do where the 90 % interval lies within the margin. They are not corrected for other tests.
    """
    # Answers that never differ have no error, and so show nothing about other texts.
    if not verdict.tested or verdict.margin is None or verdict.ci95[0] == verdict.ci95[1]:
        return False
    return max(map(abs, verdict.rescale(0.9))) < verdict.margin


def describe_margin(verdict: Verdict) -> str:
    """The margin of a test: "1 point" or "0.018 nats"."""
    margin = verdict.margin or 0.0
    if verdict.unit == "points":
        return counted(round(margin), "point")
    return f"{number(margin, 3)} nats"


def describe_tie(verdict: Verdict, noun: str = "texts") -> str:
    """The result of a test without a winner: "equivalent within 1 point", or "not significant (n = 311, 5 seeds)"."""
    if is_equivalent(verdict):
        return f"equivalent within {describe_margin(verdict)}"
    return f"not significant ({count_texts(verdict, noun)})"


def count_texts(verdict: Verdict, noun: str = "texts") -> str:
    """The numbers of texts and seeds of a test, such as "n = 311, 5 seeds"; ``noun`` names what ``n`` counts."""
    words = f"n = {verdict.n:,}"
    if noun != "texts":
        words += f" {noun}"
    return f"{words}, {counted(verdict.seeds, 'seed')}"


def verdict_sentence(verdict: Verdict, budgets: Sequence[int], *, noun: str = "texts") -> str:
    """A test and its statistics in a sentence of a file; ``noun`` names what its ``n`` counts."""
    ours = verdict.against
    other = verdict.method
    measure = ""
    if verdict.outcome != "accuracy":
        measure = f" in {name_outcome(verdict.outcome)}"
    if not verdict.tested:
        result = f"one seed, so no verdict{measure} on {ours} and {other}"
    elif verdict.tie and is_equivalent(verdict):
        result = f"{ours} and {other} are {describe_tie(verdict)}{measure}"
    elif verdict.tie:
        result = f"the difference{measure} between {ours} and {other} is not significant"
    elif verdict.better == verdict.against:
        result = f"{ours} is better than {other}{measure}"
    else:
        result = f"{other} is better than {ours}{measure}"
    statistics = ""
    if verdict.tested:
        statistics = f", {verdict.interval_name} {verdict.span}, {describe_p(verdict)} after Holm"
    place = capital(describe_test(verdict, budgets))
    return f"{place}: {result} ({count_texts(verdict, noun)}; lead of {ours}: {verdict.lead}{statistics})"


def headline(results: SplitResults) -> str:
    """The title of a comparison: which methods the reference beats in the primary test."""
    ours = method_label(results.against)
    primary = results.primary
    if not results.verdicts:
        return f"Only {ours} was measured"
    if not any(verdict.tested for verdict in results.verdicts):
        return "One seed: no verdict"
    if primary is None:
        return "The primary test was not measured"
    return f"Primary test ({primary.words}): {ahead_and_behind(results.against, primary.tests, noun=results.noun)}"


def ahead_and_behind(against: str, verdicts: Iterable[Verdict], *, noun: str = "texts") -> str:
    """The methods that ``against`` is ahead of and behind, by tests after one recovery, as a clause.

    ``noun`` names what the ``n`` of a test counts.
    """
    ours = method_label(against)
    tests: dict[str, list[Verdict]] = {}
    once: list[str] = []
    for verdict in verdicts:
        if verdict.tested:
            tests.setdefault(verdict.method, []).append(verdict)
        elif verdict.method not in once:
            once.append(verdict.method)
    if not tests and once:
        return f"{ours} was compared with no other method with more than one seed"
    if not tests:
        return f"{ours} was compared with no other method"
    ahead = {}
    behind = {}
    equivalent = []
    for name, own in tests.items():
        ahead[name] = [one for one in own if one.better == against]
        behind[name] = [one for one in own if one.better == name]
        if all(one.tie and is_equivalent(one) for one in own):
            equivalent.append(own[0])
    n = count_texts(next(iter(tests.values()))[0], noun)
    parts = []
    if any(ahead.values()):
        parts.append(f"ahead of {_name_methods(ahead, tests)}")
    if any(behind.values()):
        parts.append(f"behind {_name_methods(behind, tests)}")
    notes = []
    if parts:
        result = f"{ours} is {' and '.join(parts)}"
        ties = sum(not ahead[name] and not behind[name] for name in tests) - len(equivalent)
        if ties > 0:
            notes.append(f"{counted(ties, 'other')} not significant, {n}")
    else:
        others = f"the difference of {ours} from the other method is"
        if len(tests) > 1:
            others = f"the differences of {ours} from the {len(tests)} other methods are"
        result = f"{others} not significant"
        notes.append(n)
    if equivalent:
        notes.append(f"{counted(len(equivalent), 'other')} {describe_tie(equivalent[0])}")
    if once:
        notes.append(f"one seed, no verdict: {join(once)}")
    if not notes:
        return result
    return f"{result} ({'; '.join(notes)})"


def _name_methods(passed: Mapping[str, list[Verdict]], tests: Mapping[str, list[Verdict]]) -> str:
    """Methods by name, with the budgets if they passed at some of them only; many are counted."""
    names = [name for name, verdicts in passed.items() if verdicts]
    everywhere = [name for name in names if len(passed[name]) == len(tests[name])]
    if len(names) > _MOST_NAMES:
        count = f"{len(names)} of {len(tests)} methods"
        if max(map(len, tests.values())) > 1:
            count += f" ({len(everywhere)} of them at every budget)"
        return count
    labels = []
    for name in names:
        label = method_label(name)
        if name not in everywhere:
            label += f" (at {join([str(verdict.budget) for verdict in passed[name]])} heads)"
        labels.append(label)
    return join(labels)


def join(names: Sequence[str], word: str = "and") -> str:
    """Join names for a sentence: "a, b and c"."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} {word} {names[-1]}"
