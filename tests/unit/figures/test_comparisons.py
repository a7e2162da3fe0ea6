from dataclasses import replace
from typing import Any

import pytest
from comparisons import varied, verdict

from cahp.comparison import SplitResults
from cahp.figures.comparison import curve_figure, difference_figure, ranking_figure
from cahp.figures.comparison_blocks import Filters, show_heads

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


def test_the_ranking_has_the_best_on_top_and_pale_ties(reading: SplitResults) -> None:
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


def test_what_passed_the_test_is_solid_and_a_tie_is_hollow() -> None:
    tests = [verdict("random", 4, "complementary"), replace(verdict("gradient", 4, None), pp=2.0)]
    figure = difference_figure("complementary", tests, dark=True)
    assert list(figure.data[0].marker.symbol) == ["circle", "circle-open"]


def test_heads_are_counted_by_layer_and_masks_compared_with_those_of_the_same_seed() -> None:
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
