"""Statistics and claims of a comparison, checked against numbers worked out by hand, a library, and a bootstrap."""

import csv
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from comparisons import KEPT, MORE, cell, document, failed, file, made, told, varied, verdict
from numpy.typing import NDArray
from scipy import stats

from cahp.comparison import Comparison, SplitResults, claims, statistics, summarise
from cahp.comparison.document import ComparisonDocument
from cahp.comparison.sentences import describe_p, describe_result, headline
from cahp.comparison.summary import Primary
from cahp.values import holm_correction
from cahp.values.statistics import expected_jaccard


def test_holm_s_correction_is_the_textbook_s() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, 0.9 * 1.
    assert holm_correction([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    # A larger p never becomes the smaller one.
    assert holm_correction([0.02, 0.021]) == pytest.approx([0.04, 0.04])
    assert holm_correction([0.8, 0.9]) == [1.0, 1.0]
    assert holm_correction([]) == []
    # A small p is a bound, and one that is not significant is not rounded to 0.05.
    assert [describe_p(p) for p in (0.003, 9e-4, 0.0502)] == ["p = 0.003", "p < 0.001", "p = 0.0502"]


def test_the_error_of_a_mean_is_that_of_its_variance_components() -> None:
    # Seeds (rows) have means 1 and 4, texts 1.5, 2 and 4; the mean is 2.5.
    values = np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 6.0]])
    found = statistics.crossed_mean(values)
    # Mean squares: seeds 3 * (1.5^2 + 1.5^2) / 1, texts 2 * (1 + 0.25 + 2.25) / 2, rest 0.5 * 4 * 0.25 / 2.
    of_seeds, of_texts, rest = 13.5, 3.5, 0.5
    error = np.sqrt((of_seeds + of_texts - rest) / 6)
    # Two seeds have one degree of freedom.
    assert (found.mean, found.df) == (2.5, 1)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 1, loc=2.5, scale=error))
    assert found.p == pytest.approx(2 * stats.t.sf(2.5 / error, 1))
    # With one seed it is the t test over texts.
    values = np.random.default_rng(0).normal(0.1, 1.0, (1, 40))
    found, theirs = statistics.crossed_mean(values), stats.ttest_1samp(values[0], 0.0)
    assert (found.p, found.df) == pytest.approx((theirs.pvalue, 39))
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    # Three masks that agree have the degrees of freedom of three seeds.
    random = np.random.default_rng(3)
    of_texts = random.normal(1.0, 1.0, 1000)
    values = of_texts + random.normal(0, 0.1, (3, 1000))
    found = statistics.crossed_mean(values)
    # The mean square of seeds is less than that of the rest, so their component is 0: texts alone decide the error.
    assert 1000 * np.var(values.mean(axis=1), ddof=1) < 0.1**2
    assert stats.ttest_1samp(values.mean(axis=0), 0.0).pvalue < 1e-100
    assert found.df == 2
    assert 0.0005 < found.p < 0.005
    by_seed = stats.ttest_1samp(values.mean(axis=1), 0.0).confidence_interval()
    assert found.low < by_seed.low < by_seed.high < found.high
    # Texts are the smaller sample where there are fewer of them.
    assert statistics.crossed_mean(values.T[:20, :3]).df == 2


@pytest.mark.parametrize(("seeds", "spread", "most"), [(5, 10.0, 0.965), (3, 10.0, 0.965), (5, 0.1, 1.0)])
def test_intervals_cover_the_mean_in_at_least_93_of_100_simulations(seeds: int, spread: float, most: float) -> None:
    random, texts, simulations = np.random.default_rng(seeds), 100, 1500
    covered = 0
    for _ in range(simulations):
        of_texts, of_seeds = random.normal(0, 5.0, texts), random.normal(0, spread, (seeds, 1))
        found = statistics.crossed_mean(of_texts + of_seeds + random.normal(0, 3.0, (seeds, texts)))
        covered += found.low <= 0 <= found.high
    # The standard error of a share of 1,500 is 0.006. Where texts vary most, intervals are wider than they need be.
    assert 0.93 < covered / simulations <= most


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """An independent computation by the components of variance themselves: the interval and p."""
    seeds, texts = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    a, b = texts * rows.var(ddof=1), seeds * columns.var(ddof=1)
    e = (values.var() * seeds * texts - (seeds - 1) * a - (texts - 1) * b) / ((seeds - 1) * (texts - 1))
    of_seeds, of_texts = max(0.0, (a - e) / texts), max(0.0, (b - e) / seeds)
    variance = of_seeds / seeds + of_texts / texts + e / (seeds * texts)
    low, high = stats.t.interval(0.95, seeds - 1, loc=values.mean(), scale=np.sqrt(variance))
    return float(low), float(high), float(2 * stats.t.sf(abs(values.mean()) / np.sqrt(variance), seeds - 1))


