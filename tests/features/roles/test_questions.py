"""Answers about roles, by hand."""

from __future__ import annotations

from dataclasses import replace

import docs
import numpy as np
import pytest
from copying import roles_of

from cahp.api import bundled
from cahp.features.roles.section import (
    ROLES_OF_HEADS,
    compare_clusters,
    compare_kept,
    describe_breaks,
    describe_clusters,
)
from cahp.run.evidence import stored_roles
from cahp.run.measures import MaskSubject
from cahp.show.terminal import lines
from cahp.ui.session.opening import Source
from cahp.values import Estimate, HeadMask
from cahp.values.head_roles import NOUNS, ROLES, THRESHOLDS, RoleAblation


def test_kept_roles_are_compared_with_random_masks_of_the_same_size() -> None:
    keep = np.array([[True] * 10 + [False] * 10])
    first, none = compare_kept(roles_of(*["first"] * 10, *["none"] * 10), keep)
    assert (first.role, first.kept, first.count, first.low, first.high) == ("first", 10, 10, 3, 7)
    # One of the 184,756 masks keeps all ten; two sides, two roles.
    assert first.p == none.p == pytest.approx(4 / 184_756)
    level = compare_kept(roles_of("first", "none"), np.array([[True, False]]))
    assert [(row.kept, row.low, row.high, row.p) for row in level] == [(1, 0, 1, 1.0), (0, 0, 1, 1.0)]


def test_heads_that_share_a_cluster_are_told_from_heads_that_do_not() -> None:
    roles = roles_of(*["first"] * 4, *["none"] * 8)
    together = compare_clusters(roles, np.repeat([0, 1, 2], 4))
    # Of the 495 ways to name four of twelve heads, three put all into one cluster.
    assert together == (1.0, pytest.approx(3 / 11, abs=0.02), pytest.approx(3 / 495, abs=0.004))
    apart = compare_clusters(roles, np.tile([0, 1, 2, 3], 3))
    assert apart is not None
    assert (apart[0], apart[2]) == (0.0, 1.0)
    assert describe_clusters(roles_of("first", "none"), np.array([0, 1])) == ""
    # Heads of a layer share clusters whatever their roles: that alone is no finding.
    layer = roles_of(*["first"] * 4, *["none"] * 4, heads=4)
    assert compare_clusters(layer, np.repeat([0, 1], 4)) == (1.0, 1.0, 1.0)


def test_what_loses_a_nat_at_more_kept_heads_breaks_first() -> None:
    def losses(copying: float, text: float) -> dict[str, Estimate]:
        return {"copying": Estimate(copying, None, 8, "nats"), "nll": Estimate(text, None, 9, "nats")}

    full = losses(3.0, 4.0)
    measured = {2: losses(9.0, 5.5), 4: losses(5.0, 4.5), 6: losses(3.2, 4.1), 8: full}
    assert describe_breaks(measured, full, "head").endswith("copying at 4 heads and by ordinary text at 2 heads.")
    assert describe_breaks({8: full}, full, "head").endswith(
        "copying at no measured number and by ordinary text at no measured number."
    )
    assert describe_breaks({8: {}}, {}, "head") == ""


def nats(value: float) -> Estimate:
    return Estimate(value, (value - 1, value + 1), 6, "nats")


def test_an_ablation_tells_its_random_sets_its_p_value_and_its_verdict() -> None:
    compared = RoleAblation("induction", 7, nats(9), nats(2), nats(7), p=0.01, corrected=0.04, sets=729, free_heads=6)
    unsure = replace(compared, extra=Estimate(1, (-0.1, 2.1), 6, "nats"))
    assert not unsure.confirmed
    alone = RoleAblation("first", 6, nats(9), sets=1)
    assert not alone.confirmed
    by_chance = replace(compared, role="previous", corrected=0.06)
    roles = replace(roles_of("first", "none"), ablations=(compared, by_chance, alone))
    shown = list(lines(ROLES_OF_HEADS.show(roles, MaskSubject(HeadMask.full(1, 2)))))
    (row,) = [line for line in shown if "729 ways" in line and "induction" in line]
    cells = "induction 9.000 [8.000, 10.000] 2.000 [1.000, 3.000] 7.000 [6.000, 8.000] 6 of 7, 729 ways"
    assert " ".join(row.split()) == f"{cells} confirmed, p = 0.040"
    assert any(line.endswith("not significant, p = 0.060") for line in shown)
    assert any(line.endswith("not testable") and "1 ways" in line for line in shown)


def test_the_guide_states_the_roles_that_ship() -> None:
    run = bundled.read_run("smollm2")
    assert run is not None
    roles = stored_roles(Source.open(bundled.RUNS["smollm2"]).bench.resources)
    assert roles is not None
    page = " ".join(docs.PAGES["assets/docs/language-models.md"].split())
    counts = dict(roles.counts)
    without = counts.pop("none")
    named = [f"{count} {NOUNS[role]}" for role, count in counts.items()]
    assert (
        f"{sum(counts.values())} have a role: {', '.join(named)}".replace("retrieval", "are named retrieval", 1) in page
    )
    assert sum(counts.values()) + without == 90
    for role, row in roles.at_thresholds.items():
        cells = [str(count) for count in row]
        cells[THRESHOLDS.index(ROLES[role].least)] += "*"
        assert f"| {NOUNS[role]} | {' | '.join(cells)} |" in page
    kept = {row.role: row for row in compare_kept(roles, run.document.mask.keep)}
    assert all(row.p > 0.05 for row in kept.values())
    for role, units in (("induction", "induction groups (random masks keep"), ("retrieval", "retrieval groups (")):
        assert f"{kept[role].kept} of {kept[role].count} {units}" in page
