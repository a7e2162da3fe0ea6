"""How often methods are right: means, intervals and areas, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import KEPT, cell, document, failed, made

from cahp.comparison import summarise
from cahp.comparison.accuracy import trapezoid


def test_an_area_weighs_budgets_by_how_far_apart_they_lie() -> None:
    # Lines through 10, 20 and 50: (10 * (a + b) / 2 + 30 * (b + c) / 2) / 40.
    assert trapezoid([10, 20, 50]) == pytest.approx([5 / 40, 20 / 40, 15 / 40])


def test_the_interval_of_one_seed_is_that_of_a_bootstrap_over_texts() -> None:
    random = np.random.default_rng(1)
    right = random.random(500) < 0.7
    (mean,) = made({"complementary": [right]}).summary.means
    # The standard error of a proportion.
    width = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 500)
    assert mean.accuracy == pytest.approx(right.mean())
    assert (mean.low, mean.high) == pytest.approx((right.mean() - width, right.mean() + width), abs=0.005)
    assert (mean.sd, mean.seeds, mean.n) == (None, 1, 500)


def test_seeds_that_disagree_widen_the_interval() -> None:
    right = np.arange(400) % 2 == 0
    (alike,) = made({"complementary": [right] * 4}).summary.means
    far, none = np.ones(400, dtype=np.bool_), np.zeros(400, dtype=np.bool_)
    (apart,) = made({"complementary": [far, none, far, none]}).summary.means
    # All texts agree within a seed, so only the seeds vary: means of 4 draws of 0 and 1.
    assert apart.ci95 == pytest.approx((0.0, 1.0))
    assert apart.sd == pytest.approx(np.std([1, 0, 1, 0], ddof=1))
    assert alike.high - alike.low < 0.12


def test_masks_drawn_with_one_seed_are_averaged_before_they_are_compared() -> None:
    none, every = np.zeros(50, dtype=np.bool_), np.ones(50, dtype=np.bool_)
    cells = [cell("complementary", 0, KEPT["complementary"], none), cell("random", 1, KEPT["random"], none)]
    cells += [cell("random", 2, KEPT["random"], every, draw=1), cell("random", 3, KEPT["random"], every, draw=2)]
    found = summarise(document(cells, n=50), {"eval": np.array([none, none, every, every, every])})
    mean = next(one for one in found.means if one.method == "random")
    assert mean.accuracy == pytest.approx(2 / 3)
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
    mean = next(one for one in found.means if one.accuracy == 0.5)
    assert area.ci95 == pytest.approx(((mean.low + 1) / 2, (mean.high + 1) / 2))
