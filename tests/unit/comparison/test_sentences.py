"""Tests in sentences, as people read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from comparisons import KEPT, made, verdict

from cahp.comparison.sentences import ahead_and_behind, describe_p, describe_place, headline
from cahp.comparison.summary import Primary


def test_the_headline_is_the_primary_test() -> None:
    right = np.arange(8) % 2 == 0
    results = made({name: [right] for name in KEPT}).results_on("eval", "accuracy")
    tests = (verdict("random", None, "complementary", "refit"), verdict("magnitude", None, None, "refit"))
    words = describe_place("accuracy", "refit", (4, 6), 6, "head")
    assert headline(replace(results, primary=Primary("validation", "accuracy", "refit", (4, 6), words, tests))) == (
        "Primary test (accuracy, after refit, area over 4 and 6 of 6 heads): CAHP is ahead of random; not "
        "significantly different from magnitude (n = 100, 2 seeds)"
    )
    assert headline(replace(results, primary=None)) == "The primary test was not measured"


def test_methods_stand_by_result_and_many_are_counted() -> None:
    tests = [verdict("random", 4, "complementary"), verdict("magnitude", 4, "magnitude")]
    assert ahead_and_behind("complementary", tests) == ("CAHP is ahead of random; behind magnitude (n = 100, 2 seeds)")
    many = [verdict(f"m{place}", 4, "complementary") for place in range(5)]
    assert ahead_and_behind("complementary", many) == "CAHP is ahead of 5 methods (n = 100, 2 seeds)"
    assert ahead_and_behind("complementary", []) == "CAHP was compared with no other method"


def test_a_small_p_value_is_a_bound_and_one_that_is_not_significant_is_not_rounded_to_0_05() -> None:
    assert [describe_p(p) for p in (0.003, 9e-4, 0.0502)] == ["p = 0.003", "p < 0.001", "p = 0.0502"]


def test_one_seed_is_no_verdict() -> None:
    once = replace(verdict("attattr", 4, None), seeds=1, p=None, p_holm=None)
    assert describe_p(once.p_holm) == "one seed: no verdict"
    assert ahead_and_behind("complementary", [once]) == (
        "CAHP is without a verdict, with one seed, against attattr (n = 100, 1 seed)"
    )
