"""Statistics of a comparison: means with intervals, areas over budgets, and tests of differences.

A mean is over texts (documents of a language model) and seeds, which are crossed: each seed has its own mask, and all
masks answer the same texts. Both vary, and so does what is left over. Their variance components give the error of the
mean, and the number of seeds its degrees of freedom. Differences are paired by seed and text. Cells with an error are
left out, and the random masks that share a seed are averaged first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cahp.comparison.arrays import UnitSums
from cahp.comparison.document import Area, AreaVerdict, ComparisonDocument, Mean, Primary, Verdict, list_tested
from cahp.comparison.sentences import describe_place, verdict_sentence
from cahp.outcomes import OUTCOMES, finite, to_perplexity
from cahp.recoveries import NONE, QUICK
from cahp.values import Estimate, Floats, Unit, holm_correction

#: The area is over budgets of up to this share of the heads, where at least two were measured.
HEADLINE = 0.2
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


def estimate_crossed(
    values: Floats | pd.DataFrame, unit: Unit, sizes: Floats | None = None, *, signed: bool = False
) -> Estimate:
    """The ``crossed_mean`` as an estimate; unless it is ``signed``, its interval stays in what a value can be."""
    mean = crossed_mean(np.asarray(values), sizes)
    low = mean.low
    high = mean.high
    if not signed:
        low = max(low, 0.0)
    if unit == "share":
        high = min(high, 1.0)
    return Estimate(mean.mean, (low, high), values.shape[1], unit)


# The primary test --------------------------------------------------------------------------------------------


class Endpoint(NamedTuple):
    """The outcome, recovery and budgets of the primary test; several budgets stand for the area over them."""

    outcome: str
    recovery: str
    budgets: tuple[int, ...]


def choose_recovery(recoveries: Collection[str]) -> str:
    """The recovery of the primary test: the refit; without one, the pruned model as it is."""
    if QUICK.name in recoveries:
        return QUICK.name
    return NONE.name


def choose_endpoint(outcomes: Collection[str], recovery: str, budgets: Collection[int], total: int) -> Endpoint:
    """Choose the primary test after ``recovery``, where ``budgets`` of ``total`` heads are measured.

    The rule knows the plan alone: which outcomes, recoveries and budgets are measured, not what they give. Its outcome
    is the first of ``TESTED`` among ``outcomes``, the KL divergence. It is the area over the budgets of up to 20 % of
    the heads; without two of them it is the smallest budget.
    """
    small = sorted({budget for budget in budgets if budget <= HEADLINE * total})
    if len(small) < 2:
        small = sorted(budgets)[:1]
    return Endpoint(list_tested(outcomes)[0], recovery, tuple(small))


def find_primary(document: ComparisonDocument, endpoint: Endpoint, part: str, tests: Sequence[Verdict]) -> Primary:
    """Find the primary test among all ``tests``, and correct it for its own methods alone."""
    split = document.data.of(part).split
    found: list[AreaVerdict] = []
    for test in tests:
        if (test.split, test.outcome, test.recovery) != (split, endpoint.outcome, endpoint.recovery):
            continue
        if isinstance(test, AreaVerdict) and test.budgets == endpoint.budgets:
            found.append(test)
        elif (test.budget,) == endpoint.budgets:
            found.append(AreaVerdict(**vars(test), budgets=endpoint.budgets))
    words = describe_place(*endpoint, document.model.layers * document.model.heads, document.model.unit)
    return Primary(split, *endpoint, words, tuple(correct_family(found)))


# Means, areas and tests --------------------------------------------------------------------------------------

#: Values of seeds (rows) and texts (columns), by method and budget (None: the area over several).
Series = Mapping[tuple[str, int | None], pd.DataFrame]


def analyse(
    document: ComparisonDocument,
    masks: pd.DataFrame,
    tables: Mapping[str, UnitSums],
    *,
    part: str,
    recovery: str,
    against: str,
) -> tuple[list[Mean], list[Area], list[Verdict]]:
    """Compute means, areas and tests of one part of a comparison (``eval`` or ``report``) after one recovery.

    ``masks`` are the rows of finished cells in ``tabulate_cells``, ``tables`` those of ``tabulate``. In each outcome of
    ``TESTED`` each method is compared with ``against`` at every budget where both were measured, and by its area: the
    mean over the budgets of up to 20 % of the heads (all budgets, if fewer than two are as small). Only methods that
    were measured at each of them, with the same seeds, have an area. The tests have no ``words`` yet.
    """
    masks = masks[(masks["part"] == part) & (masks["recovery"] == recovery)]
    groups = masks.groupby(["method", "attained"], sort=False)
    series: dict[str, dict[tuple[str, int | None], pd.DataFrame]] = {}
    for name, table in tables.items():
        values = pd.DataFrame(table.values[masks["row"].tolist()].astype(np.float64), index=masks["seed"])
        series[name] = {
            (method, int(budget)): values.iloc[rows].groupby(level=0, sort=False).mean()
            for (method, budget), rows in groups.indices.items()
        }
    place = {"split": document.data.of(part).split, "recovery": recovery}
    means = []
    for (method, budget), group in groups:
        own = {name: Crossed(by_key[method, budget], tables[name].sizes) for name, by_key in series.items()}
        means.append(_summarise_masks(group, own, method=method, budget=int(budget), **place))
    covered = _choose_area_budgets(document, {mean.budget for mean in means})
    all_areas: list[Area] = []
    verdicts: list[Verdict] = []
    # The KL divergence of the reference by budget, and that of its area.
    divergences: dict[int | None, float] = {}
    for outcome in list_tested(tables):
        sizes = tables[outcome].sizes
        areas = _measure_areas(series[outcome], covered)
        for (method, _), values in areas.items():
            area = estimate_crossed(values, OUTCOMES[outcome].unit, sizes)
            all_areas.append(
                Area(
                    **place,
                    method=method,
                    area=area.value,
                    ci95=(area.low, area.high),
                    budgets=covered,
                    outcome=outcome,
                )
            )
        if outcome == "kl":
            for (method, budget), values in {**series[outcome], **areas}.items():
                if method == against:
                    divergences[budget] = float(values.to_numpy().mean())
        verdicts += _test(series[outcome], sizes, divergences, against=against, outcome=outcome, **place)
        of_areas = _test(areas, sizes, divergences, against=against, outcome=outcome, **place)
        verdicts += [AreaVerdict(**vars(test), budgets=covered) for test in of_areas]
    return means, all_areas, verdicts


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


def _measure_areas(series: Series, covered: Sequence[int]) -> dict[tuple[str, int | None], pd.DataFrame]:
    """The areas of the methods that were measured at every budget with the same seeds."""
    areas: dict[tuple[str, int | None], pd.DataFrame] = {}
    for method in dict.fromkeys(method for method, _ in series):
        own = [series[method, budget] for budget in covered if (method, budget) in series]
        if own and len(own) == len(covered) and all(one.index.equals(own[0].index) for one in own):
            area = np.tensordot(trapezoid_weights(covered), np.array([one.to_numpy() for one in own]), axes=1)
            areas[method, None] = pd.DataFrame(area, index=own[0].index)
    return areas


class Crossed(NamedTuple):
    """Values of seeds (rows) and texts (columns), and the texts' ``sizes (n,)``."""

    values: pd.DataFrame
    sizes: NDArray[np.float64]


