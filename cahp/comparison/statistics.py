"""Statistics of a comparison: means with intervals, areas over budgets, and tests of differences.

A mean is over texts (documents of a language model) and seeds, which are crossed: each seed has its own mask, and all
masks answer the same texts. Both vary, and so does what is left over. Their variance components give the error of the
mean, and Satterthwaite's (1946) degrees of freedom its t distribution. Differences are paired by seed and text. Cells
with an error are left out, and the random masks that share a seed are averaged first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.arrays import UnitSums
from cahp.comparison.document import (
    Area,
    AreaVerdict,
    CellRecord,
    ComparisonDocument,
    Mean,
    Verdict,
    list_tested,
)
from cahp.comparison.sentences import verdict_sentence
from cahp.outcomes import OUTCOMES, finite, to_perplexity
from cahp.values import Estimate, Floats, Unit

#: Above this corrected p, a test is a tie.
LEVEL = 0.05
#: The area is over budgets of up to this share of the heads, where at least two were measured.
HEADLINE = 0.2


class CrossedMean(NamedTuple):
    """A mean over seeds and texts with its 95 % interval, the two-sided ``p`` of zero, and its degrees of freedom."""

    mean: float
    low: float
    high: float
    p: float
    df: float


def crossed_mean(values: Floats, sizes: Floats | None = None) -> CrossedMean:
    """Estimate the mean of ``values (S, n)`` of seeds and texts; with one seed, its error is that of the texts alone.

    Documents of a language model differ in their ``sizes (n,)``, whose mean is 1 (None: all are 1): then a value is a
    sum over tokens, the mean is a ratio of sums, and errors are those of what is left over from it (linearisation).

    With mean squares ``A`` of seeds, ``B`` of texts and ``E`` of the rest, ``S n`` times the variance of the mean is
    ``A + B - E``. A component that would be negative is 0: then ``E`` takes the place of its mean square.
    """
    from scipy.special import stdtr, stdtrit

    seeds, texts = values.shape
    if sizes is None:
        sizes = np.ones(texts)
    mean = values.mean()
    by_seed = values.mean(axis=1)
    by_text = values.mean(axis=0)
    expected = mean * sizes
    rest = values - by_seed[:, None] * sizes - by_text + expected
    # A single seed or text has no variance of its own.
    free_seeds = max(seeds - 1, 1)
    free_texts = max(texts - 1, 1)
    squares = np.array(
        [
            texts * np.square(by_seed - mean).sum() / free_seeds,
            seeds * np.square(by_text - expected).sum() / free_texts,
            np.square(rest).sum() / (free_seeds * free_texts),
        ]
    )
    # Sums of long rows leave a rounding error where nothing varies.
    squares[squares < 1e-24] = 0.0
    counted = np.array([squares[0] > squares[2], squares[1] > squares[2], 1.0], dtype=np.float64)
    counted[2] -= counted[:2].sum()
    total = float(counted @ squares)
    uncertain = float((counted * squares) ** 2 @ [1 / free_seeds, 1 / free_texts, 1 / (free_seeds * free_texts)])
    df = float(free_seeds * free_texts)
    if uncertain:
        df = total**2 / uncertain
    error = np.sqrt(total / values.size)
    reach = 0.0
    # Standard errors from zero.
    away = np.inf
    if error:
        reach = float(stdtrit(df, 0.975)) * error
        away = abs(mean) / error
    if mean == 0:
        away = 0.0
    # Adding 0 turns -0.0 into 0.0.
    low, high = (round(float(end), 12) + 0.0 for end in (mean - reach, mean + reach))
    return CrossedMean(float(mean), low, high, float(2 * stdtr(df, -away)), df)


def _estimate(values: Floats, unit: Unit, sizes: Floats) -> Estimate:
    """The mean as an estimate, whose interval stays inside what a share or a divergence can be."""
    mean = crossed_mean(values, sizes)
    high = mean.high
    if unit == "share":
        high = min(high, 1.0)
    return Estimate(mean.mean, (max(mean.low, 0.0), high), values.shape[1], unit)


def holm_correction(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: the smallest of m times m, the next times m - 1, ..., never falling."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected


# Means, areas and tests --------------------------------------------------------------------------------------


class Series(NamedTuple):
    """The places of the seeds in the document, the values ``(S, n)`` of their texts, and the texts' ``sizes (n,)``."""

    places: tuple[int, ...]
    values: NDArray[np.float64]
    sizes: NDArray[np.float64]


