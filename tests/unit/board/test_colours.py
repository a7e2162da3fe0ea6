from __future__ import annotations

import itertools

import numpy as np
import pytest

from cahp.board.colours import CLUSTER_COLOURS, NEUTRAL, contrast, hues, letters, striped
from cahp.figures.palette import COMMUNITIES

#: What is left of linear red, green and blue for people without one kind of cone (Machado, Oliveira, Fernandes 2009).
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, blindness: str) -> np.ndarray:
    channels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(BLINDNESS[blindness]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    scaled = np.asarray(to_xyz) @ seen / [0.95047, 1, 1.08883]
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("colours", [CLUSTER_COLOURS, COMMUNITIES.colours], ids=["clusters", "communities"])
def test_every_two_colours_stay_apart_for_the_colour_blind(colours: tuple[str, ...], blindness: str) -> None:
    seen = [lab(colour, blindness) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


def test_the_eight_largest_clusters_get_hues_the_next_eight_stripes_and_the_rest_is_neutral() -> None:
    # Cluster 0 has one head, cluster 1 two, ...
    labels = np.repeat(np.arange(19), np.arange(1, 20))
    colours, lines = hues(labels), striped(labels)
    assert colours[:3] == [NEUTRAL, NEUTRAL, NEUTRAL]
    assert colours[18] == CLUSTER_COLOURS[0]
    assert sorted(colours[11:]) == sorted(colours[3:11]) == sorted(CLUSTER_COLOURS)
    of_cluster = {int(label): bool(line) for label, line in zip(labels, lines, strict=True)}
    assert [label for label, line in of_cluster.items() if line] == list(range(3, 11))
    # No two of sixteen clusters look alike.
    assert len({(colours[label], of_cluster[label]) for label in range(3, 19)}) == 16


def test_a_cluster_of_one_head_has_no_hue() -> None:
    assert hues(np.array([0, 1, 1])) == [NEUTRAL, CLUSTER_COLOURS[0]]


def test_clusters_are_named_like_columns_of_a_spreadsheet() -> None:
    assert [letters(index) for index in (0, 25, 26, 27, 701, 702)] == ["A", "Z", "AA", "AB", "ZZ", "AAA"]


def test_text_is_black_or_white_whichever_is_easier_to_read() -> None:
    assert [contrast(colour) for colour in ("#ffffff", "#000000", "#E69F00", "#0072B2")] == [
        "#000000",
        "#ffffff",
        "#000000",
        "#ffffff",
    ]
