from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("plotly", reason="what draws figures is not installed")

from comparisons import varied, verdict

from cahp.board.colours import CLUSTER_COLOURS
from cahp.comparison import SplitResults
from cahp.comparison.document import ComparisonDocument
from cahp.figures import comparison_heads, palette
from cahp.figures.claims import compression_figure
from cahp.figures.comparison import curve_figure, difference_figure, styles
from cahp.figures.marks import written

METHODS = ("complementary", "gradient", "random")


@pytest.fixture(scope="module")
def reading() -> SplitResults:
    return varied().results_on("eval", "accuracy")


def test_lines_and_bands_are_the_means_and_their_intervals(reading: SplitResults) -> None:
    figure = curve_figure(reading, "refit", METHODS, dark=False)
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}
    assert set(lines) == {"CAHP", "gradient", "random"}
    mean = reading.means["refit", "gradient", 5]
    assert lines["gradient"].y[1] == pytest.approx(100 * mean.accuracy.value)
    band = next(trace for trace in figure.data if trace.name == "gradient, 95 % interval")
    assert sorted(band.y)[0] == pytest.approx(
        100 * min(reading.means["refit", "gradient", k].accuracy.low for k in (3, 5))
    )


def test_the_legend_names_every_line_in_the_order_in_which_they_end(reading: SplitResults) -> None:
    figure = curve_figure(reading, "refit", METHODS, dark=False)
    named = [trace for trace in figure.data if trace.showlegend is None]
    ends = {trace.name: trace.y[-1] for trace in sorted(named, key=lambda trace: trace.legendrank)}
    assert {"CAHP", "gradient", "random"} < set(ends)
    assert any(name.startswith("all heads") for name in ends)
    assert list(ends.values()) == sorted(ends.values(), reverse=True)


def test_methods_that_were_not_chosen_stay_behind_without_a_name(reading: SplitResults) -> None:
    figure = curve_figure(reading, "refit", ["gradient"], others=["complementary", "random"], dark=False)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [trace.name for trace in lines] == ["CAHP", "random", "gradient"]
    faint = palette.ink(dark=False).faint
    assert [trace.line.color == faint for trace in lines] == [True, True, False]
    assert [trace.name for trace in lines if trace.showlegend is None] == ["gradient"]
    assert "CAHP" in lines[0].hovertext[0]


def test_twenty_methods_are_told_apart_without_twenty_hues(reading: SplitResults) -> None:
    many = {f"method-{place}": reading.methods["gradient"] for place in range(20)}
    drawn = styles(replace(reading, methods={**reading.methods, **many}))
    assert len({style.colour for style in drawn.values()}) == len(CLUSTER_COLOURS) + 1
    assert len({(style.dash, style.symbol) for style in drawn.values()}) == len(drawn)


def test_what_passed_the_test_is_solid_and_a_tie_is_hollow() -> None:
    tests = [verdict("random", 4, "complementary"), verdict("gradient", 4, None)]
    figure = difference_figure("complementary", tests, dark=True)
    assert {trace.name: trace.marker.symbol for trace in figure.data} == {
        "significant": "circle",
        "not resolved at this n": "circle-open",
    }


def test_the_figure_of_a_claim_has_the_leads_below_the_curves_and_bands_of_two() -> None:
    results = varied(divergences=True).results
    figure = compression_figure(results, "refit", METHODS, dark=False)
    assert {trace.name for trace in figure.data if trace.fill} == {"CAHP, 95 % interval", "random, 95 % interval"}
    leads = {trace.name: trace for trace in figure.data if trace.yaxis == "y2"}
    assert set(leads) == {"gradient", "random"}
    wanted = [test.pp for test in results.verdicts if (test.recovery, test.method) == ("refit", "random")]
    assert sorted(leads["random"].y) == pytest.approx(sorted(wanted))
    assert [round(x) for x in leads["random"].x] == [3, 5]
    # With a single budget the methods stand side by side, in both panels.
    once = replace(
        results,
        means={key: mean for key, mean in results.means.items() if key[2] == 3},
        verdicts=tuple(test for test in results.verdicts if test.budget == 3),
    )
    figure = compression_figure(once, "refit", METHODS, dark=False)
    places = {axis: [(trace.name, *trace.x) for trace in figure.data if trace.yaxis == axis] for axis in (None, "y2")}
    assert set(places["y2"]) == {("gradient", 1), ("random", 2)} < set(places[None])


def test_the_overlap_matrix_is_symmetric_and_marks_less_than_random_selection(reading: SplitResults) -> None:
    _, values = comparison_heads.overlap_table(reading, 3, METHODS)
    assert values[0][1] == values[1][0] is not None
    less = replace(reading, random_overlap={**reading.random_overlap, 3: 0.9})
    texts = [comparison_heads.overlap_figure(one, 3, METHODS, dark=False).data[1].text[1] for one in (reading, less)]
    assert texts == [f"{values[0][1]:.2f}", f"{values[0][1]:.2f}↓"]


def test_the_mean_overlap_leaves_a_method_and_itself_out() -> None:
    assert comparison_heads.mean_overlap([[1.0, 0.2, None], [0.2, 1.0, 0.4], [None, 0.4, 1.0]]) == pytest.approx(0.3)
    assert comparison_heads.mean_overlap([[1.0]]) is None


def test_numbers_are_readable_on_every_colour_of_the_scale() -> None:
    colours = written([["a", "b"]], [[0.0, 1.0]], palette.ink(dark=False)).textfont.color
    assert list(colours) == ["#000000", "#ffffff"]


def test_divergences_are_drawn_on_a_logarithmic_axis_with_the_smallest_budgets_shaded() -> None:
    results = varied(divergences=True).results
    figure = curve_figure(results, "refit", METHODS, dark=False)
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}
    assert lines["random"].y[0] == pytest.approx(results.means["refit", "random", 3].outcomes["kl"].value)
    assert figure.layout.yaxis.type == "log"
    # The full model's divergence of 0 has no place on it.
    assert not any(str(trace.name).startswith("all heads") for trace in figure.data)
    # Three of six heads are more than a fifth.
    assert not figure.layout.shapes
    assert curve_figure(replace(results, document=_larger(results)), "refit", METHODS, dark=False).layout.shapes


def _larger(results: SplitResults) -> ComparisonDocument:
    return replace(results.document, model=replace(results.document.model, layers=12))
