"""The statistics of a comparison, held against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cahp.comparison.bootstrap import Bootstrap, holm, interval, two_sided


def test_holm_s_correction_is_the_textbook_s() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, 0.9 * 1.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    # A larger p never becomes the smaller one.
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_bootstrap_without_a_draw_on_the_other_side_has_the_smallest_p_there_is() -> None:
    assert two_sided(np.full(999, 0.5)) == pytest.approx(2 / 1000)
    assert two_sided(np.zeros(999)) == 1.0
    # 100 of 999 at or below zero.
    assert two_sided(np.repeat([-1.0, 1.0], [100, 899])) == pytest.approx(2 * 101 / 1000)


def test_an_interval_leaves_out_a_fortieth_at_each_end_and_has_no_minus_0() -> None:
    assert interval(np.arange(1001.0)) == (25.0, 975.0)
    low, _ = interval(np.full(10, -1e-15))
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
        smallest = two_sided(np.ones(Bootstrap(seeds=1, texts=1, tests=tests).draws))
        assert holm([smallest] * tests)[0] <= 0.05
