"""Which differences pass the test, and that all others are called ties."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import KEPT, MORE, cell, document, made

from cahp.comparison import summarise
from cahp.values import OptionError


def test_equal_answers_are_a_tie_and_are_called_so() -> None:
    right = np.arange(8) % 2 == 0
    (one,) = made({"complementary": [right, right], "gradient": [right, right]}).summary.verdicts
    assert (one.tie, one.better, one.p_holm, one.pp) == (True, None, 1.0, 0.0)
    assert "no difference at this n" in one.words
    assert "n = 8, 2 seeds" in one.words


def test_a_large_difference_passes_and_names_the_better_method() -> None:
    random = np.random.default_rng(0)
    good, bad = random.random((3, 400)) < 0.8, random.random((3, 400)) < 0.5
    (one,) = made({"complementary": list(bad), "gradient": list(good)}).summary.verdicts
    assert not one.tie
    assert one.better == "gradient"
    assert one.pp == pytest.approx((bad.mean() - good.mean()) * 100)
    assert one.low < one.pp < one.high < 0
    assert one.words.startswith("3 heads: gradient is better than complementary")


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
    assert one.words.startswith("over all budgets: gradient is better than complementary")


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
    assert before.words.startswith("over all budgets: ")
    assert refitted.words.startswith("over 3 and 5 heads after refit: ")


def test_the_tests_can_be_made_against_another_method() -> None:
    random = np.random.default_rng(0)
    comparison = made({name: list(random.random((2, 60)) < 0.6) for name in KEPT})
    other = summarise(comparison.document, comparison.right, against="random")
    assert {one.method for one in other.verdicts} == {"complementary", "gradient"}
    assert {one.against for one in other.verdicts} == {"random"}
    with pytest.raises(OptionError, match="not in this comparison"):
        summarise(comparison.document, comparison.right, against="nobody")
