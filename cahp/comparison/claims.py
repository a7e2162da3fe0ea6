"""The paper's claims, tested on a finished comparison: each with a verdict and its n, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cahp.comparison.document import AreaVerdict, ComparisonDocument, Verdict, rescale
from cahp.comparison.sentences import (
    after,
    ahead_and_behind,
    count_texts,
    join,
    method_label,
    name_outcome,
    write_p,
)
from cahp.comparison.statistics import HEADLINE, LEVEL, CrossedMean, crossed_mean
from cahp.values import Estimate, holm_correction
from cahp.words import capital

if TYPE_CHECKING:
    from cahp.comparison.result import SplitResults

COMPRESSION = "Better at high compression"
CRITICAL = "Keeps critical intermediate heads"
#: The baseline of the second claim.
RANDOM = "random"


@dataclass(frozen=True)
class Finding:
    """What a comparison says about a claim after a recovery (None: before any) at a budget (None: several).

    ``status`` is the verdict in two or three words, ``words`` the sentence with its numbers.
    """

    claim: str
    status: str
    words: str
    recovery: str | None = None
    budget: int | None = None


def assess_claims(results: SplitResults) -> tuple[Finding, ...]:
    """Assess the first claim after every recovery, and the second one at every budget."""
    budgets = results.budgets
    if results.document.criticality is None:
        # Without it the finding is the same at every budget.
        budgets = budgets[:1]
    findings = [assess_compression(results, recovery) for recovery in results.by_cost]
    findings += [assess_critical_heads(results, budget) for budget in budgets]
    return tuple(findings)


# Better at high compression ------------------------------------------------------------------------------------


def _small_budgets(results: SplitResults) -> set[int]:
    """The budgets of up to 20 % of the heads."""
    return {budget for budget in results.budgets if budget <= HEADLINE * results.total}


def compression_tests(results: SplitResults, recovery: str) -> list[Verdict]:
    """The tests of the area up to 20 % of the heads; without one, of each budget up to there.

    Where they are those of the primary test, they are corrected for its methods alone.
    """
    small = _small_budgets(results)
    primary = results.primary
    if primary is not None and primary.recovery == recovery and small.issuperset(primary.budgets):
        return [*primary.tests]
    areas: list[Verdict] = [
        area for area in results.overall if area.recovery == recovery and small.issuperset(area.budgets)
    ]
    return areas or [test for test in results.verdicts if test.recovery == recovery and test.budget in small]


def assess_compression(results: SplitResults, recovery: str) -> Finding:
    """Assess whether CAHP is better than the other methods at up to 20 % of the heads."""
    tests = compression_tests(results, recovery)
    measure = name_outcome(results.outcome)
    tested = [test for test in tests if test.tested]
    ahead = {test.method for test in tested if test.better == results.against}
    behind = {test.method for test in tested if test.better == test.method}
    if not tests:
        words = f"{capital(after(recovery))}, nothing was tested at up to 20 % of the heads."
        return Finding(COMPRESSION, "not tested", words, recovery)
    if not tested:
        status = "no verdict from one seed"
    elif not ahead and not behind:
        status = f"not significant ({count_texts(max(tested, key=lambda test: test.seeds), results.noun)})"
    elif ahead and behind:
        status = "mixed"
    elif behind:
        status = "not supported"
    elif ahead == {test.method for test in tested}:
        status = "supported"
    else:
        status = "partly supported"
    budgets = f"at {join(list(dict.fromkeys(str(test.budget) for test in tests)))}"
    if isinstance(tests[0], AreaVerdict) and tests[0].budget is None:
        budgets = f"over {join(list(map(str, tests[0].budgets)))}"
    n = count_texts(max(tests, key=lambda test: test.seeds), results.noun)
    finding = ahead_and_behind(results.against, tests, noun=results.noun)
    if n not in finding:
        finding += f"; {n}"
    words = f"{capital(measure)}, {after(recovery)}, {budgets} of {results.total} heads: {finding}."
    return Finding(COMPRESSION, status, words, recovery)


# Keeps critical intermediate heads -----------------------------------------------------------------------------


def middle_third(layers: int) -> slice:
    """The layers in the middle third; both of two."""
    return slice(layers // 3, layers - layers // 3)


def kept_shares(document: ComparisonDocument, budget: int) -> pd.DataFrame:
    """The shares of criticality that masks keep at a budget, a row for each with its ``method`` and ``seed``.

    The other columns are the layers, their ``middle`` third, and ``all`` layers. Without criticality there are no rows.
    """
    layers = document.model.layers
    groups = np.vstack([np.eye(layers), np.zeros(layers), np.ones(layers)])
    groups[-2, middle_third(layers)] = 1
    whole = np.zeros(layers + 2)
    kept = []
    cells = []
    if document.criticality is not None:
        criticality = np.array(document.criticality)
        whole = groups @ criticality.sum(axis=1)
        for cell in document.finished:
            if cell.budget.attained == budget:
                cells.append((cell.method, cell.seed))
                kept.append(groups @ (document.mask(cell) * criticality).sum(axis=1))
    # Nothing is a share of layers without criticality.
    shares = np.reshape(kept, (-1, layers + 2)) / np.where(whole > 0, whole, np.nan)
    table = pd.DataFrame(shares, columns=[*range(layers), "middle", "all"])
    return pd.concat([pd.DataFrame(cells, columns=["method", "seed"]), table], axis=1)


@dataclass(frozen=True)
class ShareLead:
    """The ``lead`` of CAHP over a method in a share of criticality, in points, whose ``n`` counts seeds.

    ``p_holm`` and the interval are corrected for the other methods, as those of a ``Verdict``.
    """

    method: str
    lead: Estimate
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether CAHP keeps significantly more or less."""
        return self.p_holm <= LEVEL


