"""Statistics of a comparison: means with intervals, areas over budgets, and tests of differences.

One bootstrap serves all of them: seeds and texts are drawn with replacement and independently (Owen 2007). The draws
are the same for every method, so differences are paired. Cells with an error are left out, and the random masks that
share a seed are averaged first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.document import Area, AreaVerdict, CellRecord, ComparisonDocument, Mean, Verdict
from cahp.comparison.sentences import verdict_sentence
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
K = TypeVar("K", bound=Hashable)


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

    def draw_each(
        self, series: Mapping[K, tuple[NDArray[np.int64], NDArray[np.float64]]]
    ) -> dict[K, NDArray[np.float64]]:
        """The means of each of the ``series`` (places of its seeds, and ``values (S, n)``) in each of the draws.

        They are paired: subtract two of them to get the draws of a difference.
        """
        drawn: dict[K, NDArray[np.float64]] = {}
        groups: dict[tuple[int, ...], list[K]] = {}
        for key, (places, _) in series.items():
            groups.setdefault(tuple(places.tolist()), []).append(key)
        for seeds, keys in groups.items():
            means = self.means(np.array(seeds), np.array([series[key][1] for key in keys]))
            drawn |= zip(keys, means.T, strict=True)
        return drawn


def percentile_interval(draws: NDArray[np.float64]) -> tuple[float, float]:
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


# Means, areas and tests --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Series:
    """Share of correct predictions per text, ``values (S, n)``, of a method at a budget (None: the area over all).

    ``places (S,)`` are the places of its seeds in the document, ``cells`` what was averaged.
    """

    method: str
    budget: int | None
    places: NDArray[np.int64]
    values: NDArray[np.float64]
    cells: Sequence[CellRecord] = ()


class RecoveryStatistics:
    """Statistics of one part of a comparison (``eval`` or ``report``) after one recovery.

    ``correct (R, n)`` tells which predictions on the part are correct.
    """

    def __init__(
        self,
        document: ComparisonDocument,
        correct: NDArray[np.bool_],
        bootstrap: Bootstrap,
        *,
        part: str,
        recovery: str,
    ) -> None:
        self._bootstrap, self._part, self._recovery = bootstrap, part, recovery
        self._split = document.data.of(part).split
        groups: dict[tuple[str, int], list[CellRecord]] = {}
        for cell in document.finished:
            if recovery in cell.recoveries and cell.budget.attained is not None:
                groups.setdefault((cell.method, cell.budget.attained), []).append(cell)
        #: By method and budget, in the document's order.
        self._series: dict[tuple[str, int], Series] = {}
        for (method, budget), cells in groups.items():
            places, values = [], []
            for place, seed in enumerate(document.seeds):
                rows = [cell.recoveries[recovery].row for cell in cells if cell.seed == seed]
                if rows:
                    places.append(place)
                    values.append(correct[rows].mean(axis=0))
            self._series[method, budget] = Series(method, budget, np.array(places), np.array(values), cells)

        self._budgets = tuple(sorted({budget for _, budget in self._series}))

    @cached_property
    def _draws(self) -> dict[tuple[str, int], NDArray[np.float64]]:
        return self._bootstrap.draw_each({key: (one.places, one.values) for key, one in self._series.items()})

    def means(self) -> Iterator[Mean]:
        """The mean outcomes of each method at each budget; accuracy with its interval."""
        for (method, budget), series in self._series.items():
            measured = [cell.recoveries[self._recovery].measured for cell in series.cells]
            by_cell = [outcomes[self._part] for outcomes in measured if self._part in outcomes]
            accuracies = [outcomes["accuracy"].value for outcomes in by_cell]
            by_seed, n = series.values.mean(axis=1), int(series.values.shape[1])
            outcomes = {
                name: Estimate(mean, None, n, row.unit)
                for name, row in OUTCOMES.items()
                if (mean := mean_or_none(one[name].value for one in by_cell if name in one)) is not None
            }
            interval = percentile_interval(self._draws[method, budget])
            yield Mean(
                split=self._split,
                recovery=self._recovery,
                method=method,
                budget=budget,
                outcomes={**outcomes, "accuracy": Estimate(float(series.values.mean()), interval, n, "share")},
                lowest=min(accuracies),
                highest=max(accuracies),
                sd=float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
                seeds=len(by_seed),
                masks=len(series.cells),
            )

    @cached_property
    def _areas(self) -> dict[str, Series]:
        """The areas of the methods that were measured at all budgets with the same seeds."""
        areas: dict[str, Series] = {}
        for method in dict.fromkeys(method for method, _ in self._series):
            own = [self._series[method, budget] for budget in self._budgets if (method, budget) in self._series]
            seeds = {tuple(series.places.tolist()) for series in own}
            if 1 < len(own) == len(self._budgets) and len(seeds) == 1:
                values = np.array([series.values for series in own])
                area = np.tensordot(trapezoid_weights(self._budgets), values, axes=1)
                areas[method] = Series(method, None, own[0].places, area)
        return areas

    def areas(self) -> Iterator[Area]:
        """Area under accuracy against the number of heads, divided by its width: the mean accuracy over the budgets.

        Only methods that were measured at every budget have one, since areas over different budgets do not compare.
        """
        for method, series in self._areas.items():
            weights = zip(trapezoid_weights(self._budgets), self._budgets, strict=True)
            drawn = np.asarray(sum(weight * self._draws[method, budget] for weight, budget in weights))
            area, interval = float(series.values.mean()), percentile_interval(drawn)
            yield Area(self._split, self._recovery, method, area, interval, self._budgets)

    def verdicts(self, against: str) -> list[Verdict]:
        """Compare each method with ``against``, at every budget where both were measured."""
        pairs = [
            (self._series[against, budget], series)
            for (method, budget), series in self._series.items()
            if method != against and (against, budget) in self._series
        ]
        budgets = [budget for method, budget in self._series if method == against]
        return [replace(test, words=verdict_sentence(test, budgets)) for test in self._test(pairs)]

    def area_verdicts(self, against: str, budgets: Sequence[int]) -> list[AreaVerdict]:
        """Compare the area of each method with that of ``against``: one test per method.

        ``budgets`` are all budgets of the comparison; some recoveries are measured at a few of them.
        """
        if against not in self._areas:
            return []
        pairs = [(self._areas[against], area) for method, area in self._areas.items() if method != against]
        verdicts = [AreaVerdict(**vars(test), budgets=self._budgets) for test in self._test(pairs)]
        return [replace(verdict, words=verdict_sentence(verdict, budgets)) for verdict in verdicts]

    def _test(self, pairs: Sequence[tuple[Series, Series]]) -> Iterator[Verdict]:
        """Test a family of pairs (reference, method) on the seeds that both have, corrected for the family's size."""
        changes: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        for at, (reference, own) in enumerate(pairs):
            places, rows, columns = np.intersect1d(reference.places, own.places, return_indices=True)
            if len(places):
                changes[at] = places, reference.values[rows] - own.values[columns]
        drawn = self._bootstrap.draw_each(changes)
        ps = [two_sided_p(drawn[at]) for at in changes]
        for (at, (_, change)), p, p_holm in zip(changes.items(), ps, holm_correction(ps), strict=True):
            (reference, own), difference = pairs[at], float(change.mean())
            low, high = percentile_interval(drawn[at])
            better = None if p_holm > LEVEL else reference.method if difference > 0 else own.method
            yield Verdict(
                split=self._split,
                recovery=self._recovery,
                budget=own.budget,
                method=own.method,
                against=reference.method,
                pp=difference * 100,
                ci95=(low * 100, high * 100),
                p=p,
                p_holm=p_holm,
                tie=better is None,
                better=better,
                n=change.shape[1],
                seeds=change.shape[0],
            )


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def trapezoid_weights(budgets: Sequence[int]) -> NDArray[np.float64]:
    """Weights of ascending budgets in the area under straight lines between them; they sum to 1."""
    places = np.array(budgets, dtype=np.float64)
    return np.asarray(np.trapezoid(np.eye(len(places)), places) / (places[-1] - places[0]))
