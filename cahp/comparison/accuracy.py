"""Who answered how many texts rightly: by method and budget, and over all budgets as an area.

Cells with an error are left out, and the masks that a method of chance draws with one seed are averaged first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.bootstrap import Bootstrap, interval
from cahp.comparison.document import CellRecord, ComparisonDocument
from cahp.comparison.summary import Area, Mean

#: Accuracies in each of the draws, by method and budget.
Draws = Mapping[tuple[str, int], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Answered:
    """Share of right answers to each text, ``values (S, n)``, for the seeds at ``places (S,)``."""

    places: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Series(Answered):
    """The answers of a method at a budget, and its cells."""

    method: str
    budget: int
    cells: Sequence[CellRecord]

    @property
    def where(self) -> tuple[int, ...]:
        """The places of its seeds, as a key."""
        return tuple(self.places.tolist())


def series(document: ComparisonDocument, right: NDArray[np.bool_], recovery: str) -> list[Series]:
    """All methods and budgets that were measured after ``recovery``, in the document's order.

    ``right (R, n)`` are the answers on one split.
    """
    groups: dict[tuple[str, int], list[CellRecord]] = {}
    for cell in document.finished:
        if recovery in cell.recoveries and cell.budget.attained is not None:
            groups.setdefault((cell.method, cell.budget.attained), []).append(cell)
    found = []
    for (method, budget), cells in groups.items():
        places, values = [], []
        for place, seed in enumerate(document.seeds):
            rows = [cell.recoveries[recovery].row for cell in cells if cell.seed == seed]
            if rows:
                places.append(place)
                values.append(right[rows].mean(axis=0))
        found.append(Series(np.array(places), np.array(values), method, budget, cells))
    return found


def draw(measured: Sequence[Series], bootstrap: Bootstrap) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Accuracies in each of the draws; they are paired, so those of a difference are the difference of them."""
    found: dict[tuple[str, int], NDArray[np.float64]] = {}
    groups: dict[tuple[int, ...], list[Series]] = {}
    for one in measured:
        groups.setdefault(one.where, []).append(one)
    for where, members in groups.items():
        drawn = bootstrap.means(np.array(where), np.array([one.values for one in members]))
        found |= {(one.method, one.budget): drawn[:, place] for place, one in enumerate(members)}
    return found


def means(measured: Sequence[Series], draws: Draws, *, part: str, split: str, recovery: str) -> Iterator[Mean]:
    """Means with intervals. ``part`` is ``eval`` or ``report``, ``split`` the name of its split."""
    for one in measured:
        measured_on = [cell.recoveries[recovery].on(part) for cell in one.cells]
        qualities = [each for each in measured_on if each is not None]
        by_seed = one.values.mean(axis=1)
        yield Mean(
            split=split,
            recovery=recovery,
            method=one.method,
            budget=one.budget,
            accuracy=float(one.values.mean()),
            ci95=interval(draws[one.method, one.budget]),
            lowest=min(each.accuracy for each in qualities),
            highest=max(each.accuracy for each in qualities),
            sd=float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
            macro_f1=mean_of(each.macro_f1 for each in qualities),
            loss=mean_of(each.loss for each in qualities),
            agreement=mean_of(each.agreement for each in qualities),
            delta_pp=mean_of(each.delta.pp for each in qualities if each.delta),
            n=int(one.values.shape[1]),
            seeds=len(by_seed),
            masks=len(one.cells),
        )


def mean_of(values: Iterator[float | None]) -> float | None:
    """The mean of what was measured, None if nothing was."""
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


# --- over all budgets


def areas(measured: Sequence[Series], draws: Draws, *, split: str, recovery: str) -> Iterator[Area]:
    """Area under accuracy against the number of heads, divided by its width: the mean accuracy over the budgets.

    Of the methods that were measured at every budget, since areas over different budgets do not compare.
    """
    budgets, shares, whole = at_every_budget(measured)
    for method, own in whole.items():
        drawn = sum(share * draws[method, budget] for share, budget in zip(shares, budgets, strict=True))
        yield Area(
            split=split,
            recovery=recovery,
            method=method,
            area=float(area(shares, own).mean()),
            ci95=interval(np.asarray(drawn)),
            budgets=tuple(budgets),
        )


def at_every_budget(measured: Sequence[Series]) -> tuple[list[int], NDArray[np.float64], dict[str, list[Series]]]:
    """All budgets, what each counts for in an area, and the methods measured at all of them with the same seeds."""
    budgets = sorted({one.budget for one in measured})
    if len(budgets) < 2:
        return budgets, np.ones(len(budgets)), {}
    found = {}
    for method in dict.fromkeys(one.method for one in measured):
        own = sorted((one for one in measured if one.method == method), key=lambda one: one.budget)
        if [one.budget for one in own] == budgets and len({one.where for one in own}) == 1:
            found[method] = own
    return budgets, trapezoid(budgets), found


def area(shares: NDArray[np.float64], own: Sequence[Series]) -> NDArray[np.float64]:
    """What each text adds to a method's area, ``(S, n)``."""
    return np.asarray(np.tensordot(shares, np.array([one.values for one in own]), axes=1))


def trapezoid(budgets: Sequence[int]) -> NDArray[np.float64]:
    """What each of the ascending budgets counts for in an area under lines between them; the sum is 1."""
    steps = np.diff(np.array(budgets, dtype=np.float64))
    shares = np.zeros(len(budgets))
    shares[:-1] += steps / 2
    shares[1:] += steps / 2
    return np.asarray(shares / steps.sum())
