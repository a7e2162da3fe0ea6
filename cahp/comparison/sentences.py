"""The verdicts of a comparison in sentences: for its file, the terminal and the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cahp.comparison.document import AreaVerdict, Verdict
from cahp.comparison.plan import REFERENCE
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.values import Estimate
from cahp.words import capital

if TYPE_CHECKING:
    from cahp.comparison.split_results import SplitResults

#: A sentence lists up to this many names; more are counted.
_MOST_NAMES = 4
#: The smallest p of a bootstrap of 10,000 draws, as older files have it.
_BOOTSTRAP_FLOOR = 2 / 10_001
#: The smallest p that is written out.
_SMALLEST_P = 1e-4
#: Smaller differences do not matter, by unit, in words and as a number: methods within them are equivalent.
_MARGINS = {"points": ("1 point", 1.0), "nats": ("0.01 nats", 0.01)}


def method_label(method: str) -> str:
    """The name of a method on the screen; files and the terminal use the option's name."""
    return "CAHP" if method == REFERENCE else method


def after(recovery: str) -> str:
    """When an outcome was measured: before recovery, or after which one."""
    row = RECOVERIES.get(recovery)
    if row is None:
        return f"after {recovery}"
    return row.after or "before recovery"


def over(budgets: Sequence[int], all_budgets: Sequence[int]) -> str:
    """The budgets of an area, such as "over all budgets"; ``all_budgets`` are those of the comparison."""
    # Some recoveries are measured at a few budgets; a file from elsewhere may not tell which.
    if not budgets or set(budgets) == set(all_budgets):
        return "over all budgets"
    return f"over {join(list(map(str, budgets)))} heads"


def describe_test(verdict: Verdict, budgets: Sequence[int]) -> str:
    """Budget and recovery of a test; ``budgets`` are those of the comparison."""
    heads = f"{verdict.budget} heads"
    if isinstance(verdict, AreaVerdict):
        heads = over(verdict.budgets, budgets)
    return f"{heads}, {after(verdict.recovery)}"


def name_outcome(outcome: str) -> str:
    """The short name of an outcome, such as "KL divergence"."""
    return OUTCOMES[outcome].label.removesuffix(" from the full model").removesuffix(" with the full model")


def describe_p(verdict: Verdict) -> str:
    """The corrected p of a test, such as "p = 0.02"; a bound where it is the smallest that its test can give."""
    if verdict.p is None or verdict.p_holm is None or not verdict.tested:
        return "one seed: no verdict"
    if verdict.df is None and verdict.p <= _BOOTSTRAP_FLOOR:
        return f"p ≤ {verdict.p_holm:.2g}"
    if verdict.p_holm < _SMALLEST_P:
        return f"p < {_SMALLEST_P:.4f}"
    return f"p = {verdict.p_holm:.2g}"


def is_equivalent(verdict: Verdict) -> bool:
    """Tell whether two one-sided tests at 5 % show that a difference is smaller than the margin of its unit."""
    # Answers that never differ have no error, and so show nothing about other texts.
    if not verdict.tested or verdict.ci95[0] == verdict.ci95[1]:
        return False
    from scipy.special import stdtrit

    # They do where the 90 % interval lies within the margin. A bootstrap has no degrees of freedom: take the normal's.
    one_sided, two_sided = stdtrit(verdict.df or 1e9, [0.95, 0.975])
    ends = [verdict.pp + (end - verdict.pp) * one_sided / two_sided for end in verdict.ci95]
    return bool(max(map(abs, ends)) < _MARGINS[verdict.unit][1])


def describe_tie(verdict: Verdict) -> str:
    """The result of a test that is not significant: "equivalent within 1 point", or "not resolved at this n"."""
    if is_equivalent(verdict):
        return f"equivalent within {_MARGINS[verdict.unit][0]}"
    return "not resolved at this n"