def test_every_interval_and_p_value_follows_from_the_files(tmp_path: Path) -> None:
    varied(divergences=True).write(tmp_path)
    comparison = Comparison.read(tmp_path)
    with np.load(tmp_path / "compare.npz") as arrays:
        assert arrays["eval_kl"].dtype == np.float16
        assert arrays["eval_predictions"].dtype == np.uint8
        full = arrays["eval_predictions"][comparison.document.full[0].recoveries["none"].row]
        tables = {
            "kl": arrays["eval_kl"].astype(np.float64),
            "agreement": (arrays["eval_predictions"] == full).astype(np.float64),
            "accuracy": (arrays["eval_predictions"] == arrays["eval_labels"]).astype(np.float64),
        }
    rows: dict[tuple[str, str, int], list[int]] = {}
    for one in comparison.document.cells:
        for recovery, result in one.recoveries.items():
            rows.setdefault((recovery, one.method, one.budget["requested"] or 0), []).append(result.row)
    for mean in comparison.summary.means:
        for outcome, table in tables.items():
            values = table[rows[mean.recovery, mean.method, mean.budget]]
            low, high, _ = interval(values)
            estimate = mean.outcomes[outcome]
            assert estimate.value == pytest.approx(values.mean())
            assert (estimate.low, estimate.high) == pytest.approx((max(low, 0.0), min(high, 1.0)))
    for outcome, table in tables.items():
        scale = -1 if outcome == "kl" else 100
        for recovery in ("none", "refit"):
            family = [
                one
                for one in comparison.summary.tests
                if (one.outcome, one.recovery) == (outcome, recovery) and one.budget
            ]
            assert len(family) == 4
            ps = []
            for one in family:
                ours, theirs = (table[rows[recovery, name, one.budget or 0]] for name in (one.against, one.method))
                low, high, p = interval(scale * (ours - theirs))
                assert (one.pp, *one.ci95) == pytest.approx((scale * (ours - theirs).mean(), low, high))
                assert one.p == pytest.approx(p)
                ps.append(p)
            assert [one.p_holm for one in family] == pytest.approx(holm_correction(ps))


def test_areas_weigh_budgets_by_their_distance_and_masks_of_a_seed_are_averaged() -> None:
    # Lines through 10, 20 and 50: (10 * (a + b) / 2 + 30 * (b + c) / 2) / 40.
    assert statistics.trapezoid_weights([10, 20, 50]) == pytest.approx([5 / 40, 20 / 40, 15 / 40])
    none, every = np.zeros(50, dtype=np.bool_), np.ones(50, dtype=np.bool_)
    cells = [cell("complementary", 0, KEPT["complementary"], none), cell("random", 1, KEPT["random"], none)]
    cells += [cell("random", 2, KEPT["random"], every, draw=1), cell("random", 3, KEPT["random"], every, draw=2)]
    found = summarise(document(cells, n=50), {"eval": told([none, none, every, every, every])})
    mean = next(one for one in found.means if one.method == "random")
    assert mean.outcomes["accuracy"].value == pytest.approx(2 / 3)
    assert (mean.masks, mean.lowest, mean.highest) == (3, 0.0, 1.0)
    # An area is over budgets of up to a fifth of the heads.
    answers = np.random.default_rng(0).random((4, 3, 40)) < 0.5
    cells = [
        cell("complementary", 3 * at + seed, {"0": list(range(budget))}, answers[at, seed], seed=seed)
        for at, budget in enumerate((2, 3, 4, 9))
        for seed in range(3)
    ]
    one = file(cells, seeds=(0, 1, 2), n=40)
    one["model"] |= {"layers": 2, "heads": 10}
    found = summarise(ComparisonDocument.from_json(one), {"eval": told([*answers.reshape(12, 40), np.ones(40)])})
    area = next(one for one in found.all_areas if one.outcome == "accuracy")
    # 20 heads: budgets up to 4.
    assert area.budgets == (2, 3, 4)
    assert area.area == pytest.approx(np.average(answers[:3].mean(axis=(1, 2)), weights=[1, 2, 1]))


