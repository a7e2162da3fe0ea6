from __future__ import annotations

import numpy as np

from cahp.board.colourings import CLUSTER_COLOURS, NEUTRAL
from cahp.figures.head_grid import grid_figure
from cahp.figures.marks import COMMUNITY_COLOURS, mark_communities
from cahp.values import HeadMask


def test_nobody_takes_a_community_for_a_cluster() -> None:
    assert not set(CLUSTER_COLOURS) & set(COMMUNITY_COLOURS)
    assert mark_communities(np.arange(10)).names == [str(number) for number in range(1, 11)]


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
