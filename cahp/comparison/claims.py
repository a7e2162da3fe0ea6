"""The paper's claims, tested on a finished comparison: each with a verdict and its n, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cahp.comparison.document import ComparisonDocument
from cahp.comparison.sentences import ahead_and_behind, describe_p, join, list_heads, method_label, name_outcome
from cahp.comparison.statistics import HEADLINE, LEVEL, Verdict, crossed_mean, rescale
from cahp.recoveries import RECOVERIES
from cahp.values import Estimate, holm_correction
from cahp.words import capital, percent

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
    findings = [assess_compression(results, recovery) for recovery in results.by_cost]
    if results.document.criticality is None:
        # Without it the finding is the same at every budget.
        return (*findings, assess_critical_heads(results, results.budgets[0]))
    return (*findings, *(assess_critical_heads(results, budget) for budget in results.budgets))


# Better at high compression ------------------------------------------------------------------------------------


def compression_tests(results: SplitResults, recovery: str) -> list[Verdict]:
    """The tests of the area up to 20 % of the heads; without one, of each budget up to there.

    Where they are those of the primary test, they are corrected for its methods alone.
    """
    most = HEADLINE * results.total
    primary = results.primary
    if primary is not None and primary.recovery == recovery and max(primary.budgets) <= most:
        return [*primary.tests]
    small = [test for test in results.tests if test.recovery == recovery and max(test.budgets) <= most]
    return [test for test in small if test.budget is None] or small


def assess_compression(results: SplitResults, recovery: str) -> Finding:
    """Assess whether CAHP is better than the other methods at up to 20 % of the heads."""
    tests = compression_tests(results, recovery)
    after = RECOVERIES[recovery].beside
    if not tests:
        words = f"{capital(after)}, nothing was tested at up to 20 % of the heads."
        return Finding(COMPRESSION, "not tested", words, recovery)
    tested = [test for test in tests if test.tested]
    ahead = {test.method for test in tested if test.better == results.against}
    behind = {test.method for test in tested if test.better == test.method}
    status = "partly supported"
    if not tested:
        status = "no verdict from one seed"
    elif not ahead and not behind:
        status = "not significant"
    elif ahead and behind:
        status = "mixed"
    elif behind:
        status = "not supported"
    elif ahead == {test.method for test in tested}:
        status = "supported"
    places = join(list(dict.fromkeys(list_heads(test.budgets) for test in tests)))
    finding = ahead_and_behind(results.against, tests, noun=results.noun)
    measure = capital(name_outcome(results.outcome))
    return Finding(COMPRESSION, status, f"{measure}, {after}, {places} of {results.total} heads: {finding}.", recovery)


# Keeps critical intermediate heads -----------------------------------------------------------------------------


def middle_third(layers: int) -> slice:
    """The layers in the middle third; both of two."""
    return slice(layers // 3, layers - layers // 3)


def kept_shares(document: ComparisonDocument, budget: int) -> pd.Series[float]:
    """The share of the criticality of the middle third that a method keeps at a budget, by method and seed.

    It is empty without criticality, or where the middle third has none.
    """
    middle = middle_third(document.model.layers)
    critical = np.array(document.criticality or np.zeros((document.model.layers, document.model.heads)))[middle]
    rows: list[tuple[str, int, float]] = []
    for cell in document.cells:
        if cell.error is None and cell.budget["attained"] == budget and critical.sum() > 0:
            kept = (document.mask(cell)[middle] * critical).sum()
            rows.append((cell.method, cell.seed, float(kept / critical.sum())))
    table = pd.DataFrame(rows, columns=["method", "seed", "share"])
    return table.groupby(["method", "seed"], sort=False)["share"].mean()


@dataclass(frozen=True)
class ShareLead:
    """The share of criticality that a method keeps, and the ``lead`` of CAHP over it in points; its n counts seeds.

    ``p_holm`` and the interval are corrected for the other methods, as those of a ``Verdict``. They are None for CAHP
    itself, and for methods with fewer than two seeds in common with it.
    """

    share: float
    lead: Estimate | None = None
    p_holm: float | None = None

    @property
    def result(self) -> str:
        """Whether CAHP keeps significantly "more" or "less"; empty if neither, or not tested."""
        if self.lead is None or self.p_holm is None or self.p_holm > LEVEL:
            return ""
        return "more" if self.lead.value > 0 else "less"


def compare_shares(shares: pd.Series[float], against: str) -> dict[str, ShareLead]:
    """Compare CAHP with each other method, paired by seed: Student's t test over seeds. The largest share is first."""
    by_seed = shares.unstack("seed")
    compared = {
        str(name): ShareLead(float(share)) for name, share in by_seed.mean(axis=1).sort_values(ascending=False).items()
    }
    means = {}
    if against in compared:
        for method in compared:
            leads = (100 * (by_seed.loc[against] - by_seed.loc[method])).dropna().to_numpy()
            if method != against and len(leads) > 1:
                means[method] = crossed_mean(leads[:, None]), len(leads)
    corrected = holm_correction([mean.p for mean, _ in means.values()])
    for (method, (mean, seeds)), p_holm in zip(means.items(), corrected, strict=True):
        interval = rescale(mean.mean, (mean.low, mean.high), mean.df, 1 - LEVEL / len(means))
        lead = Estimate(mean.mean, interval, seeds, "points")
        compared[method] = ShareLead(compared[method].share, lead, p_holm)
    return compared


def assess_critical_heads(results: SplitResults, budget: int) -> Finding:
    """Assess whether CAHP keeps more of the criticality of the middle third than random selection and other methods."""
    document = results.document
    if document.criticality is None:
        return Finding(CRITICAL, "not measured", "The criticality of heads was not measured in this comparison.")
    compared = compare_shares(kept_shares(document, budget), results.against)
    random = compared.get(RANDOM)
    if random is None or random.lead is None:
        return Finding(CRITICAL, "no verdict", "A verdict needs CAHP, random selection and two seeds.", budget=budget)
    others = {name: one for name, one in compared.items() if name not in (RANDOM, results.against)}
    keep_more = [name for name, one in others.items() if one.result == "less"]
    status = _conclude(random, len(keep_more), len(others))
    words = (
        f"Of the criticality of the middle third of the layers, at {budget} of {results.total} heads, "
        f"{method_label(results.against)} keeps {percent(compared[results.against].share)} and random selection "
        f"{percent(random.share)} ({random.lead.text}, {random.lead.span}, {describe_p(random.p_holm)}, "
        f"n = {random.lead.n} seeds)"
    )
    if keep_more:
        words += f"; {join(keep_more)} keep more"
    texts = document.criticality_texts or document.data.eval.examples
    noun = "texts" if document.protocols is None else "windows"
    words += f"; every head removed alone on n = {texts:,} {noun} of {document.data.eval.split}."
    return Finding(CRITICAL, status, words, budget=budget)


def _conclude(random: ShareLead, keep_more: int, others: int) -> str:
    """The verdict on both sides: against random selection, and against the other methods."""
    status = "not significant against random selection"
    if random.result == "less":
        status = "not supported"
    elif random.result and not keep_more:
        return "supported"
    elif random.result:
        status = "more than random selection"
    if keep_more:
        status += f", less than {keep_more} of {others} other methods"
    return status


def list_shares(compared: Mapping[str, ShareLead]) -> list[tuple[str, str, Estimate | None, str]]:
    """The rows of a table: each method, the share that it keeps, the lead of CAHP over it, and its p."""
    return [
        (method_label(name), percent(one.share), one.lead, "" if one.lead is None else describe_p(one.p_holm))
        for name, one in compared.items()
    ]