def _summarise_masks(masks: pd.DataFrame, series: Mapping[str, Crossed], **place: Any) -> Mean:
    """The mean outcomes of masks: from texts where ``series`` has them, otherwise from the outcomes of each mask."""
    main = next(name for name in ("accuracy", "kl", "agreement") if name in series)
    by_seed = series[main].values.mean(axis=1)
    of_masks = masks[list(OUTCOMES)].astype(np.float64).mean().dropna()
    outcomes = {}
    for name, value in of_masks.items():
        outcomes[name] = Estimate(float(value), None, series[main].values.shape[1], OUTCOMES[name].unit)
    of_texts = {name: estimate_crossed(one.values, OUTCOMES[name].unit, one.sizes) for name, one in series.items()}
    if "bits_per_byte" in of_texts:
        of_texts["perplexity"] = to_perplexity(of_texts["nll"])
    outcomes |= finite(of_texts)
    accuracies = masks["accuracy"].dropna()
    sd: float | None = None
    if len(by_seed) > 1 and len(accuracies):
        sd = float(by_seed.std())
    decided = masks["accepted"].dropna()
    rejected: int | None = None
    if len(decided):
        rejected = len(decided) - int(decided.sum())
    return Mean(
        **place,
        outcomes={name: outcomes[name] for name in OUTCOMES if name in outcomes},
        lowest=min(accuracies, default=None),
        highest=max(accuracies, default=None),
        sd=sd,
        seeds=len(by_seed),
        masks=len(masks),
        rejected=rejected,
    )


def _test(
    series: Series,
    sizes: Floats,
    divergences: Mapping[int | None, float],
    *,
    against: str,
    outcome: str,
    **place: Any,
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
        seeds = theirs.index.intersection(own.index)
        if seeds.empty:
            continue
        change = scale * (theirs.loc[seeds] - own.loc[seeds])
        mean = crossed_mean(change.to_numpy(), sizes)
        margin: float | None = MARGIN_POINTS
        if unit != "points":
            margin = MARGIN_SHARE * divergences[budget] if budget in divergences else None
        verdicts.append(
            Verdict(
                **place,
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
                words="",
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
    tested = [test for test in tests if test.tested]
    holm = iter(holm_correction([test.p for test in tested if test.p is not None]))
    corrected = []
    for test in tests:
        if not test.tested:
            corrected.append(replace(test, p=None, p_holm=None))
            continue
        p_holm = next(holm)
        better: str | None = None
        if p_holm <= LEVEL:
            better = test.against if test.pp > 0 else test.method
        interval = test.rescale(1 - LEVEL / len(tested))
        corrected.append(replace(test, p_holm=p_holm, simultaneous=interval, tie=better is None, better=better))
    return corrected


def trapezoid_weights(budgets: Sequence[int]) -> NDArray[np.float64]:
    """Weights of ascending budgets in the area under straight lines between them; they sum to 1."""
    places = np.array(budgets, dtype=np.float64)
    return np.asarray(np.trapezoid(np.eye(len(places)), places) / (places[-1] - places[0]))
