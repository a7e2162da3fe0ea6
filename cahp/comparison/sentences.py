"""The verdicts of a comparison in sentences: for its file and the terminal, for the screen, and one that sums up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cahp.comparison.plan import OURS
from cahp.comparison.summary import AreaVerdict, Verdict
from cahp.words import points, signed

if TYPE_CHECKING:
    from cahp.comparison.reading import Reading

#: What recoveries are called within a sentence, the cheapest first.
AFTER = {
    "none": "before recovery",
    "refit": "after refit",
    "distill": "after distillation",
    "finetune": "after fine-tuning",
}
#: Names that a sentence lists; more are counted.
_LISTED = 4


def called(method: str) -> str:
    """What people call a method."""
    return "CAHP" if method == OURS else method


def after(recovery: str) -> str:
    """What a recovery is called where options are named as one types them: in files and on the terminal."""
    return "before recovery" if recovery == "none" else f"after {recovery}"


def over(budgets: Sequence[int], every: Sequence[int]) -> str:
    """What an area is taken over: all budgets of a comparison (``every``), or which of them."""
    # Some recoveries are measured at some budgets alone. A file that somebody brought may not say at which.
    whole = not budgets or set(budgets) == set(every)
    return "over all budgets" if whole else f"over {_listed(list(map(str, budgets)))} heads"


def where(one: Verdict, every: Sequence[int]) -> str:
    """Where a test was made, with the names that options take; ``every`` are all budgets of the comparison."""
    heads = _heads(one, every)
    return heads if one.recovery == "none" else f"{heads} {after(one.recovery)}"


def _heads(one: Verdict, every: Sequence[int]) -> str:
    return over(one.budgets, every) if isinstance(one, AreaVerdict) else f"{one.budget} heads"


def sentence(one: Verdict, every: Sequence[int]) -> str:
    """A test with its statistics, as the file and the terminal say it: with the names that options take."""
    ends = f"[{signed(one.low)}, {signed(one.high)}]"
    if one.tie:
        said, of = f"{one.against} and {one.method}: no difference at this n", ""
    else:
        said, of = _better(one, one.against, one.method), f" for {one.against}"
    return f"{where(one, every)}: {said} {_statistics(one, of, ends)}"


def told(one: Verdict, every: Sequence[int]) -> str:
    """A test with its statistics, as the screen says it: with the names that people use."""
    ours, other = called(one.against), called(one.method)
    ends = f"{signed(one.low)} to {signed(one.high)}"
    heads = _capital(_heads(one, every))
    said = f"no difference between {ours} and {other} at this n" if one.tie else _better(one, ours, other)
    return f"{heads}, {AFTER[one.recovery]}: {said} {_statistics(one, f' for {ours}', ends)}"


def _better(one: Verdict, ours: str, other: str) -> str:
    better, worse = (ours, other) if one.better == one.against else (other, ours)
    return f"{better} is better than {worse}"


def _statistics(one: Verdict, of: str, ends: str) -> str:
    return (
        f"({points(one.pp)}{of}, 95 % interval {ends}, p = {one.p_holm:.2g} after Holm, n = {one.n:,}, "
        f"{one.seeds} seed{'' if one.seeds == 1 else 's'})"
    )


def _tested(found: Reading) -> list[str]:
    """The recoveries after which anything was tested; the cheapest first."""
    return [recovery for recovery in found.by_cost if any(one.recovery == recovery for one in found.verdicts)]


def _all_tie(found: Reading) -> bool:
    return all(one.tie for one in (*found.verdicts, *found.overall))


def in_short(found: Reading) -> str:
    """The first that ``headline`` says, as a title: how many are ahead and behind after the cheapest recovery."""
    ours = called(found.against)
    tested = _tested(found)
    if not tested:
        return f"Only {ours} was measured"
    if _all_tie(found):
        return f"No method differs from {ours} at this n"
    recovery = tested[0]
    whole: list[Verdict] = [one for one in found.overall if one.recovery == recovery]
    tests = whole or [one for one in found.verdicts if one.recovery == recovery]
    methods = {one.method for one in tests}
    ahead = {one.method for one in tests if one.better == found.against}
    behind = {one.method for one in tests if one.better not in (None, found.against)}
    of = f"{len(methods)} method{'' if len(methods) == 1 else 's'}"
    if not ahead | behind:
        said = f"{ours} does not differ from any of {of}"
    elif not behind:
        said = f"{ours} is ahead of {len(ahead)} of {of}"
    elif not ahead:
        said = f"{ours} is behind {len(behind)} of {of}"
    else:
        said = f"{ours} is ahead of {len(ahead)} of {of} and behind {len(behind)}"
    somewhere = not whole and len({one.budget for one in tests}) > 1 and bool(ahead | behind)
    return f"{AFTER[recovery].capitalize()}, {said}{' at some budgets' if somewhere else ''}"


def headline(found: Reading) -> str:
    """Who is ahead after which recovery, over the budgets where that was tested, in one sentence."""
    ours = called(found.against)
    tested = _tested(found)
    if not tested:
        return f"Only {ours} was measured, so there is nothing to hold it against."
    if _all_tie(found):
        when = _listed([AFTER[recovery] for recovery in tested], "or")
        return f"No method differs from {ours} at this n, {when}."
    areas = {recovery: [one for one in found.overall if one.recovery == recovery] for recovery in tested}
    spans = {recovery: over(of[0].budgets, found.budgets) for recovery, of in areas.items() if of}
    # Those that were measured over the most come first, and those at one budget alone last, with their budget.
    whole = [recovery for recovery, heads in spans.items() if heads == over(found.budgets, found.budgets)]
    parts = [f"{AFTER[recovery]}, {phrase(found.against, areas[recovery])}" for recovery in whole]
    parts += [
        f"{heads} {AFTER[recovery]}, {phrase(found.against, areas[recovery])}"
        for recovery, heads in spans.items()
        if recovery not in whole
    ]
    for recovery in [recovery for recovery in tested if recovery not in spans]:
        tests = [one for one in found.verdicts if one.recovery == recovery]
        heads = f"at {_listed(list(dict.fromkeys(str(one.budget) for one in tests)))} heads " if spans else ""
        parts.append(f"{heads}{AFTER[recovery]}, {phrase(found.against, tests)}")
    said = "; ".join(parts)
    return f"Over all budgets, {said}." if whole else f"{_capital(said)}."


def phrase(against: str, verdicts: Iterable[Verdict]) -> str:
    """Whom ``against`` is ahead of and behind by these tests, all after the same recovery, within a sentence."""
    ours = called(against)
    tests: dict[str, list[Verdict]] = {}
    for one in verdicts:
        tests.setdefault(one.method, []).append(one)
    if not tests:
        return f"{ours} was held against no other method"
    ahead = {name: [one for one in of if one.better == against] for name, of in tests.items()}
    behind = {name: [one for one in of if one.better == name] for name, of in tests.items()}
    parts = [f"{how} {_whom(at, tests)}" for how, at in (("ahead of", ahead), ("behind", behind)) if any(at.values())]
    if not parts:
        others = "the other method" if len(tests) == 1 else f"any of the {len(tests)} others"
        return f"{ours} does not differ from {others} at this n"
    ties = sum(not ahead[name] and not behind[name] for name in tests)
    rest = f", with no difference from {ties} other{'' if ties == 1 else 's'} at this n" if ties else ""
    return f"{ours} is {' and '.join(parts)}{rest}"


def _whom(at: Mapping[str, list[Verdict]], tests: Mapping[str, list[Verdict]]) -> str:
    """Methods by name, with the budgets where it holds at some of them only; many are counted."""
    names = [name for name, passed in at.items() if passed]
    if len(names) > _LISTED:
        everywhere = sum(len(at[name]) == len(tests[name]) for name in names)
        several = max(map(len, tests.values())) > 1
        return f"{len(names)} of {len(tests)} methods" + (f" ({everywhere} of them at every budget)" if several else "")
    return _listed(
        [
            called(name)
            + (
                ""
                if len(at[name]) == len(tests[name])
                else f" (at {_listed([str(one.budget) for one in at[name]])} heads)"
            )
            for name in names
        ]
    )


def _capital(said: str) -> str:
    return f"{said[:1].upper()}{said[1:]}"


def _listed(names: Sequence[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
