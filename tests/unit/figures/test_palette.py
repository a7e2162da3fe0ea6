from __future__ import annotations

import numpy as np
from colours import contrast_ratio

from cahp.board.colourings import CLUSTER_COLOURS, NEUTRAL, contrast
from cahp.figures.head_grid import grid_figure
from cahp.figures.marks import COMMUNITY_COLOURS, ink, mark_communities
from cahp.values import HeadMask


def test_nobody_takes_a_community_for_a_cluster() -> None:
    assert not set(CLUSTER_COLOURS) & set(COMMUNITY_COLOURS)
    assert mark_communities(np.arange(10)).names == [str(number) for number in range(1, 11)]


def test_every_community_is_seen_on_light_and_on_dark_ground() -> None:
    for colour in COMMUNITY_COLOURS:
        for dark in (False, True):
            assert contrast_ratio(colour, ink(dark=dark).ground) >= 3, (colour, dark)
        assert contrast(colour) in ("#000000", "#ffffff")


def test_the_largest_groups_get_the_hues_and_loners_none() -> None:
    labels = np.array([0, 1, 1, 2, 2, 2])
    assert mark_communities(labels).colours == [NEUTRAL, *[COMMUNITY_COLOURS[1]] * 2, *[COMMUNITY_COLOURS[0]] * 3]


def test_a_grid_of_communities_says_so_and_numbers_them() -> None:
    figure = grid_figure(HeadMask.full(2, 3), mark_communities(np.array([0, 0, 1, 1, 1, 2])))
    assert list(figure.data[0].text) == ["1", "1", "2", "2", "2", "3"]
    assert figure.data[0].hovertext[5] == "<b>layer 1, head 2</b><br>kept<br>community 3"
    assert figure.data[0].marker.color[5] == NEUTRAL


def test_a_grid_lays_the_layers_of_a_deep_model_from_left_to_right() -> None:
    figure = grid_figure(HeadMask.full(30, 3), mark_communities(np.arange(90) % 4), selected=5)
    # Head 5 is head 2 of layer 1.
    assert (figure.data[0].x[5], figure.data[0].y[5]) == (1, 2)
    assert (*figure.data[-1].x, *figure.data[-1].y) == (1, 2)
    assert figure.layout.xaxis.title.text == "Layer"
