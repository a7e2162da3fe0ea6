"""The paper's claims, assessed on comparisons whose numbers can be worked out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from comparisons import KEPT, cell, document, made, told, varied, verdict
from scipy import stats

from cahp.comparison import Comparison, SplitResults
from cahp.comparison.claims import (
    CRITICAL,
    assess_claims,
    assess_compression,
    assess_critical_heads,
    compare_shares,
    kept_shares,
    middle_third,
)
from cahp.comparison.statistics import Verdict, crossed_mean
from cahp.comparison.summary import Primary

#: By layer 6 and 10 nats in all.
CRITICALITY = ((3.0, 2.0, 1.0), (4.0, 0.0, 6.0))
#: Another random mask, which keeps 2 and 4 nats.
OTHER = {"0": [1], "1": [0, 1]}


def measured(*, other: dict[str, list[int]]) -> Comparison:
    """CAHP and random selection with two seeds and criticality; ``other`` is the random mask of the second seed."""
    right = np.arange(8) % 2 == 0
    kept = [
        *(("complementary", seed, KEPT["complementary"]) for seed in (1, 2)),
        *(("random", seed, one) for seed, one in ((1, KEPT["random"]), (2, other))),
    ]
    cells = [cell(name, row, heads, right, seed=seed) for row, (name, seed, heads) in enumerate(kept)]
    shown = replace(document(cells, seeds=(1, 2)), criticality=CRITICALITY)
    return Comparison(shown, {"eval": told([right] * 5)})


def test_a_method_keeps_the_share_of_criticality_that_its_heads_have() -> None:
    shares = kept_shares(measured(other=OTHER).document, 3)
    # 3 + 0 + 6 of 16 in the middle third, which is both layers.
    assert shares["complementary"].tolist() == pytest.approx([9 / 16, 9 / 16])
    assert shares["random"].tolist() == pytest.approx([5 / 16, 6 / 16])


@pytest.mark.parametrize(("layers", "middle"), [(1, [0]), (2, [0, 1]), (3, [1]), (6, [2, 3]), (12, [4, 5, 6, 7])])
def test_the_middle_third_lies_in_the_middle(layers: int, middle: list[int]) -> None:
    assert list(range(layers))[middle_third(layers)] == middle


def test_a_lead_is_supported_only_where_its_interval_excludes_0() -> None:
    unclear, clear = (measured(other=other).results for other in (OTHER, KEPT["random"]))
    assert assess_critical_heads(unclear, 3).status == "not significant against random selection"
    finding = assess_critical_heads(clear, 3)
    assert finding.status == "supported"
    assert (
        "CAHP keeps 56.2 % and random selection 31.2 % (+25.0 points, 25.0 to 25.0, p < 0.001, n = 2 seeds)"
        in finding.words
    )
    assert "n = 8 texts" in finding.words
    without = assess_critical_heads(replace(clear, summary=replace(clear.summary, against="random")), 3)
    assert without.status == "no verdict"


def test_critical_heads_are_compared_with_random_selection_and_with_every_other_method() -> None:
    right = np.arange(8) % 2 == 0
    # Of 16 nats CAHP keeps 9, random selection 5; the others keep 13, 10 and 3 with each seed, or 9 and 13.
    kept = {
        "complementary": [KEPT["complementary"]] * 2,
        "random": [KEPT["random"]] * 2,
        "fisher": [{"0": [0], "1": [0, 2]}] * 2,
        "gradient": [{"0": [2, 0], "1": [2]}] * 2,
        "magnitude": [{"0": [1, 2], "1": [1]}] * 2,
        "salience": [KEPT["complementary"], {"0": [0], "1": [0, 2]}],
    }
    cells = [
        cell(name, 2 * place + seed, mask, right, seed=seed + 1)
        for place, (name, masks) in enumerate(kept.items())
        for seed, mask in enumerate(masks)
    ]
    shown = replace(document(cells, seeds=(1, 2)), criticality=CRITICALITY)
    finding = assess_critical_heads(Comparison(shown, {"eval": told([right] * 13)}).results, 3)
    assert finding.status == "more than random selection, less than 2 of 4 other methods"
    assert finding.words.endswith(
        "; fisher and gradient keep more; every head removed alone on n = 8 texts of validation."
    )


def test_shares_are_corrected_for_all_methods_that_are_compared() -> None:
    values = {"complementary": [50, 52, 54, 51, 53], "random": [20, 30, 24, 27, 19], "gradient": [60, 51, 59, 55, 65]}
    rows = {(name, seed): one / 100 for name, own in values.items() for seed, one in enumerate(own)}
    shares, found = compare_shares(pd.Series(rows).rename_axis(["method", "seed"]), "complementary")
    assert list(shares) == ["gradient", "complementary", "random"]
    tests = {name: stats.ttest_rel(values["complementary"], values[name]) for name in ("random", "gradient")}
    assert found["random"].p_holm == pytest.approx(2 * tests["random"].pvalue)
    assert found["gradient"].p_holm == pytest.approx(tests["gradient"].pvalue)
    assert found["random"].interval == pytest.approx(tuple(tests["random"].confidence_interval(0.975)))


def test_one_seed_and_comparisons_without_criticality_allow_no_verdict_on_critical_heads() -> None:
    right = np.ones(8, dtype=np.bool_)
    once = made({name: [right] for name in KEPT})
    assert assess_critical_heads(once.results, 3).status == "not measured"
    once = Comparison(replace(once.document, criticality=CRITICALITY), once.answers)
    assert assess_critical_heads(once.results, 3).status == "no verdict"
    assert [one.status for one in assess_claims(once.results) if one.claim == CRITICAL] == ["no verdict"]


@pytest.fixture(scope="module")
def results() -> SplitResults:
    """A model of 72 heads, of which 3 and 5 are kept."""
    found = varied(divergences=True).results
    model = replace(found.document.model, layers=6, heads=12)
    return replace(found, document=replace(found.document, model=model), tests=(), primary=None)


def status(results: SplitResults, *tests: Verdict) -> str:
    return assess_compression(replace(results, tests=tests), "none").status


def test_the_first_claim_holds_where_cahp_is_ahead_of_every_other_method(results: SplitResults) -> None:
    ahead, behind = verdict("random", 3, "complementary"), verdict("gradient", 3, "gradient")
    tie = verdict("gradient", 3, None)
    assert status(results, ahead) == "supported"
    assert status(results, ahead, tie) == "partly supported"
    assert status(results, ahead, behind) == "mixed"
    assert status(results, behind) == "not supported"
    assert status(results, tie) == "not significant"
    assert status(results, replace(ahead, seeds=1)) == "no verdict from one seed"
    # More than 20 % of the heads.
    assert status(results, replace(ahead, budget=36, budgets=(36,))) == "not tested"


def test_the_primary_test_decides_where_it_is_on_few_heads(results: SplitResults) -> None:
    at = verdict("random", 3, None)
    primary = Primary("validation", "kl", "none", (3,), "", (verdict("random", 3, "complementary"),))
    named = replace(results, primary=primary, tests=(at,))
    assert assess_compression(named, "none").status == "supported"
    assert assess_compression(named, "refit").status == "not tested"
    many = replace(named, primary=replace(primary, budgets=(36,)))
    assert assess_compression(many, "none").status == "not significant"


def test_equivalence_is_shown_as_by_two_one_sided_tests_of_a_library() -> None:
    random, passed = np.random.default_rng(0), 0
    for _ in range(60):
        values = random.normal(0.3, 1.2, (1, 12))
        mean = crossed_mean(values)
        interval = (mean.low, mean.high)
        found = replace(verdict("random", 4, None), pp=mean.mean, ci95=interval, df=mean.df, margin=1.0).equivalent
        low, high = (
            stats.ttest_1samp(values[0], end, alternative=side) for end, side in ((1, "less"), (-1, "greater"))
        )
        assert found == (max(low.pvalue, high.pvalue) < 0.05)
        passed += found
    assert 0 < passed < 60
