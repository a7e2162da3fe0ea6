"""Strata of pairs: which pairs are compared, and that costs and layers alone give no difference."""

from __future__ import annotations

import numpy as np
import pytest
from _premise_pairs import (
    compare_pairs,
    count_compared,
    draw_pairs,
    stratify,
    stratify_pairs,
    weigh_means,
)


def test_heads_of_a_layer_are_divided_by_cost() -> None:
    costs = np.tile(np.arange(12.0), 2)
    assert stratify(costs, 12).tolist() == [*[0] * 6, *[1] * 6, *[2] * 6, *[3] * 6]
    # Layers of three heads make blocks of four layers, and the last takes those that are left.
    strata = stratify(np.arange(30.0), 3)
    assert np.unique(strata[:12]).tolist() == [0, 1]
    assert np.unique(strata[12:]).tolist() == [2, 3]
    assert np.bincount(strata).tolist() == [6, 6, 9, 9]


def test_means_are_compared_within_strata() -> None:
    # In stratum 0 the difference is 1, in stratum 1 it is 3; two of three pairs within clusters are in stratum 0.
    values = np.array([2.0, 2.0, 1.0, 13.0, 10.0, 50.0])
    within = np.array([True, True, False, True, False, True])
    of_pair = np.array([0, 0, 0, 1, 1, 2])
    mean, other, difference = weigh_means(values, within, np.ones(6), of_pair)
    assert (mean, other) == pytest.approx(((2 + 2 + 13) / 3, (1 + 1 + 10) / 3))
    assert difference == pytest.approx((1 + 1 + 3) / 3)
    # The pair of stratum 2 has no partner.
    assert count_compared(within, of_pair) == {"within": 3, "between": 2, "difference": 5}


def test_pairs_between_clusters_come_from_the_strata_of_those_within() -> None:
    labels = np.tile(np.repeat(np.arange(3), 4), 2)
    strata = np.repeat([0, 1], 12)
    labels[12:] += 3 * (np.arange(12) > 7)
    first, second = draw_pairs(labels, strata, 40, 3)
    of_pair = stratify_pairs(strata, first, second)
    within = labels[first] == labels[second]
    assert len(first) == 40
    assert within.sum() == 20
    for stratum in np.unique(of_pair):
        inside = of_pair == stratum
        assert abs((within & inside).sum() - (~within & inside).sum()) <= 1


def test_a_difference_between_layers_is_none_between_clusters() -> None:
    # Heads of layer 0 interact strongly, and clusters never cross layers: without strata that would be a difference.
    labels = np.repeat(np.arange(8), 3)
    layers = np.repeat([0, 1], 12)
    first, second = np.triu_indices(24, 1)
    values = np.where(layers[first] + layers[second] == 0, 1.0, 0.0)[:, None] + np.zeros(4)
    alike = np.zeros(24, dtype=int)
    assert compare_pairs(values, first, second, labels, alike)["difference"]["value"] > 0.1
    result = compare_pairs(values, first, second, labels, layers)
    assert result["difference"]["value"] == pytest.approx(0)
    assert result["difference"]["p"] == 1
