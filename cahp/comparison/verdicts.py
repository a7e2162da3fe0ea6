"""Which differences between methods are more than chance: one test for each method at each budget, and over all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.accuracy import Answered, Series, area, at_every_budget
from cahp.comparison.bootstrap import Bootstrap, holm, interval, two_sided
from cahp.comparison.sentences import sentence
from cahp.comparison.summary import AreaVerdict, Verdict

#: Above this corrected p, no difference was found.
LEVEL = 0.05


def rule(against: str, *, draws: int) -> str:
    """How the tests are made, with so many draws, in words."""
    return (
        f"Each method is tested against {against}, at every budget and after every recovery: a paired bootstrap "
        f"over texts and seeds ({draws:,} draws), p corrected by Holm over all tests of one split and "
        f"recovery; above {LEVEL} it is a tie. Over all budgets at once, the areas are tested likewise, corrected "
        "over the methods."
    )


@dataclass(frozen=True, eq=False)
class _Pair:
    """A method at a budget (None: over all of them), and the answers of the reference and its own."""

    method: str
    budget: int | None
    reference: Answered
    own: Answered


def verdicts(
    measured: Sequence[Series], bootstrap: Bootstrap, *, split: str, recovery: str, against: str
) -> list[Verdict]:
    """Each method against ``against``, at every budget where both were measured."""
    reference = {one.budget: one for one in measured if one.method == against}
    pairs = [
        _Pair(one.method, one.budget, reference[one.budget], one)
        for one in measured
        if one.method != against and one.budget in reference
    ]
    found = _tested(pairs, bootstrap, split=split, recovery=recovery, against=against)
    return [replace(one, words=sentence(one, list(reference))) for one in found]


def area_verdicts(
    measured: Sequence[Series],
    bootstrap: Bootstrap,
    *,
    split: str,
    recovery: str,
    against: str,
    every: Sequence[int],
) -> list[AreaVerdict]:
    """The areas against one of them: one test for each method, whatever the number of budgets.

    ``every`` are all budgets of the comparison, of which some recoveries are measured at some alone.
    """
    budgets, shares, whole = at_every_budget(measured)
    areas = {method: Answered(own[0].places, area(shares, own)) for method, own in whole.items()}
    if against not in areas:
        return []
    pairs = [_Pair(method, None, areas[against], one) for method, one in areas.items() if method != against]
    found = _tested(pairs, bootstrap, split=split, recovery=recovery, against=against)
    made = [AreaVerdict(**vars(one), budgets=tuple(budgets)) for one in found]
    return [replace(one, words=sentence(one, every)) for one in made]


def _tested(pairs: Sequence[_Pair], bootstrap: Bootstrap, *, split: str, recovery: str, against: str) -> list[Verdict]:
    """What a family of tests says, on the seeds that both of a pair have, corrected for how many tests they are."""
    changes: dict[int, NDArray[np.float64]] = {}
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, pair in enumerate(pairs):
        places, rows, columns = np.intersect1d(pair.reference.places, pair.own.places, return_indices=True)
        if len(places):
            changes[at] = pair.reference.values[rows] - pair.own.values[columns]
            groups.setdefault(tuple(places.tolist()), []).append(at)
    drawn: dict[int, NDArray[np.float64]] = {}
    for where, members in groups.items():
        found = bootstrap.means(np.array(where), np.array([changes[at] for at in members]))
        drawn |= zip(members, found.T, strict=True)
    ps = [two_sided(drawn[at]) for at in changes]
    made = []
    for (at, change), p, p_holm in zip(changes.items(), ps, holm(ps), strict=True):
        method, difference = pairs[at].method, float(change.mean())
        low, high = interval(drawn[at])
        seeds, n = change.shape
        better = None if p_holm > LEVEL else against if difference > 0 else method
        one = Verdict(
            split=split,
            recovery=recovery,
            budget=pairs[at].budget,
            method=method,
            against=against,
            pp=difference * 100,
            ci95=(low * 100, high * 100),
            p=p,
            p_holm=p_holm,
            tie=better is None,
            better=better,
            n=n,
            seeds=seeds,
        )
        made.append(one)
    return made
