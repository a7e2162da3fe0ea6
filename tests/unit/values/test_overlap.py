"""What two choices have in common, counted by hand, and by chance, counted out over all pairs of sets."""

import itertools
import math

import numpy as np
import pytest

from cahp.values.statistics import expected_jaccard, expected_overlap, overlaps


def test_every_pair_of_masks_has_an_overlap() -> None:
    masks = [np.isin(np.arange(6), kept).reshape(2, 3) for kept in ((0, 1), (0, 2), (0, 1))]
    assert overlaps(masks).tolist() == [1 / 3, 1, 1 / 3]
    assert overlaps(np.array(masks)).tolist() == [1 / 3, 1, 1 / 3]
    assert overlaps(masks[:1]).shape == (0,)
    assert overlaps(np.zeros((0, 2, 3), dtype=np.bool_)).shape == (0,)


@pytest.mark.parametrize(
    ("first", "second", "total"),
    [
        *((1, 1, 4), (2, 3, 5), (4, 4, 6), (0, 2, 4), (5, 5, 5)),
        *((2, 2, 5), (1, 3, 4), (4, 4, 5), (3, 3, 3), (0, 0, 4)),
    ],
)
def test_by_chance_the_index_is_the_mean_over_all_pairs_of_sets(first: int, second: int, total: int) -> None:
    everything = range(total)
    found = [
        len(set(one) & set(other)) / max(1, len(set(one) | set(other)))
        for one in itertools.combinations(everything, first)
        for other in itertools.combinations(everything, second)
    ]
    assert expected_jaccard(first, second, total) == pytest.approx(np.mean(found))
    assert expected_jaccard(second, first, total) == pytest.approx(np.mean(found))


def test_chance_for_several_masks_is_the_mean_over_their_pairs_of_sizes() -> None:
    # Two of four heads: all shared 1/6, one shared 4/6 (index 1/3), none 1/6; with all four heads, always 2 of 4.
    assert expected_overlap([2, 2], 4) == pytest.approx(1 / 6 + 4 / 6 / 3)
    assert expected_overlap([2, 2, 4], 4) == pytest.approx((1 / 6 + 4 / 6 / 3 + 0.5 + 0.5) / 3)
    assert math.isnan(expected_overlap([2], 4))
