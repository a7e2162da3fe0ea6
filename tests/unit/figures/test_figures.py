import json

import numpy as np
import pytest

from cahp.board.colourings import CLUSTER_COLOURS, mark_clusters
from cahp.figures.head_grid import grid_figure
from cahp.figures.marks import blend, label
from cahp.figures.run import space_figure
from cahp.figures.similarity import attention_figure, matrix
from cahp.run.settings import Settings
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


#: Five heads of three clusters; of the largest, head 2 is the most salient.
LABELS = np.array([0, 0, 0, 1, 2, 1])
PLANE = np.arange(12.0, dtype=np.float32).reshape(6, 2)
SALIENCE = np.array([[0.1, 0.2, 0.9], [0.3, 0.5, 0.4]])
MASK = HeadMask.of([2, 4], 2, 3)


def test_kept_and_pruned_heads_lie_where_they_are_and_the_most_salient_are_ringed() -> None:
    settings = Settings(projection="pca")
    # The cluster of head 5 is framed.
    figure = space_figure(PLANE, SALIENCE, mark_clusters(LABELS), MASK, settings, lit=5, unit="group", dark=False)
    kept, pruned, lit, *legend, best = figure.data
    assert (list(kept.customdata), list(kept.x), list(kept.y)) == ([2, 4], [4, 8], [5, 9])
    assert (list(pruned.customdata), pruned.marker.symbol[0]) == ([0, 1, 3, 5], "circle")
    assert kept.hovertext[0].startswith("<b>layer 0, group 2</b><br>kept<br>cluster A<br>")
    assert list(lit.x) == [6, 10]
    assert [trace.name for trace in legend] == ["kept", "pruned"]
    assert sorted(best.x) == [4, 8, 10]
    assert figure.layout.xaxis.title.text == "PCA 1 (no unit)"


def test_attention_shows_the_words_harmless_and_apart_though_equal() -> None:
    figure = attention_figure(["<b>", "the", "the"], np.full((3, 3), 1 / 3))
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;", "the", "the"]
    assert len(set(figure.data[0].x)) == 3
    assert "<b>" not in json.dumps(figure.to_dict(), default=str)


def test_the_matrix_is_ordered_by_community() -> None:
    apart = np.array([[0, 0.8, 0.2], [0.8, 0, 0.6], [0.2, 0.6, 0]])
    figure, finding = matrix(apart, np.array([0, 1, 0]), HeadMask.of([1], 1, 3), dark=False)
    assert list(figure.data[0].x) == ["layer 0, head 0", "layer 0, head 2", "layer 0, head 1"]
    assert figure.data[0].z[0].tolist() == pytest.approx([0, 0.2, 0.8])
    assert finding == "Mean distance 0.20 within communities, 0.70 between them"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ('<a href="javascript:alert(1)">', '&lt;a href="javascript:ale…'),
        ("a&amp;b", "a&amp;amp;b"),
        ("$x$", "＄x＄"),
        ("a\u202eb\x00c", "a·b·c"),
        ("😀 مرحبا", "😀 مرحبا"),
        ("", ""),
    ],
)
def test_what_a_person_typed_is_no_markup_in_a_label(typed: str, shown: str) -> None:
    assert label(typed) == shown