def compare_shares(shares: pd.DataFrame, against: str) -> dict[str, ShareLead]:
    """The leads of CAHP over each other method in the middle third, paired by seed: Student's t test over seeds.

    Methods with fewer than two seeds in common with CAHP have none.
    """
    middle = shares.groupby(["method", "seed"], sort=False)["middle"].mean().unstack("seed", sort=False)
    means: dict[str, tuple[CrossedMean, int]] = {}
    for method in middle.index:
        if method != against and against in middle.index:
            leads = (100 * (middle.loc[against] - middle.loc[method])).dropna().to_numpy()
            if len(leads) > 1:
                means[method] = crossed_mean(leads[:, None]), len(leads)
    corrected = holm_correction([mean.p for mean, _ in means.values()])
    compared = {}
    for (method, (mean, seeds)), p_holm in zip(means.items(), corrected, strict=True):
        interval = rescale(mean.mean, (mean.low, mean.high), mean.df, 1 - LEVEL / len(means))
        compared[method] = ShareLead(method, Estimate(mean.mean, interval, seeds, "points"), p_holm)
    return compared


def assess_critical_heads(results: SplitResults, budget: int) -> Finding:
    """Assess whether CAHP keeps more of the criticality of the middle third than random selection and other methods."""
    document = results.document
    if document.criticality is None:
        return Finding(CRITICAL, "not measured", "The criticality of heads was not measured in this comparison.")
    layers = range(document.model.layers)[middle_third(document.model.layers)]
    where = f"layer {layers[0]}"
    if len(layers) > 1:
        where = f"layers {layers[0]} to {layers[-1]}"
    shares = kept_shares(document, budget)
    means = shares.groupby("method", sort=False)["middle"].mean().dropna().to_dict()
    words = f"Of the criticality of the middle third ({where}), at {budget} of {results.total} heads, "
    compared = compare_shares(shares, results.against)
    if RANDOM in compared:
        status = _conclude(compared)
        words += f"{_write_share(results.against, means)}: {'; '.join(_list_sides(compared, means))}"
    else:
        status = "no verdict"
        names = dict.fromkeys((results.against, RANDOM))
        parts = [_write_share(name, means) for name in names if name in means]
        words += f"{join(parts or ['nothing was measured'])}; a verdict needs CAHP, random selection and two seeds"
    texts = document.data.eval
    noun = "texts" if document.protocol("eval") is None else "windows"
    count = document.criticality_texts
    if count is None:
        count = texts.examples
    words += f"; every head removed alone on n = {count:,} {noun} of {texts.split}."
    return Finding(CRITICAL, status, words, budget=budget)


def _conclude(compared: Mapping[str, ShareLead]) -> str:
    """The verdict on both sides: against random selection, and against the other methods."""
    random = compared[RANDOM]
    others = [one for one in compared.values() if one.method != RANDOM]
    keep_more = [one for one in others if one.significant and one.lead.value < 0]
    status = f"not significant against random selection (n = {random.lead.n} seeds)"
    if random.significant and random.lead.value > 0:
        status = "supported"
        if keep_more:
            status = "more than random selection"
    elif random.significant:
        status = "not supported"
    if len(others) == len(keep_more) == 1:
        status += ", less than the other method"
    elif keep_more:
        status += f", less than {len(keep_more)} of {len(others)} other methods"
    return status


def _list_sides(compared: Mapping[str, ShareLead], means: Mapping[str, float]) -> Iterator[str]:
    """List the methods that keep significantly less than CAHP, significantly more, and neither, with their shares."""
    sides: dict[str, list[str]] = {"more than": [], "less than": [], "not significant against": []}
    for name in sorted(compared, key=lambda name: means[name]):
        one = compared[name]
        side = "not significant against"
        if one.significant:
            side = "less than"
            if one.lead.value > 0:
                side = "more than"
        share = f"{_name_selection(name)} {_share_text(means[name])}"
        if name == RANDOM:
            share += f" ({one.lead.text}, {one.lead.span}, {write_p(one.p_holm)})"
        sides[side].append(share)
    for side, parts in sides.items():
        if parts:
            yield f"{side} {join(parts)}"
    seeds = max(one.lead.n for one in compared.values())
    yield f"n = {seeds} seeds, p of all methods by Holm, simultaneous interval"


def _name_selection(method: str) -> str:
    """A method as sentences on criticality name it."""
    if method == RANDOM:
        return "random selection"
    return method_label(method)


def _write_share(method: str, means: Mapping[str, float]) -> str:
    return f"{_name_selection(method)} keeps {_share_text(means[method])}"


def _share_text(share: float) -> str:
    return Estimate(share, None, 1, "share").text