def test_a_method_with_one_seed_is_told_without_a_verdict() -> None:
    none, every = np.zeros(20, dtype=np.bool_), np.ones(20, dtype=np.bool_)
    cells = [
        cell("complementary", 0, KEPT["complementary"], none, seed=1),
        cell("complementary", 1, KEPT["complementary"], every, seed=2),
        failed("gradient", seed=1),
        cell("gradient", 2, KEPT["gradient"], none, seed=2),
    ]
    found = summarise(document(cells, seeds=(1, 2), n=20), {"eval": told([none, every, none, every])})
    agreement, accuracy = found.tests
    assert (accuracy.outcome, agreement.outcome) == ("accuracy", "agreement")
    assert (accuracy.seeds, accuracy.pp, accuracy.p, accuracy.p_holm) == (1, 100.0, None, None)
    assert (accuracy.tie, accuracy.better, accuracy.tested) == (True, None, False)
    assert {mean.method: mean.seeds for mean in found.means} == {"complementary": 2, "gradient": 1}


def test_intervals_are_corrected_and_one_without_0_decides_and_never_stands_beside_a_p_above_0_05() -> None:
    one = verdict("random", 4, None)
    # t(4) is 2.776 at 5 %, and 3.495 at 2.5 %: standard errors of 1 and 0.5.
    tests = [replace(one, pp=3.0, ci95=(3 - 2.776, 3 + 2.776), p=0.0399, df=4.0)]
    tests.append(replace(one, method="gradient", pp=-2.0, ci95=(-2 - 1.388, -2 + 1.388), p=0.0161, df=4.0))
    once = replace(one, method="attattr", seeds=1)
    first, second, third = statistics.correct_family([*tests, once])
    assert (first.p_holm, second.p_holm) == pytest.approx((0.0399, 0.0322))
    assert first.simultaneous == pytest.approx((3 - 3.495, 3 + 3.495), abs=2e-3)
    assert second.simultaneous == pytest.approx((-2 - 1.748, -2 + 1.748), abs=2e-3)
    # The interval decides, whatever p is: 3.495 standard errors, and t(4) at 80 % is 0.941.
    assert (first.better, second.better) == (None, "gradient")
    assert (first.detectable, second.detectable) == pytest.approx((3.495 + 0.941, 1.748 + 0.470), abs=2e-3)
    assert describe_result(first) == "not significant (n = 100, 2 seeds; 80 % power from 4.4 points)"
    assert (third.p, third.p_holm, third.simultaneous, third.tie) == (None, None, None, True)
    # Among five methods neither interval is without 0.
    others = [replace(one, method=f"m{n}", ci95=(-2.0, 4.0), p=0.9, df=4.0) for n in range(3)]
    many = statistics.correct_family([*tests, *others])
    assert all(test.simultaneous is not None and test.simultaneous[0] < 0 < test.simultaneous[1] for test in many[:2])
    assert [test.better for test in many] == [None] * 5


def test_the_primary_test_is_the_divergence_after_the_refit_over_few_heads_corrected_for_its_methods() -> None:
    comparison = varied(divergences=True)
    # 3 and 5 heads of 72 are both few.
    model = replace(comparison.document.model, layers=6, heads=12)
    summary = summarise(replace(comparison.document, model=model), comparison.answers)
    primary = summary.primary
    assert (primary.split, primary.outcome, primary.recovery, primary.budgets) == ("validation", "kl", "refit", (3, 5))
    assert primary.words == "KL divergence, after refit, area over 3 and 5 of 72 heads"
    areas = [one for one in summary.tests if (one.outcome, one.recovery, one.budget) == ("kl", "refit", None)]
    assert primary.tests == tuple(areas)
    # Of 6 heads neither budget is few: the smaller one, corrected for two methods, not for two at two budgets.
    primary = comparison.summary.primary
    assert (primary.budgets, primary.words) == ((3,), "KL divergence, after refit, at 3 of 6 heads")
    wide = [one for one in comparison.summary.tests if (one.outcome, one.recovery) == ("kl", "refit")]
    here = [one for one in wide if one.budget == 3]
    assert [one.p for one in primary.tests] == [one.p for one in here]
    assert [one.p_holm for one in primary.tests] == pytest.approx(holm_correction([one.p or 0.0 for one in here]))
    for narrow, broad in zip(primary.tests, here, strict=True):
        assert broad.interval[0] < narrow.interval[0] < narrow.interval[1] < broad.interval[1]


@pytest.mark.parametrize(
    ("outcomes", "recoveries", "budgets", "endpoint"),
    [
        (("kl", "accuracy"), ("none", "mean", "refit"), (6, 12, 14, 20), ("kl", "refit", (6, 12, 14))),
        (("kl", "accuracy"), ("none", "distill"), (20, 12), ("kl", "none", (12,))),
        (("accuracy",), ("none", "refit"), (54, 36), ("accuracy", "refit", (36,))),
    ],
)
def test_a_rule_names_the_primary_test_without_a_result(
    outcomes: tuple[str, ...], recoveries: tuple[str, ...], budgets: tuple[int, ...], endpoint: tuple[object, ...]
) -> None:
    outcome, small = statistics.choose_endpoint(outcomes, budgets, 72)
    assert (outcome, statistics.choose_recovery(recoveries), small) == endpoint


