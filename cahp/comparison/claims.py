"""The paper's claims, tested on a finished comparison: each with a verdict and its n, in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cahp.comparison.document import ComparisonDocument
from cahp.comparison.sentences import (
    ahead_and_behind,
    describe_p,
    headline,
    join,
    list_heads,
    method_label,
    name_outcome,
)
from cahp.comparison.statistics import HEADLINE, Series, Verdict, compare_methods
from cahp.recoveries import NONE, RECOVERIES
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
    budgets = results.budgets
    if results.document.criticality is None:
        # Without it the finding is the same at every budget.
        budgets = budgets[:1]
    compression = [assess_compression(results, recovery) for recovery in results.by_cost]
    return (*compression, *(assess_critical_heads(results, budget) for budget in budgets))


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
    after = capital(RECOVERIES[recovery].beside)
    if not tests:
        words = f"{after}, nothing was tested at up to 20 % of the heads. {headline(results)}."
        return Finding(COMPRESSION, "not tested up to 20 %", words, recovery)
    won = {test.better == results.against for test in tests if test.better is not None}
    status = "mixed"
    if not any(test.tested for test in tests):
        status = "no verdict from one seed"
    elif not won:
        status = "not significant"
    elif won == {False}:
        status = "not supported"
    elif won == {True}:
        ahead = {test.method for test in tests if test.better is not None}
        status = "supported"
        if ahead < {test.method for test in tests if test.tested}:
            status = "partly supported"
    places = join(list(dict.fromkeys(list_heads(test.budgets) for test in tests)))
    finding = ahead_and_behind(results.against, tests, noun=results.noun)
    measure = capital(name_outcome(results.outcome))
    words = f"{measure}, {RECOVERIES[recovery].beside}, {places} of {results.total} heads: {finding}."
    return Finding(COMPRESSION, status, words, recovery)


# Keeps critical intermediate heads -----------------------------------------------------------------------------


def middle_third(layers: int) -> slice:
    """The layers in the middle third; both of two."""
    return slice(layers // 3, layers - layers // 3)


def kept_shares(document: ComparisonDocument, budget: int) -> pd.Series[float]:
    """The share of the criticality of the middle third that a method keeps at a budget, by method and seed.

    It is empty without criticality, or where the middle third has none.
    """
    middle = middle_third(document.model.layers)
    critical = document.critical[middle]
    rows = []
    for cell in document.cells:
        if cell.error is None and cell.budget["attained"] == budget and critical.sum() > 0:
            kept = (document.mask(cell)[middle] * critical).sum() / critical.sum()
            rows.append((cell.method, cell.seed, float(kept)))
    table = pd.DataFrame(rows, columns=["method", "seed", "share"])
    return table.groupby(["method", "seed"], sort=False)["share"].mean()


def compare_shares(shares: pd.Series[float], against: str) -> tuple[dict[str, float], dict[str, Verdict]]:
    """Return the share of each method, the largest first, and the tests of CAHP's lead over each other method.

    They are Student's t tests over the seeds that both have, corrected for all methods; with one seed there is none.
    """
    by_seed = shares.unstack("seed")
    means = by_seed.mean(axis=1).sort_values(ascending=False).to_dict()
    series: Series = {(name, None): by_seed.loc[[name]].T.dropna().set_axis([0], axis=1) for name in means}
    # Shares, as the accuracy is one.
    tests = compare_methods(series, against, "accuracy", margins={}, split="", recovery=NONE.name)
    return means, {test.method: test for test in tests if test.tested}


def assess_critical_heads(results: SplitResults, budget: int) -> Finding:
    """Assess whether CAHP keeps more of the criticality of the middle third than random selection and other methods."""
    document = results.document
    if document.criticality is None:
        return Finding(CRITICAL, "not measured", "The criticality of heads was not measured in this comparison.")
    ours = results.against
    shares, tests = compare_shares(kept_shares(document, budget), ours)
    random = tests.get(RANDOM)
    if random is None:
        return Finding(CRITICAL, "no verdict", "A verdict needs CAHP, random selection and two seeds.", budget=budget)
    keep_more = [name for name in shares if name != RANDOM and name in tests and tests[name].better == name]
    status = "not significant against random selection"
    if random.better == RANDOM:
        status = "not supported"
    elif random.better == ours and keep_more:
        status = "more than random selection"
    elif random.better == ours:
        status = "supported"
    words = (
        f"Of the criticality (output set to zero) of the middle third of the layers, at {budget} of {results.total} "
        f"heads, {method_label(ours)} keeps {percent(shares[ours])} and random selection {percent(shares[RANDOM])} "
        f"({random.lead.text}, {random.lead.span}, {describe_p(random.p_holm)}, n = {random.seeds} seeds)"
    )
    if keep_more:
        status += f", less than {len(keep_more)} of {len(shares) - 2} other methods"
        words += f"; {join(keep_more)} keep more"
    texts = document.criticality_texts or document.data.eval.examples
    words += f"; every head removed alone on n = {texts:,} {document.items} of {document.data.eval.split}."
    return Finding(CRITICAL, status, words, budget=budget)
