"""Statistics of a comparison: means with intervals, areas over budgets, and tests of differences.

One bootstrap serves all of them: seeds and texts are drawn with replacement and independently (Owen 2007). The draws
are the same for every method, so differences are paired. Cells with an error are left out, and the random masks that
share a seed are averaged first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.document import CellRecord, ComparisonDocument
from cahp.comparison.sentences import verdict_sentence
from cahp.comparison.summary import Area, AreaVerdict, Interval, Mean, Verdict
from cahp.outcomes import OUTCOMES
from cahp.values import Estimate

DRAWS = 10_000
#: Draws per test of a family. The smallest possible p is two of all draws; with fewer draws no p could stay below the
#: level after the correction.
_DRAWS_PER_TEST = 80
_BLOCK = 1000
_SEED = 42
#: Above this corrected p, a test is a tie.
LEVEL = 0.05

#: Accuracies in each of the draws, by method and budget.
Draws = Mapping[tuple[str, int], NDArray[np.float64]]


# The bootstrap -----------------------------------------------------------------------------------------------


def count_draws(tests: int) -> int:
    """Number of draws for a family of ``tests`` tests."""
    return max(DRAWS, -(-_DRAWS_PER_TEST * tests // _BLOCK) * _BLOCK)


class Bootstrap:
    """Draws of ``seeds`` seeds and ``texts`` texts, enough for a family of ``tests`` tests."""

    def __init__(self, seeds: int, texts: int, *, tests: int = 1) -> None:
        random = np.random.default_rng(_SEED)
        drawn, blocks = [], []
        # The first draws are the same for any number of tests.
        for count in (DRAWS, count_draws(tests) - DRAWS):
            drawn.append(random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count))
            blocks.append(random.integers(2**32, size=count // _BLOCK))
        self._seeds, self._random = np.concatenate(drawn).astype(np.float64), np.concatenate(blocks)
        self._texts = texts

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self._seeds)

    def means(self, places: NDArray[np.int64], stack: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of ``stack (T, S, n)`` in each of the draws, ``(draws, T)``, for the seeds at ``places (S,)``."""
        weights = self._seeds[:, places]
        total = weights.sum(axis=1, keepdims=True)
        # After failures few seeds are left, and a draw may contain none of them: it then weighs them equally.
        weights = np.where(total > 0, weights / np.maximum(total, 1), 1 / len(places))
        flat = stack.reshape(-1, self._texts).T
        means = np.empty((self.draws, len(stack)))
        for block, seed in enumerate(self._random):
            part = slice(block * _BLOCK, (block + 1) * _BLOCK)
            counts = np.random.default_rng(int(seed)).multinomial(
                self._texts, np.full(self._texts, 1 / self._texts), size=_BLOCK
            )
            by_seed = (counts / self._texts) @ flat
            means[part] = np.einsum("bts,bs->bt", by_seed.reshape(_BLOCK, len(stack), -1), weights[part])
        return means


def percentile_interval(draws: NDArray[np.float64]) -> Interval:
    """The 95 % interval of ``draws``."""
    # Rounding removes the error of long sums; adding 0 turns -0.0 into 0.0.
    low, high = np.percentile(draws, [2.5, 97.5]).round(12) + 0.0
    return float(low), float(high)


def two_sided_p(draws: NDArray[np.float64]) -> float:
    """Twice the smaller share of draws at or beyond zero on either side, counted so that it is never 0."""
    # The tolerance covers the rounding error of long sums.
    below = int((draws <= 1e-12).sum())
    above = int((draws >= -1e-12).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(draws)))


