"""The statistics of a comparison, checked against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import KEPT, MORE, cell, document, failed, made

from cahp.comparison import summarise
from cahp.comparison.statistics import Bootstrap, holm_correction, percentile_interval, trapezoid_weights, two_sided_p


def test_holm_s_correction_is_the_textbook_s() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, 0.9 * 1.
    assert holm_correction([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    # A larger p never becomes the smaller one.
    assert holm_correction([0.02, 0.021]) == pytest.approx([0.04, 0.04])
    assert holm_correction([0.8, 0.9]) == [1.0, 1.0]
    assert holm_correction([]) == []


def test_a_bootstrap_without_a_draw_on_the_other_side_has_the_smallest_p_there_is() -> None:
    assert two_sided_p(np.full(999, 0.5)) == pytest.approx(2 / 1000)
    assert two_sided_p(np.zeros(999)) == 1.0
    # 100 of 999 at or below zero.
    assert two_sided_p(np.repeat([-1.0, 1.0], [100, 899])) == pytest.approx(2 * 101 / 1000)


def test_an_interval_leaves_out_a_fortieth_at_each_end_and_has_no_minus_0() -> None:
    assert percentile_interval(np.arange(1001.0)) == (25.0, 975.0)
    low, _ = percentile_interval(np.full(10, -1e-15))
    assert str(low) == "0.0"


def test_what_does_not_vary_over_texts_or_seeds_does_not_vary_in_the_draws() -> None:
    bootstrap = Bootstrap(seeds=3, texts=7)
    same = bootstrap.means(np.array([0, 1, 2]), np.full((1, 3, 7), 0.25))
    assert np.allclose(same, 0.25)
    # The draws are the same for all that is asked at once or after another, so differences are paired.
    values = np.random.default_rng(0).random((2, 3, 7))
    both = bootstrap.means(np.array([0, 1, 2]), values)
    alone = bootstrap.means(np.array([0, 1, 2]), values[1:] - values[:1])
    assert np.allclose(both[:, 1] - both[:, 0], alone[:, 0])


def test_a_draw_without_any_of_the_seeds_that_are_left_takes_them_all() -> None:
    # Of two seeds, a quarter of the draws holds the other one alone; the one that is left counts in full all the same.
    found = Bootstrap(seeds=2, texts=4).means(np.array([1]), np.full((1, 1, 4), 0.5))
    assert np.allclose(found, 0.5)


def test_more_tests_have_more_draws_after_those_that_all_have() -> None:
    few, many = Bootstrap(seeds=2, texts=5), Bootstrap(seeds=2, texts=5, tests=300)
    assert (few.draws, many.draws) == (10_000, 24_000)
    values = np.random.default_rng(0).random((1, 2, 5))
    first, more = (one.means(np.array([0, 1]), values) for one in (few, many))
    assert np.array_equal(more[: few.draws], first)
    # However many there are, a difference without a draw on the other side passes.
    for tests in (1, 125, 300, 2000):
        smallest = two_sided_p(np.ones(Bootstrap(seeds=1, texts=1, tests=tests).draws))
        assert holm_correction([smallest] * tests)[0] <= 0.05


# Means and areas


def test_an_area_weighs_budgets_by_how_far_apart_they_lie() -> None:
    # Lines through 10, 20 and 50: (10 * (a + b) / 2 + 30 * (b + c) / 2) / 40.
    assert trapezoid_weights([10, 20, 50]) == pytest.approx([5 / 40, 20 / 40, 15 / 40])


def test_the_interval_of_one_seed_is_that_of_a_bootstrap_over_texts() -> None:
    random = np.random.default_rng(1)
    right = random.random(500) < 0.7
    (mean,) = made({"complementary": [right]}).summary.means
    # The standard error of a proportion.
    width = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 500)
    assert mean.accuracy.value == pytest.approx(right.mean())
    assert (mean.accuracy.low, mean.accuracy.high) == pytest.approx(
        (right.mean() - width, right.mean() + width), abs=0.005
    )
    assert (mean.sd, mean.seeds, mean.accuracy.n) == (None, 1, 500)


def test_seeds_that_disagree_widen_the_interval() -> None:
    right = np.arange(400) % 2 == 0
    (alike,) = made({"complementary": [right] * 4}).summary.means
    far, none = np.ones(400, dtype=np.bool_), np.zeros(400, dtype=np.bool_)
    (apart,) = made({"complementary": [far, none, far, none]}).summary.means
    # All texts agree within a seed, so only the seeds vary: means of 4 draws of 0 and 1.
    assert apart.accuracy.ci95 == pytest.approx((0.0, 1.0))
    assert apart.sd == pytest.approx(np.std([1, 0, 1, 0], ddof=1))
    assert alike.accuracy.high - alike.accuracy.low < 0.12


def test_masks_drawn_with_one_seed_are_averaged_before_they_are_compared() -> None:
    none, every = np.zeros(50, dtype=np.bool_), np.ones(50, dtype=np.bool_)
    cells = [cell("complementary", 0, KEPT["complementary"], none), cell("random", 1, KEPT["random"], none)]
    cells += [cell("random", 2, KEPT["random"], every, draw=1), cell("random", 3, KEPT["random"], every, draw=2)]
    found = summarise(document(cells, n=50), {"eval": np.array([none, none, every, every, every])})
    mean = next(one for one in found.means if one.method == "random")
    assert mean.accuracy.value == pytest.approx(2 / 3)
    assert (mean.masks, mean.lowest, mean.highest) == (3, 0.0, 1.0)


def test_a_method_that_failed_with_one_seed_is_compared_on_the_others() -> None:
    none, every = np.zeros(20, dtype=np.bool_), np.ones(20, dtype=np.bool_)
    cells = [
        cell("complementary", 0, KEPT["complementary"], none, seed=1),
        cell("complementary", 1, KEPT["complementary"], every, seed=2),
        failed("gradient", seed=1),
        cell("gradient", 2, KEPT["gradient"], none, seed=2),
    ]
    found = summarise(document(cells, seeds=(1, 2), n=20), {"eval": np.array([none, every, none, every])})
    (one,) = found.verdicts
    assert (one.seeds, one.pp, one.ci95) == (1, 100.0, (100.0, 100.0))
    assert {mean.method: mean.seeds for mean in found.means} == {"complementary": 2, "gradient": 1}


def test_an_area_is_of_methods_with_every_budget_alone() -> None:
    half, every = np.arange(20) % 2 == 0, np.ones(20, dtype=np.bool_)
    more = {"0": [0, 1, 2], "1": [0, 1]}
    cells = [
        cell("complementary", 0, KEPT["complementary"], half),
        cell("complementary", 1, more, every),
        cell("gradient", 2, more, every),
    ]
    found = summarise(document(cells, n=20), {"eval": np.array([half, every, every, every])})
    (area,) = found.areas
    # Between 3 and 5 heads, from a half to all.
    assert (area.method, area.area, area.budgets) == ("complementary", 0.75, (3, 5))
    mean = next(one for one in found.means if one.accuracy.value == 0.5)
    assert area.ci95 == pytest.approx(((mean.accuracy.low + 1) / 2, (mean.accuracy.high + 1) / 2))


# Tests


def test_equal_answers_are_a_tie_and_are_called_so() -> None:
    right = np.arange(8) % 2 == 0
    (one,) = made({"complementary": [right, right], "gradient": [right, right]}).summary.verdicts
    assert (one.tie, one.better, one.p_holm, one.pp) == (True, None, 1.0, 0.0)
    assert "no difference between" in one.words
    assert "n = 8, 2 seeds" in one.words


def test_a_large_difference_passes_and_names_the_better_method() -> None:
    random = np.random.default_rng(0)
    good, bad = random.random((3, 400)) < 0.8, random.random((3, 400)) < 0.5
    (one,) = made({"complementary": list(bad), "gradient": list(good)}).summary.verdicts
    assert not one.tie
    assert one.better == "gradient"
    assert one.pp == pytest.approx((bad.mean() - good.mean()) * 100)
    assert one.low < one.pp < one.high < 0
    assert one.words.startswith("3 heads, before recovery: gradient is better than complementary")


def test_over_all_budgets_a_difference_passes_that_is_a_tie_at_each() -> None:
    random = np.random.default_rng(4)
    more = {"0": [0, 1, 2], "1": [0, 1]}
    ours, theirs = random.random((2, 4, 220)) < 0.60, random.random((2, 4, 220)) < 0.665
    cells, rows = [], []
    for method, answers in (("complementary", ours), ("gradient", theirs)):
        for kept, by_seed in zip((KEPT["complementary"], more), answers, strict=True):
            for seed, right in enumerate(by_seed, start=1):
                cells.append(cell(method, len(rows), kept, right, seed=seed))
                rows.append(right)
    found = summarise(document(cells, seeds=(1, 2, 3, 4), n=220), {"eval": np.array(rows)})
    assert all(one.tie for one in found.verdicts)
    (one,) = found.area_verdicts
    areas = {area.method: area.area for area in found.areas}
    # Two budgets count for a half each.
    assert one.pp == pytest.approx(100 * (ours.mean() - theirs.mean()))
    assert one.pp == pytest.approx(100 * (areas["complementary"] - areas["gradient"]))
    assert (one.budget, one.budgets, one.better, one.seeds) == (None, (3, 5), "gradient", 4)
    assert one.words.startswith("Over all budgets, before recovery: gradient is better than complementary")


def test_over_some_budgets_alone_a_test_says_which() -> None:
    random = np.random.default_rng(0)
    cells, rows = [], []
    for method in ("complementary", "gradient"):
        for kept, recoveries in (
            (KEPT["complementary"], ("none", "refit")),
            (MORE["complementary"], ("none", "refit")),
            ({"0": [0, 1, 2], "1": [0, 1, 2]}, ("none",)),
        ):
            measured = {}
            for recovery in recoveries:
                rows.append(random.random(40) < 0.5)
                measured[recovery] = cell(method, len(rows) - 1, kept, rows[-1])["recoveries"]["none"]
            cells.append(cell(method, 0, kept, rows[-1], recoveries=measured))
    found = summarise(document(cells, recoveries=("none", "refit"), n=40), {"eval": np.array(rows)})
    before, refitted = found.area_verdicts
    assert before.words.startswith("Over all budgets, before recovery: ")
    assert refitted.words.startswith("Over 3 and 5 heads, after refit: ")