def test_the_margin_in_nats_is_a_tenth_of_the_divergence_of_the_reference() -> None:
    comparison = varied(divergences=True)
    kl = comparison.answers["eval"]["kl"].astype(np.float64)
    cells = [one for one in comparison.document.cells if (one.method, one.budget["attained"]) == ("complementary", 3)]
    reference = np.mean([kl[one.recoveries["refit"].row].mean() for one in cells])
    tests = [one for one in comparison.summary.tests if (one.recovery, one.budget) == ("refit", 3)]
    assert {one.margin for one in tests if one.unit == "points"} == {1.0}
    assert [one.margin for one in tests if one.outcome == "kl"] == pytest.approx([0.1 * reference] * 2)


def test_cost_is_of_the_costliest_budget_and_a_mean_over_seeds() -> None:
    right = np.ones(4, dtype=np.bool_)
    cells = [
        cell("gradient", 0, KEPT["gradient"], right, seed=1),
        cell("gradient", 1, KEPT["gradient"], right, seed=2),
        cell("gradient", 2, {"0": [0], "1": [1]}, right, seed=1, price={"forwards": 90.0, "labels": 10}),
    ]
    cells[0]["seconds"] = {**cells[0]["seconds"], "score": 6.0}
    (found,) = summarise(document(cells, seeds=(1, 2), n=4), {"eval": told(np.ones((4, 4)))}).cost
    assert (found.forwards, found.labels, found.score_s) == (90.0, 10, 4.0)


def test_a_failed_cell_is_left_out_of_everything_but_the_table(tmp_path: Path) -> None:
    right = np.ones(4, dtype=np.bool_)
    cells = [cell("complementary", 0, KEPT["complementary"], right), failed("gradient")]
    comparison = Comparison(document(cells, n=4), {"eval": told(np.ones((2, 4)))})
    assert {one.method for one in comparison.summary.means} == {"complementary"}
    assert not comparison.summary.tests
    comparison.write(tmp_path)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["full", "complementary", "gradient"]
    assert rows[2]["error"] == "ValueError: no"
    assert rows[1]["kept"] == "0.0 1.1 1.2"
    assert float(rows[1]["accuracy"]) == 1.0


def test_a_method_whose_seeds_failed_in_turn_has_no_area() -> None:
    right = np.ones(4, dtype=np.bool_)
    gradient = [
        cell("gradient", 4, KEPT["gradient"], right, seed=1),
        cell("gradient", 5, MORE["gradient"], right, seed=2),
    ]
    whole = [
        cell("complementary", row, kept["complementary"], right, seed=seed)
        for row, (kept, seed) in enumerate(product((KEPT, MORE), (1, 2)))
    ]
    cells = [*whole, *gradient, failed("gradient", seed=2), failed("gradient", seed=1, budget=5)]
    summary = summarise(document(cells, seeds=(1, 2), n=4), {"eval": told(np.ones((7, 4)))})
    assert {area.method for area in summary.all_areas} == {"complementary"}


def test_the_overlap_of_a_method_is_that_of_its_masks_with_several_seeds() -> None:
    right = np.ones(4, dtype=np.bool_)
    other = {"0": [0], "1": [0, 1]}
    cells = [
        cell("complementary", 0, KEPT["complementary"], right, seed=1),
        cell("complementary", 1, other, right, seed=2),
        cell("gradient", 2, KEPT["gradient"], right, seed=1),
        cell("gradient", 3, KEPT["gradient"], right, seed=2),
    ]
    found = summarise(document(cells, seeds=(1, 2), n=4), {"eval": told(np.ones((5, 4)))}).overlap["seeds"]
    # {00, 11, 12} and {00, 10, 11} share 2 of 4.
    assert {one["method"]: one["jaccard"] for one in found} == {"complementary": 0.5, "gradient": 1.0}
    assert found[0]["chance"] == pytest.approx(expected_jaccard(3, 3, 6))


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
    shares = claims.kept_shares(measured(other=OTHER).document, 3)
    # 3 + 0 + 6 of 16 in the middle third, which is both layers.
    assert shares["complementary"].tolist() == pytest.approx([9 / 16, 9 / 16])
    assert shares["random"].tolist() == pytest.approx([5 / 16, 6 / 16])


