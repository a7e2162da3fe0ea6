"""Answers about roles, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from copying import roles_of

from cahp.features.roles.questions import compare_kept, find_breaks, share_clusters
from cahp.values import Estimate


def test_heads_that_share_a_cluster_are_told_from_heads_that_do_not() -> None:
    roles = roles_of(*["first"] * 4, *["none"] * 8)
    one = share_clusters(roles, np.repeat([0, 1, 2], 4))
    assert one is not None
    # Of the 495 ways to name four of twelve heads, three put all into one cluster.
    assert (one.share, one.clusters, one.largest) == (1.0, 1, 4)
    assert one.p == pytest.approx(3 / 495, abs=0.004)
    assert one.chance == pytest.approx(3 / 11, abs=0.02)
    assert "they form one cluster" in str(one)
    apart = share_clusters(roles, np.tile([0, 1, 2, 3], 3))
    assert apart is not None
    assert (apart.share, apart.clusters) == (0.0, 4)
    assert apart.p == 1.0
    assert "not resolved" in str(apart)
    assert share_clusters(roles_of("first", "none"), np.array([0, 1])) is None


def test_kept_roles_are_compared_with_random_masks_of_the_same_size() -> None:
    keep = np.array([[True] * 10 + [False] * 10])
    rows = {row.role: row for row in compare_kept(roles_of(*["first"] * 10, *["none"] * 10), keep)}
    first = rows["first"]
    assert (first.kept, first.count, first.expected) == (10, 10, 5.0)
    # One of the 184,756 masks keeps all ten; two sides, two roles.
    assert first.p == pytest.approx(4 / 184_756)
    assert str(first).startswith("10 of 10 first token, more than random selection (5.0, 3 to 7")
    level = compare_kept(roles_of("first", "none"), np.array([[True, False]]))
    assert [row.resolved for row in level] == [False, False]


def outcomes(copying: float, text: float) -> dict[str, Estimate]:
    return {"copying": Estimate(copying, None, 8, "nats"), "nll": Estimate(text, None, 9, "nats")}


def test_what_loses_a_nat_at_more_kept_heads_breaks_first() -> None:
    full = outcomes(3.0, 4.0)
    measured = {2: outcomes(9.0, 5.5), 4: outcomes(5.0, 4.5), 6: outcomes(3.2, 4.1), 8: full}
    found = find_breaks(measured, full, 8)
    assert found is not None
    assert (found.copying, found.text) == (4, 2)
    assert str(found) == "copying breaks first: it loses 1 nat per token at 4 of 8 heads, ordinary text at 2"
    assert "neither" in str(find_breaks({6: measured[6], 8: full}, full, 8))
    assert find_breaks({8: {}}, {}, 8) is None
