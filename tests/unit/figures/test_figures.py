import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from comparisons import varied, verdict

from cahp.board.colourings import CLUSTER_COLOURS, mark_clusters
from cahp.comparison import SplitResults
from cahp.figures.comparison import curve_figure, ranking_figure
from cahp.figures.comparison_blocks import Filters, show_heads
from cahp.figures.head_grid import grid_figure
from cahp.figures.marks import blend, label
from cahp.figures.run import space_figure
from cahp.figures.similarity import attention_figure, matrix
from cahp.run.settings import Settings
from cahp.values import HeadMask


def test_survivors_are_solid_and_pruned_heads_tinted_whatever_their_colour() -> None:
    mask = HeadMask.of([0, 5], 2, 3)
    figure = grid_figure(mask, mark_clusters(np.array([0, 0, 1, 1, 2, 2])))
    solid, light = figure.data
    assert (solid.marker.color[0], list(solid.customdata)) == (CLUSTER_COLOURS[0], [0, 5])
    assert (light.marker.color[0], list(light.customdata)) == (blend(CLUSTER_COLOURS[0], "#ffffff", 0.2), [1, 2, 3, 4])
    assert list(solid.x) == [0, 2]
    assert list(solid.y) == [0, 1]
    assert solid.hovertext[1] == "<b>layer 1, head 2</b><br>kept<br>cluster C"
    assert figure.layout.xaxis.title.text == "Head"
    # In their space they lie where they are, and the most salient are ringed.
    settings = Settings(projection="pca")
    figure = space_figure(PLANE, SALIENCE, mark_clusters(LABELS), MASK, settings, unit="group", dark=False)
    kept, pruned, *legend, best = figure.data
    assert (list(kept.customdata), list(kept.x), list(kept.y)) == ([2, 4], [4, 8], [5, 9])
    assert (list(pruned.customdata), pruned.marker.symbol[0]) == ([0, 1, 3, 5], "circle")
    assert kept.hovertext[0].startswith("<b>layer 0, group 2</b><br>kept<br>cluster A<br>")
    assert [trace.name for trace in legend] == ["kept", "pruned"]
    assert sorted(best.x) == [4, 8, 10]
    assert figure.layout.xaxis.title.text == "PCA"


#: Five heads of three clusters; of the largest, head 2 is the most salient.
LABELS = np.array([0, 0, 0, 1, 2, 1])
PLANE = np.arange(12.0, dtype=np.float32).reshape(6, 2)
SALIENCE = np.array([[0.1, 0.2, 0.9], [0.3, 0.5, 0.4]])
MASK = HeadMask.of([2, 4], 2, 3)


def test_attention_shows_the_words_harmless_and_apart_though_equal() -> None:
    figure = attention_figure(["<b>", "the", "the"], np.full((3, 3), 1 / 3))
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;", "the", "the"]
    assert len(set(figure.data[0].x)) == 3
    assert "<b>" not in json.dumps(figure.to_dict(), default=str)
    # The matrix is ordered by community.
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


METHODS = ("complementary", "gradient", "random")


@pytest.fixture(scope="module")
def reading() -> SplitResults:
    return varied().results_on("eval", "accuracy")


def test_lines_are_the_means_and_their_intervals(reading: SplitResults) -> None:
    figure = curve_figure(reading, "refit", 3, METHODS, dark=False)
    lines = {trace.name: trace for trace in figure.data}
    assert set(lines) == {"CAHP", "gradient", "random"}
    low, high = (reading.means["refit", "random", budget].outcomes["accuracy"] for budget in (3, 5))
    assert list(lines["random"].y) == pytest.approx([100 * low.value, 100 * high.value])
    assert lines["random"].error_y.array[1] == pytest.approx(100 * (high.high - high.value))
    assert any("all heads" in one.text for one in figure.layout.annotations)
    # The ranking has the best on top, and pale ties.
    tests = (verdict("random", 3, "complementary", "refit"), verdict("gradient", 3, None, "refit"))
    figure = ranking_figure(replace(reading, tests=tests), "refit", 3, METHODS, dark=False)
    means = {name: reading.means["refit", name, 3].outcomes["accuracy"] for name in METHODS}
    ranked = sorted(METHODS, key=lambda name: -means[name].value)
    assert [name.replace("CAHP", "complementary") for name in figure.layout.yaxis.ticktext] == ranked
    (dots,) = figure.data
    assert list(dots.x) == pytest.approx([100 * means[name].value for name in ranked])
    assert [name for name, opacity in zip(ranked, dots.marker.opacity, strict=True) if opacity < 1] == ["gradient"]
    # The band is that of random selection.
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert band.x1 == pytest.approx(100 * means["random"].high)


def test_masks_are_compared_by_seed() -> None:
    layers, alike, *_ = show_heads(varied().results, Filters("kl", "refit", 3, METHODS))
    # CAHP and gradient have two heads in common, of four that one of them keeps.
    assert layers.texts == [["CAHP", "1.0", "2.0"], ["gradient", "2.0", "1.0"], ["random", "1.0", "2.0"]]
    assert [row[1:] for row in alike.texts] == [["", "0.50", "0.20"], ["0.50", "", "0.20"], ["0.20", "0.20", ""]]


@pytest.mark.parametrize("said", [None, {}, {"seeds": [{"method": "complementary", "jaccard": "much"}]}])
def test_a_method_s_own_masks_are_compared_with_each_other_whatever_a_file_says(said: Any) -> None:
    results = varied().results
    if said is not None:
        results = replace(results, summary=replace(results.summary, overlap=said))
    *_, table, _ = show_heads(results, Filters("kl", "refit", 3, METHODS[:1]))
    # Both seeds keep the same heads; 3 of 6 heads at random share 0.365.
    assert table.texts == [["CAHP", "1.00", "0.36", "1"]]
