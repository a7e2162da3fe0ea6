from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clusters import on_a_line

from cahp.values import HeadMask


def test_the_groups_of_a_number_that_was_not_tried_are_those_of_the_nearest() -> None:
    clusters = on_a_line()
    sparse = replace(clusters.clustering, ks=np.array([2, 5]))
    of = replace(clusters, clustering=sparse)
    assert [of.groups(k)[0].max() for k in (1, 3, 4, 9, None)] == [1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("clusters", "kept", "head", "nearest"),
    [
        pytest.param(3, [1, 3, 5], 2, (3, 1.0, True), id="of the same cluster"),
        pytest.param(3, [1, 5], 2, (1, 9.0, False), id="of all where the cluster has none"),
        pytest.param(2, [1, 2, 5], 1, (2, 9.0, True), id="never itself"),
    ],
)
def test_the_nearest_kept_head_covers(
    clusters: int, kept: list[int], head: int, nearest: tuple[int, float, bool]
) -> None:
    labels = on_a_line().groups(clusters)[0]
    assert on_a_line().nearest_kept(HeadMask.of(kept, 2, 3), head, labels) == nearest
