from __future__ import annotations

from dataclasses import replace

import numpy as np
from clusters import on_a_line

from cahp.run.settings import Settings
from cahp.values import HeadMask


def test_the_suggestion_is_the_knee_and_what_the_floor_adds() -> None:
    found = on_a_line().suggested(Settings())
    assert found is not None
    # Most salient of each cluster: 1 of {0, 1}, 3 of {2, 3}, 5 of {4, 5}.
    assert found.mask.flat == [1, 3, 5]


def test_even_selections_keep_as_many_heads_in_every_layer() -> None:
    even = Settings(even=True)
    selections = on_a_line().selections(even)
    assert [one.mask.keep.sum(axis=1).tolist() for one in selections] == [[1, 1], [2, 2], [3, 3]]
    # The knee keeps 3 heads, halfway between two budgets: the larger one is suggested.
    suggested = on_a_line().suggested(even)
    assert suggested is not None
    assert suggested.mask.count == 4


def test_the_groups_of_a_number_that_was_not_tried_are_those_of_the_nearest() -> None:
    clusters = on_a_line()
    sparse = replace(clusters.clustering, ks=np.array([2, 5]))
    of = replace(clusters, clustering=sparse)
    assert [of.groups(k)[0].max() for k in (1, 3, 4, 9, None)] == [1, 1, 2, 2, 2]


def test_the_nearest_kept_head_of_the_same_cluster_covers() -> None:
    labels = on_a_line().groups(3)[0]
    assert on_a_line().nearest_kept(HeadMask.of([1, 3, 5], 2, 3), 2, labels) == (3, 1.0, True)


def test_a_cluster_without_a_kept_head_uses_the_nearest_of_all_kept_heads() -> None:
    labels = on_a_line().groups(3)[0]
    assert on_a_line().nearest_kept(HeadMask.of([1, 5], 2, 3), 2, labels) == (1, 9.0, False)


def test_a_kept_head_does_not_cover_for_itself() -> None:
    labels = on_a_line().groups(2)[0]
    assert on_a_line().nearest_kept(HeadMask.of([1, 2, 5], 2, 3), 1, labels) == (2, 9.0, True)


def test_another_degree_moves_the_knee_and_nothing_else() -> None:
    before = on_a_line()
    moved = before.with_degree(2)
    # Two numbers of clusters have no knee that a polynomial could find.
    assert moved.clustering.knee_rule != before.clustering.knee_rule
    assert np.array_equal(moved.clustering.labels, before.clustering.labels)
    assert moved.salience is before.salience
