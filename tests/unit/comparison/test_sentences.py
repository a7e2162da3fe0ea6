"""Verdicts in sentences, as people read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from comparisons import KEPT, made, verdict

from cahp.comparison import SplitResults
from cahp.comparison.document import AreaVerdict, Primary, Verdict
from cahp.comparison.sentences import (
    ahead_and_behind,
    describe_p,
    describe_place,
    describe_test,
    headline,
    verdict_sentence,
)


@pytest.fixture
def reading() -> SplitResults:
    """A comparison as pruned."""
    right = np.arange(8) % 2 == 0
    return made({name: [right] for name in KEPT}).results_on("eval", "accuracy")


def given(reading: SplitResults, *verdicts: Verdict) -> SplitResults:
    """The comparison with these tests, of which those of areas are the primary test."""
    overall = tuple(one for one in verdicts if isinstance(one, AreaVerdict))
    at = tuple(one for one in verdicts if one.budget is not None)
    words = describe_place("accuracy", "refit", (4, 6), 6, "head")
    primary = Primary("validation", "accuracy", "refit", (4, 6), words, overall)
    return replace(reading, verdicts=at, overall=overall, primary=primary)


def test_the_headline_is_the_primary_test(reading: SplitResults) -> None:
    tests = (verdict("random", None, "complementary", "refit"), verdict("magnitude", None, None, "refit"))
    assert headline(given(reading, *tests, verdict("random", 4, "random"))) == (
        "Primary test (accuracy, after refit, area over 4 and 6 of 6 heads): CAHP is ahead of random (1 other not "
        "significant, n = 100, 2 seeds)"
    )


def test_tests_that_find_no_difference_say_so() -> None:
    ties = [verdict(name, 4, None) for name in ("magnitude", "random")]
    assert ahead_and_behind("complementary", ties) == (
        "the differences of CAHP from the 2 other methods are not significant (n = 100, 2 seeds)"
    )


def test_a_method_that_is_ahead_at_some_budgets_only_is_named_with_them() -> None:
    tests = [verdict("random", budget, "complementary") for budget in (4, 6)]
    tests += [verdict("magnitude", budget, {4: None, 6: "magnitude"}[budget]) for budget in (4, 6)]
    assert ahead_and_behind("complementary", tests) == "CAHP is ahead of random and behind magnitude (at 6 heads)"


def test_a_method_alone_is_held_against_nothing(reading: SplitResults) -> None:
    assert headline(given(reading)) == "Only CAHP was measured"
    assert ahead_and_behind("complementary", []) == "CAHP was compared with no other method"


def test_many_methods_are_counted() -> None:
    tests = [verdict(f"m{place}", budget, "complementary") for place in range(5) for budget in (4, 6)]
    tests[-1] = verdict("m4", 6, None)
    assert ahead_and_behind("complementary", tests) == "CAHP is ahead of 5 of 5 methods (4 of them at every budget)"
    assert ahead_and_behind("complementary", tests[::2]) == "CAHP is ahead of 5 of 5 methods"


def test_a_test_is_told_with_its_statistics() -> None:
    assert verdict_sentence(verdict("random", 4, "complementary"), (4, 6)) == (
        "4 heads, as pruned: complementary is better than random (n = 100, 2 seeds; lead of complementary: +1.0 "
        "points, 95 % interval +0.5 to +1.5, p = 0.02 after Holm)"
    )
    several = replace(verdict("random", 4, "complementary"), simultaneous=(0.25, 1.75))
    assert "+1.0 points, simultaneous 95 % interval +0.2 to +1.8, p = 0.02 after Holm" in verdict_sentence(several, ())
    tie = verdict_sentence(verdict("magnitude-raw", 4, None, "finetune"), (4, 6))
    assert tie.startswith(
        "4 heads, after fine-tuning: the difference between complementary and magnitude-raw is not significant "
        "(n = 100, 2 seeds; lead of complementary: +1.0 points"
    )


def test_files_use_the_option_names_of_methods() -> None:
    behind = replace(verdict("random", 4, "random", "finetune"), pp=-1.0, ci95=(-1.5, -0.5))
    assert verdict_sentence(behind, (4, 6)).startswith(
        "4 heads, after fine-tuning: random is better than complementary (n = 100, 2 seeds; lead of complementary: −1.0"
    )
    over_all = verdict_sentence(verdict("random", None, None), (4, 6))
    assert over_all.startswith("Over all budgets, as pruned: the")
    everywhere, once = verdict("random", None, None, "refit"), verdict("random", 12, None)
    assert [describe_test(one, (4, 6)) for one in (everywhere, once)] == [
        "over all budgets, after refit",
        "12 heads, as pruned",
    ]


def test_a_small_p_value_is_a_bound_and_one_that_is_not_significant_is_not_rounded_to_0_05() -> None:
    one = verdict("random", 4, "complementary")
    assert describe_p(replace(one, p_holm=0.003)) == "p = 0.003"
    assert describe_p(replace(one, p_holm=9e-4)) == "p < 0.001"
    assert describe_p(replace(one, p_holm=0.0502)) == "p = 0.0502"


def test_one_seed_is_no_verdict(reading: SplitResults) -> None:
    once = replace(verdict("attattr", 4, None), seeds=1, p=None, p_holm=None)
    assert describe_p(once) == "one seed: no verdict"
    assert ahead_and_behind("complementary", [once, verdict("random", 4, "complementary")]) == (
        "CAHP is ahead of random (one seed, no verdict: attattr)"
    )
    assert ahead_and_behind("complementary", [once]) == "CAHP was compared with no other method with more than one seed"
    assert headline(given(reading, once)) == "One seed: no verdict"
