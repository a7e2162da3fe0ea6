"""A board offers the colourings of which it knows the heads' groups, and those that its host can measure."""

import itertools

import numpy as np
import pytest
from colours import contrast_ratio, linear

from cahp.api.bundled import read_run
from cahp.board.colourings import CLUSTER_COLOURS, NEUTRAL, Coloured, contrast, encode, mark_clusters, mark_shares
from cahp.figures.marks import COMMUNITY_COLOURS, blend, ink


def test_colourings_that_lack_what_they_need_are_offered_or_left_out() -> None:
    assert encode([Coloured("roles", "roles", None)]) == []
    offered = encode([Coloured("roles", "roles", None, "next")])
    assert offered == [{"name": "roles", "label": "roles", "waits": "next"}]


def test_a_head_has_the_colour_and_the_percentage_of_what_kept_heads_can_reproduce_of_it() -> None:
    shares = np.array([[0.0, 0.199, 0.2], [0.85, 1.0, np.nan]])
    (painted,) = encode([Coloured("replaceability", "replaceability", mark_shares(shares))])
    assert painted["groups"].tolist() == [0, 0, 1, 4, 4, 5]
    assert [painted["signs"][group] for group in painted["groups"]] == ["0", "0", "20", "80", "80", ""]
    assert painted["words"][4] == "80 to 100 % replaceable"
    assert len(set(painted["colours"])) == len(painted["inks"]) == 6


#: What is left of linear red, green and blue for people without one kind of cone (Machado, Oliveira, Fernandes 2009).
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, blindness: str) -> np.ndarray:
    seen = np.clip(np.asarray(BLINDNESS[blindness]) @ linear(colour), 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    scaled = np.asarray(to_xyz) @ seen / [0.95047, 1, 1.08883]
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("colours", [CLUSTER_COLOURS, COMMUNITY_COLOURS], ids=["clusters", "communities"])
def test_every_two_colours_stay_apart_for_the_colour_blind(colours: tuple[str, ...], blindness: str) -> None:
    seen = [lab(colour, blindness) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


def test_the_eight_largest_families_get_hues_the_next_eight_stripes_and_the_rest_is_neutral() -> None:
    # Cluster 0 has one head, cluster 1 two, ...
    labels = np.repeat(np.arange(19), np.arange(1, 20))
    marks = mark_clusters(labels)
    of_cluster = {
        int(label): (colour, bool(line))
        for label, colour, line in zip(labels, marks.colours, marks.striped, strict=True)
    }
    assert [of_cluster[label] for label in range(3)] == [(NEUTRAL, False)] * 3
    assert of_cluster[18] == (CLUSTER_COLOURS[0], False)
    assert [label for label, (_, line) in of_cluster.items() if line] == list(range(3, 11))
    # No two of sixteen clusters look alike.
    assert len({of_cluster[label] for label in range(3, 19)}) == 16


@pytest.mark.parametrize("name", ["minilm-bbc", "smollm2"])
def test_no_head_changes_its_colour_with_the_budget_and_none_is_grey(name: str) -> None:
    bundle = read_run(name)
    clusters = bundle.evidence()
    drawn = [mark_clusters(clusters.groups(k)[0], clusters.families) for k in clusters.clustering.ks.tolist()]
    assert all(marks.colours == drawn[0].colours for marks in drawn)
    assert NEUTRAL not in drawn[0].colours
    # At the suggested budget a letter is a colour: families are its clusters.
    knee = clusters.clustering.knee
    at_knee = mark_clusters(clusters.groups(knee)[0], clusters.families)
    looks = set(zip(at_knee.names, at_knee.colours, at_knee.striped.tolist(), strict=True))
    assert len(looks) == len(set(at_knee.names)) == knee


@pytest.mark.parametrize("dark", [False, True])
def test_letters_are_readable_on_kept_and_on_pruned_heads(dark: bool) -> None:
    for colour in CLUSTER_COLOURS:
        for fill in (colour, blend(colour, ink(dark=dark).ground, 0.2)):
            assert contrast_ratio(fill, contrast(fill)) >= 4.5, (colour, fill, dark)