def analyse(
    document: ComparisonDocument,
    tables: Mapping[str, UnitSums],
    *,
    part: str,
    recovery: str,
    against: str,
    budgets: Sequence[int],
) -> tuple[list[Mean], list[Area], list[Verdict]]:
    """Compute means, areas and tests of one part of a comparison (``eval`` or ``report``) after one recovery.

    ``tables`` are those of ``tabulate``. In each outcome of ``TESTED`` each method is compared with ``against`` at
    every budget where both were measured, and by its area: the mean over the budgets of up to 20 % of the heads (all
    budgets, if fewer than two are as small). Only methods that were measured at each of them have an area. ``budgets``
    are all of the comparison; some recoveries are measured at a few of them.
    """
    split = document.data.of(part).split
    masks: dict[tuple[str, int], list[CellRecord]] = {}
    for key, cells in document.masks.items():
        recovered = [cell for cell in cells if recovery in cell.recoveries]
        if recovered:
            masks[key] = recovered
    series: dict[str, dict[tuple[str, int | None], Series]] = {name: {} for name in tables}
    means = []
    for key, cells in masks.items():
        rows: dict[int, list[int]] = {}
        for cell in cells:
            rows.setdefault(cell.seed, []).append(cell.recoveries[recovery].row)
        places = tuple(place for place, seed in enumerate(document.seeds) if seed in rows)
        for name, table in tables.items():
            averages = [table.values[rows[document.seeds[place]]].mean(axis=0, dtype=np.float64) for place in places]
            series[name][key] = Series(places, np.array(averages), table.sizes)
        own_series = {name: by_key[key] for name, by_key in series.items()}
        means.append(_summarise_masks(cells, own_series, part, split=split, recovery=recovery, budget=key[1]))
    covered = _choose_area_budgets(document, {budget for _, budget in masks})
    all_areas: list[Area] = []
    verdicts: list[Verdict] = []
    for outcome in list_tested(tables):
        by_budget = series[outcome]
        sizes = tables[outcome].sizes
        areas: dict[tuple[str, int | None], Series] = {}
        for method in dict.fromkeys(method for method, _ in masks):
            own = [by_budget[method, budget] for budget in covered if (method, budget) in masks]
            if own and len(own) == len(covered) and len({one.places for one in own}) == 1:
                area = np.tensordot(trapezoid_weights(covered), np.array([one.values for one in own]), axes=1)
                areas[method, None] = Series(own[0].places, area, sizes)
                mean = _estimate(area, OUTCOMES[outcome].unit, sizes)
                ends = (mean.low, mean.high)
                all_areas.append(Area(split, recovery, method, mean.value, ends, covered, outcome))
        test = partial(_test, split=split, recovery=recovery, against=against, outcome=outcome)
        verdicts += test(by_budget)
        verdicts += [AreaVerdict(**vars(one), budgets=covered) for one in test(areas)]
    nouns = {name: document.noun(part, name) for name in tables}
    words = [verdict_sentence(one, budgets, noun=nouns[one.outcome]) for one in verdicts]
    return means, all_areas, [replace(one, words=sentence) for one, sentence in zip(verdicts, words, strict=True)]


def _choose_area_budgets(document: ComparisonDocument, measured: Collection[int]) -> tuple[int, ...]:
    """The budgets of an area, ascending: those of up to 20 % of the heads, or all; none if only one was measured."""
    if len(measured) < 2:
        return ()
    small = [budget for budget in measured if budget <= HEADLINE * document.model.layers * document.model.heads]
    if len(small) > 1:
        return tuple(sorted(small))
    return tuple(sorted(measured))


