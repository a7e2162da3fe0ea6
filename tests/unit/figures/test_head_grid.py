from __future__ import annotations

import numpy as np

from cahp.board.colourings import CLUSTER_COLOURS, mark_clusters
from cahp.figures.head_grid import cell_figure, grid_figure
from cahp.figures.marks import blend
from cahp.values import HeadMask


def test_survivors_are_solid_and_pruned_heads_tinted_whatever_their_colour() -> None:
    mask = HeadMask.of([0, 5], 2, 3)
    figure = grid_figure(mask, mark_clusters(np.array([0, 0, 1, 1, 2, 2])), selected=4)
    solid, light = figure.data[:2]
    assert (solid.marker.color[0], list(solid.customdata)) == (CLUSTER_COLOURS[0], [0, 5])
    assert (light.marker.color[0], list(light.customdata)) == (blend(CLUSTER_COLOURS[0], "#ffffff", 0.2), [1, 2, 3, 4])
    assert list(solid.x) == [0, 2]
    assert list(solid.y) == [0, 1]
    assert solid.hovertext[1] == "<b>layer 1, head 2</b><br>kept<br>cluster C"
    assert [list(frame.customdata) for frame in figure.data[2:4]] == [[4, 5], [4]]
    assert figure.layout.xaxis.title.text == "Head"


def test_the_second_eight_groups_are_crossed_and_a_lit_group_is_framed() -> None:
    labels = np.repeat(np.arange(9), [3, 3, 3, 3, 3, 3, 3, 3, 2])
    mask = HeadMask.of(list(range(25)), 2, 13)
    # Squares without room for letters.
    figure = grid_figure(mask, mark_clusters(labels), selected=24, width=200)
    solid, light, alike = figure.data[:3]
    assert list(solid.marker.symbol) == ["square"] * 24 + ["square-x"]
    assert list(light.marker.symbol) == ["square-x"]
    # Without a line, no cross is drawn.
    assert list(solid.marker.line.width) == [0] * 24 + [1]
    assert (list(alike.customdata), alike.marker.symbol) == ([24, 25], "square-open")
    # A cross would strike out the letter, which tells the group.
    lettered = grid_figure(mask, mark_clusters(labels)).data[0]
    assert (lettered.text[24], lettered.marker.symbol) == ("I", "square")


def test_the_cells_of_a_deep_model_lie_on_their_side() -> None:
    figure = cell_figure(
        100 * np.arange(21).reshape(7, 3) / 21, framed=[(4, 1)], scale="kept", hover="", unit="head", dark=False
    )
    (cells,) = figure.data
    assert np.array(cells.z).shape == (3, 7)
    assert cells.hovertemplate.startswith("layer %{x}, head %{y}")
    assert [(frame.x0 + 0.46, frame.y0 + 0.46) for frame in figure.layout.shapes] == [(4, 1)]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Layer", "Head")
