from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from colours import contrast_ratio
from comparisons import varied, verdict

from cahp.board.colourings import NEUTRAL
from cahp.comparison import SplitResults
from cahp.figures import comparison_heads, marks
from cahp.figures.comparison import curve_figure, difference_figure, ranking_figure, styles
from cahp.figures.marks import spread, written

METHODS = ("complementary", "gradient", "random")
_DOTS = ("circle", "circle-open")


@pytest.fixture(scope="module")
def reading() -> SplitResults:
    return varied().results_on("eval", "accuracy")


def test_lines_and_bands_are_the_means_and_their_intervals(reading: SplitResults) -> None:
    figure = curve_figure(reading, "refit", 3, METHODS, dark=False)
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}
    assert set(lines) == {"CAHP", "gradient", "random"}
    mean = reading.means["refit", "gradient", 5]
    assert lines["gradient"].y[1] == pytest.approx(100 * mean.accuracy.value)
    band = next(trace for trace in figure.data if trace.name == "gradient, 95 % interval")
    # With two seeds the intervals are wide: one ends at 0, which is drawn at a hundredth of the mean.
    low, high = (reading.means["refit", "gradient", k].accuracy for k in (3, 5))
    assert low.low == 0 < high.low
    assert sorted(band.y)[:2] == pytest.approx([low.value, 100 * high.low])


def test_each_line_has_its_name_at_its_end_in_the_order_of_the_ends_and_no_two_overlap(reading: SplitResults) -> None:
    figure = curve_figure(reading, "refit", 3, METHODS, dark=False)
    names = [re.sub("<.*?>", "", one.text) for one in sorted(figure.layout.annotations, key=lambda one: one.y)]
    ends = {trace.name: trace.y[-1] for trace in figure.data if trace.name in names}
    assert names == sorted(ends, key=lambda name: ends[name])
    assert {"CAHP", "gradient", "random"} < set(names)
    assert any(name.startswith("all heads") for name in names)
    places = sorted(one.y for one in figure.layout.annotations)
    assert min(np.diff(places)) * (figure.layout.height - 66) >= 15.9


def test_methods_that_were_not_chosen_stay_behind_without_a_name(reading: SplitResults) -> None:
    figure = curve_figure(reading, "refit", 3, ["gradient"], others=["complementary", "random"], dark=False)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [trace.name for trace in lines] == ["random", "CAHP", "gradient"]
    faint = marks.ink(dark=False).faint
    assert [trace.line.color == faint for trace in lines] == [True, True, False]
    assert not any("CAHP" in one.text for one in figure.layout.annotations)
    assert "CAHP" in lines[1].hovertext[0]


def test_three_of_twenty_methods_have_a_colour(reading: SplitResults) -> None:
    worse = reading.means["refit", "random", 3]
    many = {f"method-{place}": reading.methods["gradient"] for place in range(20)}
    means = {("refit", name, 3): replace(worse, method=name) for name in many}
    accuracy = replace(worse.outcomes["accuracy"], value=0.99)
    best = replace(worse, method="method-7", outcomes={**worse.outcomes, "accuracy": accuracy})
    results = replace(
        reading,
        document=replace(reading.document, methods={**reading.methods, **many}),
        means={**reading.means, **means, ("refit", "method-7", 3): best},
    )
    assert results.rank("refit", 3)[0].method == "method-7"
    drawn = styles(results, "refit", 3, dark=False)
    coloured = {name for name, style in drawn.items() if style.colour != NEUTRAL}
    assert coloured == {"complementary", "random", "method-7"}
    assert len({drawn[name].colour for name in coloured}) == 3
    # Their names have these colours.
    for dark in (False, True):
        for name in coloured:
            colour = styles(results, "refit", 3, dark=dark)[name].colour
            assert contrast_ratio(colour, marks.ink(dark=dark).ground) >= 4.5, (name, dark)


