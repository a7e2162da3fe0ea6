"""Statistics of a comparison: means with intervals over texts and seeds, and corrected tests of differences.

A mean is over texts (documents of a language model) and seeds, which are crossed: each seed has its own mask, and all
masks answer the same texts. Both vary, and so does what is left over. Their variance components give the error of the
mean, and the number of seeds its degrees of freedom. Differences are paired by seed and text.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, QUICK
from cahp.values import Estimate, Floats, Interval, Names, Unit, holm_correction

#: The outcomes by which methods are tested against each other, the most telling one first; see ``list_tested``.
TESTED = ("kl", "agreement", "accuracy", "nll", "copying")
#: The area is over budgets of up to this share of the heads, where at least two were measured.
HEADLINE = 0.2
#: The level of all tests of a family together.
LEVEL = 0.05
#: The probability of finding the smallest difference that is called detectable.
POWER = 0.8
#: Differences below this share of the reference's KL divergence do not matter, nor those below so many points.
MARGIN_SHARE = 0.1
MARGIN_POINTS = 1.0
#: With fewer seeds a test has no verdict.
_FEWEST_SEEDS = 2


def list_tested(outcomes: Collection[str]) -> Names:
    """Return those of the ``outcomes`` by which methods are tested: losses take the place of the accuracy."""
    untested = ("nll", "copying") if "accuracy" in outcomes else ("accuracy",)
    return tuple(name for name in TESTED if name in outcomes and name not in untested)


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
    a = texts * np.square(by_seed - mean).sum() / free_seeds
    b = seeds * np.square(by_text - expected).sum() / free_texts
    e = np.square(rest).sum() / (free_seeds * free_texts)
    # Sums of long rows leave a rounding error where nothing varies.
    a, b, e = np.where(np.array([a, b, e]) < 1e-24, 0.0, [a, b, e])
    error = np.sqrt((max(a, e) + max(b, e) - e) / values.size)
    df = float(min((count - 1 for count in values.shape if count > 1), default=1))
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


def rescale(mean: float, ci95: Interval, df: float, level: float) -> Interval:
    """Return the interval of another ``level`` than 0.95 around a mean with ``df`` degrees of freedom."""
    from scipy.special import stdtrit

    wanted, given = stdtrit(df, [(1 + level) / 2, 0.975])
    low, high = (mean + (end - mean) * float(wanted / given) for end in ci95)
    return low, high


def trapezoid_weights(budgets: Sequence[int]) -> Floats:
    """Weights of ascending budgets in the area under straight lines between them; they sum to 1."""
    places = np.array(budgets, dtype=np.float64)
    return np.asarray(np.trapezoid(np.eye(len(places)), places) / (places[-1] - places[0]))


# Tests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One test: by how much ``against`` is better than ``method`` in an ``outcome``, and whether that is significant.

    ``pp`` is the lead of ``against`` in ``unit``: points of a share, or nats (less KL is better). It is at one
    ``budget``, or of the areas over several ``budgets`` (None). ``ci95`` is its own interval, ``simultaneous`` the one
    that is corrected for the other tests, as ``p_holm`` is ``p`` corrected for them. These three are None with one
    seed, which allows no verdict. A ``tie`` is not significant; otherwise ``better`` names the better method. ``df``
    are the degrees of freedom of the t test. Differences below ``margin`` do not matter (None: nats without a KL
    divergence to compare with).
    """

    split: str
    recovery: str
    budget: int | None
    method: str
    against: str
    pp: float
    ci95: Interval
    p: float | None
    p_holm: float | None = None
    tie: bool = True
    better: str | None = None
    n: int
    seeds: int
    outcome: str
    unit: Unit
    df: float
    simultaneous: Interval | None = None
    margin: float | None = None
    budgets: tuple[int, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether there were enough seeds for a verdict."""
        return self.seeds >= _FEWEST_SEEDS

    @property
    def interval(self) -> Interval:
        """The interval that stands beside the corrected p: the simultaneous one, if there is one."""
        return self.simultaneous or self.ci95

    @property
    def lead(self) -> Estimate:
        """The lead of ``against`` with the interval that stands beside the corrected p."""
        return Estimate(self.pp, self.interval, self.n, self.unit)

    @property
    def detectable(self) -> float:
        """The smallest difference, in ``unit``, that a test with this error finds with a probability of 80 %.

        It is approximate: Student's t at the corrected level plus that at ``POWER``, times the standard error.
        """
        _, reach = rescale(self.pp, self.ci95, self.df, 2 * POWER - 1)
        return self.interval[1] + reach - 2 * self.pp

    @property
    def equivalent(self) -> bool:
        """Whether two one-sided tests at 5 %, not corrected, show that the difference is smaller than its margin.

        They do where the 90 % interval lies within the margin.
        """
        # Answers that never differ have no error, and so show nothing about other texts.
        if not self.tested or self.margin is None or self.ci95[0] == self.ci95[1]:
            return False
        return max(map(abs, rescale(self.pp, self.ci95, self.df, 0.9))) < self.margin


#: Tests, in their order.
Verdicts = tuple[Verdict, ...]


def correct_family(tests: Sequence[Verdict]) -> list[Verdict]:
    """Correct tests for each other: p by Holm, and intervals by Bonferroni, so that they hold together.

    The interval decides: a difference is significant where it excludes 0, and then the corrected p is at most 0.05.
    One seed allows no test, and does not count.
    """
    tested = [test for test in tests if test.tested]
    holm = iter(holm_correction([test.p for test in tested if test.p is not None]))
    corrected = []
    for test in tests:
        if not test.tested:
            corrected.append(replace(test, p=None, p_holm=None))
            continue
        interval = rescale(test.pp, test.ci95, test.df, 1 - LEVEL / len(tested))
        better = None
        if interval[0] * interval[1] > 0:
            better = test.against if test.pp > 0 else test.method
        corrected.append(replace(test, p_holm=next(holm), simultaneous=interval, tie=better is None, better=better))
    return corrected


#: Values of seeds (rows) and texts (columns), by method and budget (None: the area over several).
Series = Mapping[tuple[str, int | None], pd.DataFrame]


def compare_methods(
    series: Series,
    against: str,
    outcome: str,
    sizes: Floats | None = None,
    *,
    margins: Mapping[int | None, float],
    covered: tuple[int, ...] = (),
    **place: Any,
) -> list[Verdict]:
    """Test each method against ``against`` in an outcome on the seeds that both have, corrected for all tests.

    ``margins`` are by budget, ``covered`` are the budgets of an area, and ``place`` the split and the recovery.
    """
    row = OUTCOMES[outcome]
    unit = row.unit
    scale = 1
    if row.unit == "share":
        unit = "points"
        scale = 100
    if row.lower_is_better:
        scale = -scale
    tests = []
    for (method, budget), own in series.items():
        if method == against or (against, budget) not in series:
            continue
        change = (scale * (series[against, budget] - own)).dropna().to_numpy()
        if len(change):
            mean = crossed_mean(change, sizes)
            test = Verdict(
                **place,
                budget=budget,
                method=method,
                against=against,
                pp=mean.mean,
                ci95=(mean.low, mean.high),
                p=mean.p,
                n=change.shape[1],
                seeds=len(change),
                outcome=outcome,
                unit=unit,
                df=mean.df,
                margin=margins.get(budget),
                budgets=covered if budget is None else (budget,),
            )
            tests.append(test)
    return correct_family(tests)


def choose_recovery(recoveries: Collection[str]) -> str:
    """The recovery of the primary test: the refit; without one, the pruned model as it is."""
    if QUICK.name in recoveries:
        return QUICK.name
    return NONE.name


def choose_endpoint(outcomes: Collection[str], budgets: Collection[int], total: int) -> tuple[str, tuple[int, ...]]:
    """Choose the outcome and the budgets of the primary test; several budgets stand for the area over them.

    The rule knows the plan alone: which outcomes and which budgets of ``total`` heads are measured, not what they give.
    The outcome is the first of ``TESTED`` among ``outcomes``, the KL divergence. The budgets are those of up to 20 % of
    the heads; without two of them it is the smallest budget.
    """
    small = sorted({budget for budget in budgets if budget <= HEADLINE * total})
    if len(small) < 2:
        small = sorted(budgets)[:1]
    return list_tested(outcomes)[0], tuple(small)