@pytest.mark.parametrize(("layers", "middle"), [(1, [0]), (2, [0, 1]), (3, [1]), (6, [2, 3]), (12, [4, 5, 6, 7])])
def test_the_middle_third_lies_in_the_middle(layers: int, middle: list[int]) -> None:
    assert list(range(layers))[claims.middle_third(layers)] == middle


def test_a_lead_is_supported_only_where_its_interval_excludes_0() -> None:
    unclear, clear = (measured(other=other).results for other in (OTHER, KEPT["random"]))
    assert claims.assess_critical_heads(unclear, 3).status == "not significant against random selection"
    finding = claims.assess_critical_heads(clear, 3)
    assert finding.status == "supported"
    assert (
        "CAHP keeps 56.2 % and random selection 31.2 % (+25.0 points, 25.0 to 25.0, p < 0.001, n = 2 seeds)"
        in finding.words
    )
    assert "n = 8 texts" in finding.words
    without = claims.assess_critical_heads(replace(clear, summary=replace(clear.summary, against="random")), 3)
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
    finding = claims.assess_critical_heads(Comparison(shown, {"eval": told([right] * 13)}).results, 3)
    assert finding.status == "more than random selection, less than 2 of 4 other methods"
    assert finding.words.endswith(
        "; fisher and gradient keep more; every head removed alone on n = 8 texts of validation."
    )


def test_shares_are_corrected_for_all_methods_that_are_compared() -> None:
    values = {"complementary": [50, 52, 54, 51, 53], "random": [20, 30, 24, 27, 19], "gradient": [60, 51, 59, 55, 65]}
    rows = {(name, seed): one / 100 for name, own in values.items() for seed, one in enumerate(own)}
    shares, found = claims.compare_shares(pd.Series(rows).rename_axis(["method", "seed"]), "complementary")
    assert list(shares) == ["gradient", "complementary", "random"]
    tests = {name: stats.ttest_rel(values["complementary"], values[name]) for name in ("random", "gradient")}
    assert found["random"].p_holm == pytest.approx(2 * tests["random"].pvalue)
    assert found["gradient"].p_holm == pytest.approx(tests["gradient"].pvalue)
    assert found["random"].interval == pytest.approx(tuple(tests["random"].confidence_interval(0.975)))


def test_one_seed_and_comparisons_without_criticality_allow_no_verdict_on_critical_heads() -> None:
    right = np.ones(8, dtype=np.bool_)
    once = made({name: [right] for name in KEPT})
    assert claims.assess_critical_heads(once.results, 3).status == "not measured"
    once = Comparison(replace(once.document, criticality=CRITICALITY), once.answers)
    assert claims.assess_critical_heads(once.results, 3).status == "no verdict"
    assert [one.status for one in claims.assess_claims(once.results) if one.claim == claims.CRITICAL] == ["no verdict"]


@pytest.fixture(scope="module")
def results() -> SplitResults:
    """A model of 72 heads, of which 3 and 5 are kept."""
    found = varied(divergences=True).results
    model = replace(found.document.model, layers=6, heads=12)
    return replace(found, document=replace(found.document, model=model), tests=(), primary=None)


def status(results: SplitResults, *tests: statistics.Verdict) -> str:
    return claims.assess_compression(replace(results, tests=tests), "none").status


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
    assert status(results, replace(ahead, budget=36, budgets=(36,))) == "not tested up to 20 %"
    # The primary test decides where it is on few heads.
    at = verdict("random", 3, None)
    primary = Primary("validation", "kl", "none", (3,), "", (verdict("random", 3, "complementary"),))
    named = replace(results, primary=primary, tests=(at,))
    assert claims.assess_compression(named, "none").status == "supported"
    words = claims.assess_compression(named, "refit").words
    assert words.startswith("After refit, nothing was tested at up to 20 % of the")
    assert words.endswith(f"heads. {headline(named)}.")
    many = replace(named, primary=replace(primary, budgets=(36,)))
    assert claims.assess_compression(many, "none").status == "not significant"


def test_equivalence_is_shown_as_by_two_one_sided_tests_of_a_library() -> None:
    random, passed = np.random.default_rng(0), 0
    for _ in range(60):
        values = random.normal(0.3, 1.2, (1, 12))
        mean = statistics.crossed_mean(values)
        interval = (mean.low, mean.high)
        found = replace(verdict("random", 4, None), pp=mean.mean, ci95=interval, df=mean.df, margin=1.0).equivalent
        low, high = (
            stats.ttest_1samp(values[0], end, alternative=side) for end, side in ((1, "less"), (-1, "greater"))
        )
        assert found == (max(low.pvalue, high.pvalue) < 0.05)
        passed += found
    assert 0 < passed < 60