def test_the_ranking_has_the_best_on_top_dots_as_pruned_rings_after_refit_and_pale_ties(reading: SplitResults) -> None:
    tests = (verdict("random", 3, "complementary", "refit"), verdict("gradient", 3, None, "refit"))
    figure = ranking_figure(replace(reading, verdicts=tests), "refit", 3, METHODS, dark=False)
    ranked = sorted(METHODS, key=lambda name: -reading.means["refit", name, 3].accuracy.value)
    names = [re.sub("<.*?>", "", name).replace("CAHP", "complementary") for name in figure.layout.yaxis.ticktext]
    assert names == ranked
    dots, rings = (next(trace for trace in figure.data if trace.marker.symbol == symbol) for symbol in _DOTS)
    for trace, recovery in ((dots, "none"), (rings, "refit")):
        values = [100 * reading.means[recovery, name, 3].accuracy.value for name in ranked]
        assert list(trace.x) == pytest.approx(values)
        assert {name: value < 1 for name, value in zip(ranked, trace.marker.opacity, strict=True)} == {
            **{"complementary": False, "random": False},
            "gradient": True,
        }
    # The intervals are those after the recovery, and the band that of random selection.
    assert (dots.error_x.array, len(rings.error_x.array)) == (None, 3)
    random = reading.means["refit", "random", 3].accuracy
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == pytest.approx((100 * random.low, 100 * random.high))
    assert [re.sub("<.*?>", "", one.text) for one in figure.layout.annotations] == [
        reading.means["refit", name, 3].accuracy.text for name in ranked
    ]


def test_before_recovery_the_order_is_that_of_the_dots(reading: SplitResults) -> None:
    figure = ranking_figure(reading, "none", 3, METHODS, dark=True)
    dots = next(trace for trace in figure.data if trace.marker.symbol == "circle")
    assert list(dots.x) == sorted(dots.x, reverse=True)
    assert len(dots.error_x.array) == 3


def test_labels_are_moved_apart_as_little_as_possible() -> None:
    # The two that collide move by the same amount; at an end, only one can move.
    assert spread([0.2, 0.5, 0.52], 0.1) == pytest.approx([0.2, 0.46, 0.56])
    assert spread([0.0, 0.0], 0.1) == pytest.approx([0.0, 0.1])
    assert spread([], 0.1) == []


def test_what_passed_the_test_is_solid_and_a_tie_is_hollow() -> None:
    tests = [verdict("random", 4, "complementary"), verdict("gradient", 4, None)]
    figure = difference_figure("complementary", tests, dark=True)
    assert {trace.name: trace.marker.symbol for trace in figure.data} == {
        "significant": "circle",
        "not significant (n = 100, 2 seeds)": "circle-open",
    }


def test_the_overlap_matrix_is_symmetric_and_marks_less_than_random_selection(reading: SplitResults) -> None:
    table = comparison_heads.overlap_table(reading, 3, METHODS)
    values = table.to_numpy().tolist()
    assert values[0][1] == values[1][0] > 0
    less = replace(reading, random_overlap={**reading.random_overlap, 3: 0.9})
    texts = [comparison_heads.overlap_figure(one, 3, METHODS, dark=False).data[1].text[1] for one in (reading, less)]
    assert texts == [f"{values[0][1]:.2f}", f"{values[0][1]:.2f}↓"]


def test_the_mean_overlap_leaves_a_method_and_itself_out() -> None:
    table = pd.DataFrame([[1.0, 0.2, None], [0.2, 1.0, 0.4], [None, 0.4, 1.0]], dtype=np.float64)
    assert comparison_heads.mean_overlap(table) == pytest.approx(0.3)
    assert np.isnan(comparison_heads.mean_overlap(table.iloc[:1, :1]))


def test_numbers_are_readable_on_every_colour_of_the_scale() -> None:
    colours = written([["a", "b"]], [[0.0, 1.0]], marks.ink(dark=False)).textfont.color
    assert list(colours) == ["#000000", "#ffffff"]


def test_divergences_are_drawn_on_a_logarithmic_axis() -> None:
    results = varied(divergences=True).results
    figure = curve_figure(results, "refit", 3, METHODS, dark=False)
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}
    assert lines["random"].y[0] == pytest.approx(results.means["refit", "random", 3].outcomes["kl"].value)
    assert figure.layout.yaxis.type == "log"
    # The full model's divergence of 0 has no place on it.
    assert not any(str(trace.name).startswith("all heads") for trace in figure.data)