def _summarise_masks(cells: Sequence[CellRecord], series: Mapping[str, Series], part: str, **fields: Any) -> Mean:
    """The mean outcomes of masks: from texts where ``series`` has them, otherwise from the outcomes of each mask."""
    results = [cell.recoveries[fields["recovery"]] for cell in cells]
    by_cell = [result.measured[part] for result in results if part in result.measured]
    main = next(name for name in ("accuracy", "kl", "agreement") if name in series)
    by_seed = series[main].values.mean(axis=1)
    texts = series[main].values.shape[1]
    outcomes: dict[str, Estimate] = {}
    for name, row in OUTCOMES.items():
        of_masks = mean_or_none(own[name].value for own in by_cell if name in own)
        if of_masks is not None:
            outcomes[name] = Estimate(of_masks, None, texts, row.unit)
    of_texts = {name: _estimate(one.values, OUTCOMES[name].unit, one.sizes) for name, one in series.items()}
    if "bits_per_byte" in of_texts:
        of_texts["perplexity"] = to_perplexity(of_texts["nll"])
    outcomes |= finite(of_texts)
    accuracies = [own["accuracy"].value for own in by_cell if "accuracy" in own]
    sd: float | None = None
    if len(by_seed) > 1 and accuracies:
        sd = float(by_seed.std(ddof=1))
    decided = [result.accepted for result in results if result.accepted is not None]
    rejected: int | None = None
    if decided:
        rejected = decided.count(False)
    return Mean(
        **fields,
        method=cells[0].method,
        outcomes={name: outcomes[name] for name in OUTCOMES if name in outcomes},
        lowest=min(accuracies, default=None),
        highest=max(accuracies, default=None),
        sd=sd,
        seeds=len(by_seed),
        masks=len(cells),
        rejected=rejected,
    )


def _test(
    series: Mapping[tuple[str, int | None], Series], *, against: str, outcome: str, **fields: Any
) -> list[Verdict]:
    """Test a family of methods, each against ``against`` on the seeds that both have, corrected for its size."""
    changes: list[tuple[str, int | None, NDArray[np.float64]]] = []
    for (method, budget), own in series.items():
        if method != against and (against, budget) in series:
            theirs = series[against, budget]
            _, rows, columns = np.intersect1d(theirs.places, own.places, return_indices=True)
            if len(rows):
                changes.append((method, budget, theirs.values[rows] - own.values[columns]))
    if not changes:
        return []
    row = OUTCOMES[outcome]
    unit = row.unit
    scale = 1
    if row.unit == "share":
        unit = "points"
        scale = 100
    if row.lower_is_better:
        scale = -scale
    sizes = next(iter(series.values())).sizes
    means = [crossed_mean(scale * change, sizes) for _, _, change in changes]
    # One seed allows no test.
    several = [at for at, (_, _, change) in enumerate(changes) if len(change) > 1]
    corrected = dict(zip(several, holm_correction([means[at].p for at in several]), strict=True))
    verdicts = []
    for at, ((method, budget, change), mean) in enumerate(zip(changes, means, strict=True)):
        p_holm = corrected.get(at)
        p: float | None = None
        better: str | None = None
        if p_holm is not None:
            p = mean.p
            if p_holm <= LEVEL:
                better = against if mean.mean > 0 else method
        verdicts.append(
            Verdict(
                **fields,
                budget=budget,
                method=method,
                against=against,
                pp=mean.mean,
                ci95=(mean.low, mean.high),
                p=p,
                p_holm=p_holm,
                tie=better is None,
                better=better,
                n=change.shape[1],
                seeds=change.shape[0],
                outcome=outcome,
                unit=unit,
                df=mean.df,
            )
        )
    return verdicts


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    measured = [value for value in values if value is not None]
    if not measured:
        return None
    return float(np.mean(measured))


def trapezoid_weights(budgets: Sequence[int]) -> NDArray[np.float64]:
    """Weights of ascending budgets in the area under straight lines between them; they sum to 1."""
    places = np.array(budgets, dtype=np.float64)
    return np.asarray(np.trapezoid(np.eye(len(places)), places) / (places[-1] - places[0]))
