"""Answers about roles, by hand."""

from __future__ import annotations

from dataclasses import replace

import docs
import numpy as np
import pytest
from copying import roles_of

from cahp.api import bundled
from cahp.features.roles.section import compare_kept, describe_ablation, find_breaks, share_clusters
from cahp.run.evidence import stored_roles
from cahp.ui.session.opening import Source
from cahp.values import Estimate
from cahp.values.head_roles import NOUNS, ROLES, THRESHOLDS, RoleAblation


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
    assert str(apart).endswith("not significant (n = 4 heads)")
    assert share_clusters(roles_of("first", "none"), np.array([0, 1])) is None
    # Heads of a layer share clusters whatever their roles: that alone is no finding.
    layer = share_clusters(roles_of(*["first"] * 4, *["none"] * 4, heads=4), np.repeat([0, 1], 4))
    assert layer is not None
    assert (layer.share, layer.chance, layer.p) == (1.0, 1.0, 1.0)


def test_kept_roles_are_compared_with_random_masks_of_the_same_size() -> None:
    keep = np.array([[True] * 10 + [False] * 10])
    rows = {row.role: row for row in compare_kept(roles_of(*["first"] * 10, *["none"] * 10), keep)}
    first = rows["first"]
    assert (first.kept, first.count, first.expected) == (10, 10, 5.0)
    # One of the 184,756 masks keeps all ten; two sides, two roles.
    assert first.p == pytest.approx(4 / 184_756)
    assert str(first) == "keeps 10 of 10 first token heads; random masks keep 3 to 7 (95 %): p < 0.001"
    level = compare_kept(roles_of("first", "none"), np.array([[True, False]]))
    assert [str(row) for row in level] == [
        "keeps 1 of 1 first token head; random masks keep 0 to 1 (95 %): not significant (n = 1)",
        "keeps 0 of 1 head without a role; random masks keep 0 to 1 (95 %): not significant (n = 1)",
    ]


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


def nats(value: float) -> Estimate:
    return Estimate(value, (value - 1, value + 1), 6, "nats")


def test_an_ablation_tells_its_random_sets_its_p_value_and_its_verdict() -> None:
    compared = RoleAblation(
        *("induction", "copying", 7, nats(4), nats(9), nats(2), (-0.5, 8.0), nats(7), 199, 0.01, 0.04, 729, 6, 5, 6)
    )
    assert describe_ablation(compared, "group") == (
        "without the 7 induction groups the copying loss rises by 9.000 (8.000 to 10.000) nats per token from 4.000, "
        "without random groups of its layers by 2.000 (−0.500 to 8.000 in 199 sets; they can differ in 5 of 6 "
        "layers and 6 of 7 groups, 729 ways): difference 7.000 (6.000 to 8.000), n = 6 sequences, p = 0.0100, 0.040 "
        "corrected; confirmed"
    )
    by_chance = replace(compared, corrected=0.06)
    assert describe_ablation(by_chance, "group").endswith("; not significant (n = 6 sequences)")
    unsure = replace(compared, extra=Estimate(1, (-0.1, 2.1), 6, "nats"))
    assert unsure.confirmed is False


def test_an_ablation_that_cannot_be_tested_says_so() -> None:
    alone = RoleAblation("first", "copying", 6, nats(4), nats(9), sets=1, layers=2)
    assert alone.confirmed is None
    assert "; not testable: these are all heads of their layers" in describe_ablation(alone, "head")


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
    assert not any(row.significant for row in kept.values())
    for role, units in (("induction", "induction groups (random masks keep"), ("retrieval", "retrieval groups (")):
        assert f"{kept[role].kept} of {kept[role].count} {units}" in page
