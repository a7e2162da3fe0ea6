"""Statistics of a comparison: means with intervals, areas over budgets, and tests of differences.

One bootstrap serves all of them: seeds and texts are drawn with replacement and independently (Owen 2007). The draws
are the same for every method, so differences are paired. Cells with an error are left out, and the random masks that
share a seed are averaged first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeVar

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


class Statistics(NamedTuple):
    """Statistics of one part of a comparison after one recovery."""

    means: list[Mean]
    areas: list[Area]
    verdicts: list[Verdict]
    area_verdicts: list[AreaVerdict]


def analyse(
    document: ComparisonDocument,
    correct: NDArray[np.bool_],
    bootstrap: Bootstrap,
    *,
    part: str,
    recovery: str,
    against: str,
    budgets: Sequence[int],
) -> Statistics:
    """Compute the statistics of one part of a comparison (``eval`` or ``report``) after one recovery.

    ``correct (R, n)`` tells which predictions on the part are correct. Each method is compared with ``against`` at
    every budget where both were measured, and by its area: the mean accuracy over the budgets. Only methods that were
    measured at every budget have an area, since areas over different budgets do not compare. ``budgets`` are all of the
    comparison; some recoveries are measured at a few of them.
    """
    split = document.data.of(part).split
    series = _collect_series(document, correct, recovery)
    # Accuracies in each of the draws. They are paired: subtract two of them to get the draws of a difference.
    draws = bootstrap.draw_each({key: (one.places, one.values) for key, one in series.items()})
    means = []
    for (method, budget), one in series.items():
        measured = [cell.recoveries[recovery].measured for cell in one.cells]
        by_cell = [outcomes[part] for outcomes in measured if part in outcomes]
        accuracies = [outcomes["accuracy"].value for outcomes in by_cell]
        by_seed, n = one.values.mean(axis=1), int(one.values.shape[1])
        outcomes = {
            name: Estimate(mean, None, n, row.unit)
            for name, row in OUTCOMES.items()
            if (mean := mean_or_none(own[name].value for own in by_cell if name in own)) is not None
        }
        accuracy = Estimate(float(one.values.mean()), percentile_interval(draws[method, budget]), n, "share")
        means.append(
            Mean(
                split=split,
                recovery=recovery,
                method=method,
                budget=budget,
                outcomes={**outcomes, "accuracy": accuracy},
                lowest=min(accuracies),
                highest=max(accuracies),
                sd=float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
                seeds=len(by_seed),
                masks=len(one.cells),
            )
        )
    covered = tuple(sorted({budget for _, budget in series}))
    areas, of_areas = [], {}
    for method in dict.fromkeys(method for method, _ in series):
        keys = [(method, budget) for budget in covered if (method, budget) in series]
        seeds = {tuple(series[key].places.tolist()) for key in keys}
        if 1 < len(keys) == len(covered) and len(seeds) == 1:
            weights = trapezoid_weights(covered)
            values = np.tensordot(weights, np.array([series[key].values for key in keys]), axes=1)
            interval = percentile_interval(np.tensordot(weights, np.array([draws[key] for key in keys]), axes=1))
            areas.append(Area(split, recovery, method, float(values.mean()), interval, covered))
            of_areas[method] = Series(method, None, series[keys[0]].places, values)
    test = partial(_test, bootstrap=bootstrap, split=split, recovery=recovery)
    references = [(series.get((against, budget)), one) for (_, budget), one in series.items()]
    verdicts = test([(ours, one) for ours, one in references if ours is not None and one.method != against])
    own_budgets = [budget for method, budget in series if method == against]
    ours = of_areas.pop(against, None)
    area_verdicts = [] if ours is None else test([(ours, area) for area in of_areas.values()])
    by_area = [AreaVerdict(**vars(verdict), budgets=covered) for verdict in area_verdicts]
    return Statistics(
        means,
        areas,
        [replace(verdict, words=verdict_sentence(verdict, own_budgets)) for verdict in verdicts],
        [replace(verdict, words=verdict_sentence(verdict, budgets)) for verdict in by_area],
    )


def _collect_series(
    document: ComparisonDocument, correct: NDArray[np.bool_], recovery: str
) -> dict[tuple[str, int], Series]:
    """Average the masks of each seed; by method and budget, in the document's order."""
    groups: dict[tuple[str, int], list[CellRecord]] = {}
    for cell in document.finished:
        if recovery in cell.recoveries and cell.budget.attained is not None:
            groups.setdefault((cell.method, cell.budget.attained), []).append(cell)
    series = {}
    for (method, budget), cells in groups.items():
        by_seed = [[cell.recoveries[recovery].row for cell in cells if cell.seed == seed] for seed in document.seeds]
        places = np.array([place for place, rows in enumerate(by_seed) if rows])
        values = np.array([correct[rows].mean(axis=0) for rows in by_seed if rows])
        series[method, budget] = Series(method, budget, places, values, cells)
    return series


def _test(pairs: Sequence[tuple[Series, Series]], *, bootstrap: Bootstrap, split: str, recovery: str) -> list[Verdict]:
    """Test a family of pairs (reference, method) on the seeds that both have, corrected for the family's size."""
    changes: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for at, (reference, own) in enumerate(pairs):
        places, rows, columns = np.intersect1d(reference.places, own.places, return_indices=True)
        if len(places):
            changes[at] = places, reference.values[rows] - own.values[columns]
    drawn = bootstrap.draw_each(changes)
    ps = [two_sided_p(drawn[at]) for at in changes]
    verdicts = []
    for (at, (_, change)), p, p_holm in zip(changes.items(), ps, holm_correction(ps), strict=True):
        (reference, own), difference = pairs[at], float(change.mean())
        low, high = percentile_interval(drawn[at])
        better = None if p_holm > LEVEL else reference.method if difference > 0 else own.method
        verdicts.append(
            Verdict(
                split=split,
                recovery=recovery,
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
        )
    return verdicts


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def trapezoid_weights(budgets: Sequence[int]) -> NDArray[np.float64]:
    """Weights of ascending budgets in the area under straight lines between them; they sum to 1."""
    places = np.array(budgets, dtype=np.float64)
    return np.asarray(np.trapezoid(np.eye(len(places)), places) / (places[-1] - places[0]))
