"""Statistics of a comparison: means with intervals, areas over budgets, and tests of differences.

A mean is over texts (documents of a language model) and seeds, which are crossed: each seed has its own mask, and all
masks answer the same texts. Both vary, and so does what is left over. Their variance components give the error of the
mean, and the number of seeds its degrees of freedom. Differences are paired by seed and text. Cells with an error are
left out, and the random masks that share a seed are averaged first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.arrays import UnitSums
from cahp.comparison.document import (
    Area,
    AreaVerdict,
    CellRecord,
    ComparisonDocument,
    Mean,
    Primary,
    Verdict,
    list_tested,
)
from cahp.comparison.primary import HEADLINE, Endpoint
from cahp.comparison.sentences import describe_place, verdict_sentence
from cahp.outcomes import OUTCOMES, finite, to_perplexity
from cahp.values import Estimate, Floats, Unit, holm_correction

#: Above this corrected p, a test is a tie.
LEVEL = 0.05
#: Differences below this share of the reference's KL divergence do not matter, nor those below so many points.
MARGIN_SHARE = 0.1
MARGIN_POINTS = 1.0
Test = TypeVar("Test", bound=Verdict)


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

    The mean is a statement about a method, whose masks differ from seed to seed, and ``S`` seeds are all that is known
    of them. So it has ``S - 1`` degrees of freedom, like Student's t test over the means of seeds, whose interval is
    never wider. Satterthwaite's (1946) number can be as large as that of the texts: a few masks that happen to agree
    make ``A`` small, and their component 0, which is no evidence that other masks agree. Fewer texts than seeds allow
    one less than there are texts. One seed is a statement about its mask alone, with ``n - 1`` degrees of freedom.
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
    df = float(min((count - 1 for count in values.shape if count > 1), default=1))
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


def estimate_crossed(values: Floats, unit: Unit, sizes: Floats | None = None, *, signed: bool = False) -> Estimate:
    """The ``crossed_mean`` as an estimate; unless it is ``signed``, its interval stays in what a value can be."""
    mean = crossed_mean(values, sizes)
    low = mean.low
    high = mean.high
    if not signed:
        low = max(low, 0.0)
    if unit == "share":
        high = min(high, 1.0)
    return Estimate(mean.mean, (low, high), values.shape[1], unit)


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
) -> tuple[list[Mean], list[Area], list[Verdict]]:
    """Compute means, areas and tests of one part of a comparison (``eval`` or ``report``) after one recovery.

    ``tables`` are those of ``tabulate``. In each outcome of ``TESTED`` each method is compared with ``against`` at
    every budget where both were measured, and by its area: the mean over the budgets of up to 20 % of the heads (all
    budgets, if fewer than two are as small). Only methods that were measured at each of them have an area. The tests
    have no ``words`` yet.
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
    # The KL divergence of the reference by budget, and that of its area.
    divergences: dict[int | None, float] = {}
    for outcome in list_tested(tables):
        by_budget = series[outcome]
        sizes = tables[outcome].sizes
        areas: dict[tuple[str, int | None], Series] = {}
        for method in dict.fromkeys(method for method, _ in masks):
            own = [by_budget[method, budget] for budget in covered if (method, budget) in masks]
            if own and len(own) == len(covered) and len({one.places for one in own}) == 1:
                area = np.tensordot(trapezoid_weights(covered), np.array([one.values for one in own]), axes=1)
                areas[method, None] = Series(own[0].places, area, sizes)
                mean = estimate_crossed(area, OUTCOMES[outcome].unit, sizes)
                ends = (mean.low, mean.high)
                all_areas.append(Area(split, recovery, method, mean.value, ends, covered, outcome))
        if outcome == "kl":
            reference = {budget: own for (name, budget), own in {**by_budget, **areas}.items() if name == against}
            divergences = {budget: float(own.values.mean()) for budget, own in reference.items()}
        test = partial(_test, divergences, split=split, recovery=recovery, against=against, outcome=outcome)
        verdicts += test(by_budget)
        verdicts += [AreaVerdict(**vars(one), budgets=covered) for one in test(areas)]
    return means, all_areas, verdicts