def verdict_sentence(
    verdict: Verdict, budgets: Sequence[int], *, noun: str = "texts", label: Callable[[str], str] = str
) -> str:
    """A test and its statistics in a sentence; ``noun`` names what its ``n`` counts, ``label`` names methods."""
    ours = label(verdict.against)
    other = label(verdict.method)
    measure = ""
    if verdict.outcome != "accuracy":
        measure = f" in {name_outcome(verdict.outcome)}"
    if not verdict.tested:
        result = f"one seed, so no verdict{measure} on {ours} and {other}"
    elif verdict.tie and is_equivalent(verdict):
        result = f"{ours} and {other} are {describe_tie(verdict)}{measure}"
    elif verdict.tie:
        result = f"the difference{measure} between {ours} and {other} is not resolved at this n"
    elif verdict.better == verdict.against:
        result = f"{ours} is better than {other}{measure}"
    else:
        result = f"{other} is better than {ours}{measure}"
    statistics = _count_texts(verdict, noun)
    if verdict.tested:
        statistics = f"95 % interval {verdict.span}, {describe_p(verdict)} after Holm, {statistics}, "
        statistics += _count(verdict.seeds, "seed")
    return f"{capital(describe_test(verdict, budgets))}: {result} (lead of {ours}: {verdict.lead}, {statistics})"


def describe_better(verdict: Verdict, total: int, *, noun: str = "texts") -> str:
    """A test that another method wins, for a reader of one run; ``total`` heads, and ``noun`` as in a verdict."""
    lead = Estimate(-verdict.pp, (-verdict.ci95[1], -verdict.ci95[0]), verdict.n, verdict.unit)
    amount = lead.text
    if verdict.unit != "points":
        amount = f"{amount} {verdict.unit}"
    return (
        f"At {verdict.budget} of {total}, {after(verdict.recovery)}, {verdict.method} is better than "
        f"{method_label(verdict.against)} in {name_outcome(verdict.outcome)} by {amount.removeprefix('+')} "
        f"({lead.span}, {_count_texts(verdict, noun)}, {_count(verdict.seeds, 'seed')})"
    )


def headline(results: SplitResults) -> str:
    """The title of a comparison: which methods the reference beats after the cheapest recovery."""
    ours = method_label(results.against)
    tested = {verdict.recovery for verdict in results.verdicts if verdict.tested}
    if not results.verdicts:
        return f"Only {ours} was measured"
    if not tested:
        return "One seed: no verdict"
    if all(verdict.tie for verdict in (*results.verdicts, *results.overall)):
        return f"No difference from {ours} is resolved at this n"
    recovery = next(name for name in results.by_cost if name in tested)
    areas = [verdict for verdict in results.overall if verdict.recovery == recovery]
    tests: Iterable[Verdict] = areas or [verdict for verdict in results.verdicts if verdict.recovery == recovery]
    parts = [after(recovery)]
    if results.outcome != "accuracy":
        parts.insert(0, name_outcome(results.outcome))
    if areas:
        parts.append(over(areas[0].budgets, results.budgets))
    return capital(f"{', '.join(parts)}: {ahead_and_behind(results.against, tests)}")


def ahead_and_behind(against: str, verdicts: Iterable[Verdict]) -> str:
    """The methods that ``against`` is ahead of and behind, by tests after one recovery, as a clause."""
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
            notes.append(f"{_count(ties, 'other')} not resolved at this n")
    else:
        others = "the other method"
        if len(tests) > 1:
            others = f"any of the {len(tests)} others"
        result = f"no difference of {ours} from {others} is resolved at this n"
    if equivalent:
        notes.append(f"{_count(len(equivalent), 'other')} {describe_tie(equivalent[0])}")
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


def _count_texts(verdict: Verdict, noun: str) -> str:
    if noun == "texts":
        return f"n = {verdict.n:,}"
    return f"n = {verdict.n:,} {noun}"


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}s"


def join(names: Sequence[str], word: str = "and") -> str:
    """Join names for a sentence: "a, b and c"."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} {word} {names[-1]}"
