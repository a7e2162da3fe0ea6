"""Tests in sentences, as people read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from comparisons import KEPT, made, verdict

from cahp.comparison.sentences import describe_p, describe_place, headline
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


def test_a_small_p_value_is_a_bound_and_one_that_is_not_significant_is_not_rounded_to_0_05() -> None:
    assert [describe_p(p) for p in (0.003, 9e-4, 0.0502)] == ["p = 0.003", "p < 0.001", "p = 0.0502"]