def find_primary(document: ComparisonDocument, endpoint: Endpoint, part: str, tests: Sequence[Verdict]) -> Primary:
    """Find the primary test among all ``tests``, and correct it for its own methods alone."""
    split = document.data.of(part).split
    place = (split, *endpoint[:2])
    found: list[AreaVerdict] = []
    for test in tests:
        if (test.split, test.outcome, test.recovery) != place:
            continue
        if isinstance(test, AreaVerdict) and test.budgets == endpoint.budgets:
            found.append(test)
        elif (test.budget,) == endpoint.budgets:
            found.append(AreaVerdict(**vars(test), budgets=endpoint.budgets))
    words = describe_place(*endpoint, document.model.layers * document.model.heads, document.model.unit)
    return Primary(split, *endpoint, words, tuple(correct_family(found)))


def add_words(document: ComparisonDocument, tests: Iterable[Test], budgets: Sequence[int]) -> Iterator[Test]:
    """Add to each test its sentence; ``budgets`` are all of the comparison."""
    parts = {document.data.of(part).split: part for part in document.parts}
    for test in tests:
        noun = document.noun(parts[test.split], test.outcome)
        yield replace(test, words=verdict_sentence(test, budgets, noun=noun))


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
    of_texts = {name: estimate_crossed(one.values, OUTCOMES[name].unit, one.sizes) for name, one in series.items()}
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
    divergences: Mapping[int | None, float],
    series: Mapping[tuple[str, int | None], Series],
    *,
    against: str,
    outcome: str,
    **fields: Any,
) -> list[Verdict]:
    """Test a family of methods, each against ``against`` on the seeds that both have, corrected for its size.

    ``divergences`` are those of ``against`` by budget.
    """
    row = OUTCOMES[outcome]
    unit = row.unit
    scale = 1
    if row.unit == "share":
        unit = "points"
        scale = 100
    if row.lower_is_better:
        scale = -scale
    verdicts = []
    for (method, budget), own in series.items():
        if method == against or (against, budget) not in series:
            continue
        theirs = series[against, budget]
        _, rows, columns = np.intersect1d(theirs.places, own.places, return_indices=True)
        if not len(rows):
            continue
        change = theirs.values[rows] - own.values[columns]
        mean = crossed_mean(scale * change, own.sizes)
        margin: float | None = MARGIN_POINTS
        if unit != "points":
            margin = None
            if budget in divergences:
                margin = MARGIN_SHARE * divergences[budget]
        verdicts.append(
            Verdict(
                **fields,
                budget=budget,
                method=method,
                against=against,
                pp=mean.mean,
                ci95=(mean.low, mean.high),
                p=mean.p,
                p_holm=None,
                tie=True,
                better=None,
                n=change.shape[1],
                seeds=change.shape[0],
                outcome=outcome,
                unit=unit,
                df=mean.df,
                margin=margin,
            )
        )
    return correct_family(verdicts)


def correct_family(tests: Sequence[Test]) -> list[Test]:
    """Correct tests for each other: p by Holm, and intervals by Bonferroni, so that they hold together.

    An interval without 0 then never has a corrected p above 0.05. One seed allows no test, and does not count.
    """
    tested = [place for place, test in enumerate(tests) if test.tested]
    ps = [p for place in tested if (p := tests[place].p) is not None]
    corrected = list(tests)
    for place, p_holm in zip(tested, holm_correction(ps), strict=True):
        test = tests[place]
        better: str | None = None
        if p_holm <= LEVEL:
            better = test.method
            if test.pp > 0:
                better = test.against
        interval = test.rescale(1 - LEVEL / len(tested))
        corrected[place] = replace(test, p_holm=p_holm, simultaneous=interval, tie=better is None, better=better)
    for place in set(range(len(tests))).difference(tested):
        corrected[place] = replace(tests[place], p=None, p_holm=None)
    return corrected


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