def holm_correction(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: the smallest of m times m, the next times m - 1, ..., never falling."""
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected


# Means and areas ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TextAccuracies:
    """Share of correct predictions per text, ``values (S, n)``, for the seeds at ``places (S,)``."""

    places: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Series(TextAccuracies):
    """The accuracies of a method at a budget, and its cells."""

    method: str
    budget: int
    cells: Sequence[CellRecord]

    @property
    def key(self) -> tuple[int, ...]:
        """The places of its seeds, hashable."""
        return tuple(self.places.tolist())


def collect_series(document: ComparisonDocument, correct: NDArray[np.bool_], recovery: str) -> list[Series]:
    """One series per method and budget that was measured after ``recovery``, in the document's order.

    ``correct (R, n)`` tells which predictions on one split are correct.
    """
    groups: dict[tuple[str, int], list[CellRecord]] = {}
    for cell in document.finished:
        if recovery in cell.recoveries and cell.budget.attained is not None:
            groups.setdefault((cell.method, cell.budget.attained), []).append(cell)
    series = []
    for (method, budget), cells in groups.items():
        places, values = [], []
        for place, seed in enumerate(document.seeds):
            rows = [cell.recoveries[recovery].row for cell in cells if cell.seed == seed]
            if rows:
                places.append(place)
                values.append(correct[rows].mean(axis=0))
        series.append(Series(np.array(places), np.array(values), method, budget, cells))
    return series


def draw_accuracies(all_series: Sequence[Series], bootstrap: Bootstrap) -> Draws:
    """Accuracies in each of the draws. They are paired: subtract two of them to get the draws of a difference."""
    draws: dict[tuple[str, int], NDArray[np.float64]] = {}
    groups: dict[tuple[int, ...], list[Series]] = {}
    for series in all_series:
        groups.setdefault(series.key, []).append(series)
    for places, members in groups.items():
        drawn = bootstrap.means(np.array(places), np.array([series.values for series in members]))
        draws |= {(series.method, series.budget): drawn[:, column] for column, series in enumerate(members)}
    return draws


def compute_means(
    all_series: Sequence[Series], draws: Draws, *, part: str, split: str, recovery: str
) -> Iterator[Mean]:
    """Means with intervals. ``part`` is ``eval`` or ``report``, ``split`` the name of its split."""
    for series in all_series:
        by_cell = [outcomes for cell in series.cells if (outcomes := cell.recoveries[recovery].on(part)) is not None]
        accuracies = [outcomes["accuracy"].value for outcomes in by_cell]
        by_seed, n = series.values.mean(axis=1), int(series.values.shape[1])
        interval = percentile_interval(draws[series.method, series.budget])
        outcomes = {
            name: Estimate(mean, None, n, row.unit)
            for name, row in OUTCOMES.items()
            if (mean := mean_or_none(one[name].value for one in by_cell if name in one)) is not None
        }
        yield Mean(
            split=split,
            recovery=recovery,
            method=series.method,
            budget=series.budget,
            outcomes={**outcomes, "accuracy": Estimate(float(series.values.mean()), interval, n, "share")},
            lowest=min(accuracies),
            highest=max(accuracies),
            sd=float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
            seeds=len(by_seed),
            masks=len(series.cells),
        )


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def compute_areas(all_series: Sequence[Series], draws: Draws, *, split: str, recovery: str) -> Iterator[Area]:
    """Area under accuracy against the number of heads, divided by its width: the mean accuracy over the budgets.

    Only methods that were measured at every budget have one, since areas over different budgets do not compare.
    """
    budgets, weights, complete = _complete_methods(all_series)
    for method, series in complete.items():
        drawn = sum(weight * draws[method, budget] for weight, budget in zip(weights, budgets, strict=True))
        yield Area(
            split=split,
            recovery=recovery,
            method=method,
            area=float(_area_per_text(weights, series).mean()),
            ci95=percentile_interval(np.asarray(drawn)),
            budgets=tuple(budgets),
        )


def _complete_methods(all_series: Sequence[Series]) -> tuple[list[int], NDArray[np.float64], dict[str, list[Series]]]:
    """All budgets, their weights in an area, and the methods measured at all of them with the same seeds."""
    budgets = sorted({series.budget for series in all_series})
    if len(budgets) < 2:
        return budgets, np.ones(len(budgets)), {}
    complete = {}
    for method in dict.fromkeys(series.method for series in all_series):
        own = sorted((series for series in all_series if series.method == method), key=lambda series: series.budget)
        if [series.budget for series in own] == budgets and len({series.key for series in own}) == 1:
            complete[method] = own
    return budgets, trapezoid_weights(budgets), complete


def _area_per_text(weights: NDArray[np.float64], series: Sequence[Series]) -> NDArray[np.float64]:
    """The part of each text in a method's area, ``(S, n)``."""
    return np.asarray(np.tensordot(weights, np.array([one.values for one in series]), axes=1))


def trapezoid_weights(budgets: Sequence[int]) -> NDArray[np.float64]:
    """Weights of ascending budgets in the area under straight lines between them; they sum to 1."""
    steps = np.diff(np.array(budgets, dtype=np.float64))
    weights = np.zeros(len(budgets))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return np.asarray(weights / steps.sum())


# Tests -------------------------------------------------------------------------------------------------------


def describe_tests(against: str, *, draws: int) -> str:
    """How the differences are tested, in words."""
    return (
        f"Each method is compared with {against} at every budget and after every recovery, by a paired bootstrap over "
        f"texts and seeds ({draws:,} draws). p is corrected by Holm over all tests of one split and recovery; above "
        f"{LEVEL} a test is a tie. The areas over all budgets are tested in the same way, corrected over the methods."
    )


@dataclass(frozen=True, eq=False)
class _Pair:
    """A method at a budget (None: over all of them), with the accuracies of the reference and its own."""

    method: str
    budget: int | None
    reference: TextAccuracies
    own: TextAccuracies


def compare_at_budgets(
    all_series: Sequence[Series], bootstrap: Bootstrap, *, split: str, recovery: str, against: str
) -> list[Verdict]:
    """Each method compared with ``against``, at every budget where both were measured."""
    reference = {series.budget: series for series in all_series if series.method == against}
    pairs = [
        _Pair(series.method, series.budget, reference[series.budget], series)
        for series in all_series
        if series.method != against and series.budget in reference
    ]
    verdicts = _test_pairs(pairs, bootstrap, split=split, recovery=recovery, against=against)
    return [replace(verdict, words=verdict_sentence(verdict, list(reference))) for verdict in verdicts]


def compare_areas(
    all_series: Sequence[Series],
    bootstrap: Bootstrap,
    *,
    split: str,
    recovery: str,
    against: str,
    budgets: Sequence[int],
) -> list[AreaVerdict]:
    """The area of each method compared with that of ``against``: one test per method.

    ``budgets`` are all budgets of the comparison; some recoveries are measured at a few of them.
    """
    measured, weights, complete = _complete_methods(all_series)
    areas = {
        method: TextAccuracies(series[0].places, _area_per_text(weights, series)) for method, series in complete.items()
    }
    if against not in areas:
        return []
    pairs = [_Pair(method, None, areas[against], own) for method, own in areas.items() if method != against]
    tests = _test_pairs(pairs, bootstrap, split=split, recovery=recovery, against=against)
    verdicts = [AreaVerdict(**vars(test), budgets=tuple(measured)) for test in tests]
    return [replace(verdict, words=verdict_sentence(verdict, budgets)) for verdict in verdicts]


def _test_pairs(
    pairs: Sequence[_Pair], bootstrap: Bootstrap, *, split: str, recovery: str, against: str
) -> list[Verdict]:
    """Test a family of pairs, each on the seeds that both have, and correct for the size of the family."""
    changes: dict[int, NDArray[np.float64]] = {}
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, pair in enumerate(pairs):
        places, rows, columns = np.intersect1d(pair.reference.places, pair.own.places, return_indices=True)
        if len(places):
            changes[at] = pair.reference.values[rows] - pair.own.values[columns]
            groups.setdefault(tuple(places.tolist()), []).append(at)
    drawn: dict[int, NDArray[np.float64]] = {}
    for seeds, members in groups.items():
        means = bootstrap.means(np.array(seeds), np.array([changes[at] for at in members]))
        drawn |= zip(members, means.T, strict=True)
    ps = [two_sided_p(drawn[at]) for at in changes]
    verdicts = []
    for (at, change), p, p_holm in zip(changes.items(), ps, holm_correction(ps), strict=True):
        method, difference = pairs[at].method, float(change.mean())
        low, high = percentile_interval(drawn[at])
        better = None if p_holm > LEVEL else against if difference > 0 else method
        verdict = Verdict(
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
            n=change.shape[1],
            seeds=change.shape[0],
        )
        verdicts.append(verdict)
    return verdicts
