from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cahp.features.stability.measuring import Stability, frequency_figure, knee_figure
from cahp.features.stability.page import describe_choices, describe_resamples, state_number, state_verdict
from cahp.values import Estimate, HeadMask


def resampled(*kept: list[int], heads: int = 72) -> Stability:
    """Resamples of a model of one layer that keep the given heads."""
    keep = np.zeros((len(kept), 1, heads), dtype=np.bool_)
    for row, members in zip(keep, kept, strict=True):
        row[0, members] = True
    return Stability("seed", np.arange(len(kept)), np.full(len(kept), 2), keep)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (resampled([0, 1, 2], [0, 1, 2]), "Stable: another seed"),
        (resampled([0, 1, 2, 3], [0, 1, 2, 4]), "Fairly stable: another seed"),
        (resampled([0, 1, 2, 3], [0, 1, 5, 4]), "Unstable: another seed"),
        (resampled([0, 1, 2, 3], [4, 5, 6, 7]), "Hardly better than random selection: another seed"),
    ],
)
def test_the_verdict_is_in_plain_words(result: Stability, words: str) -> None:
    assert state_verdict(result).startswith(words)


@pytest.mark.parametrize(
    ("knees", "words"),
    [
        ([13, 13], "is stable: the rule stops at 13 clusters."),
        ([12, 15], "is stable: the rule stops at 12 to 15 clusters."),
        ([12, 16], "varies: the rule stops at 12 to 16 clusters."),
        ([0, 13], "varies: the rule stops at 13 clusters in 1 of 2 choices, and nowhere in the others."),
        ([42, 13], "is unstable: the rule stops at 13 to 42 clusters."),
        ([0, 13, 42], "is unstable: the rule stops at 13 to 42 clusters in 2 of 3 choices, and nowhere in the others."),
    ],
)
def test_the_verdict_on_the_number_follows_from_its_spread(knees: list[int], words: str) -> None:
    # The same heads each time.
    result = replace(resampled([0, 1], [0, 1]), knees=np.array(knees))
    assert state_number(result) == f" Their number {words}"


def test_how_many_resamples_were_really_used_is_said() -> None:
    assert describe_resamples(resampled([0, 1], [0, 2], [0, 3]), 3) == "3 resamples."
    assert describe_resamples(resampled([0, 1], [], [0, 3]), 3) == "2 resamples; 1 without a knee is left out."
    assert "of 6 requested; these texts have only 2 different halves" in describe_resamples(resampled([0], [1]), 6)
    degrees = replace(resampled([0, 1], [0, 2]), axis="degree")
    assert describe_resamples(degrees, 12) == "All 2 degrees, not a random sample: no interval."
    assert degrees.overlap_ci95 is degrees.share_ci95(2) is None


def test_the_overlap_s_interval_is_the_jackknife_s_over_resamples() -> None:
    # Pairs share 1/3, 1/3 and 1 of their heads; without a resample 1, 1/3 or 1/3 is left.
    result = resampled([0, 1], [0, 2], [0, 2])
    assert result.overlap_ci95 == (0.0, 1.0)
    assert resampled(*[[0, 1]] * 4).overlap_ci95 == (1.0, 1.0)
    many = resampled(*[[0, 1, 2 + row % 2] for row in range(12)])
    low, high = many.overlap_ci95 or (0.0, 0.0)
    assert low < many.overlap < high < 1
    assert many.share_ci95(12) == pytest.approx((0.7575, 1.0), abs=1e-3)


def test_the_range_of_choices_tells_whether_their_intervals_overlap() -> None:
    low, middle, high = (Estimate(value, (value - 0.05, value + 0.05), 40, "nats") for value in (0.1, 0.19, 0.3))
    assert describe_choices([middle, low]).endswith("their intervals overlap, n = 40 texts")
    words = describe_choices([high, low, middle])
    assert words.startswith("3 choices cost 0.100 (0.050 to 0.150) to 0.300 nats (0.250 to 0.350)")
    assert words.endswith("their intervals do not overlap, n = 40 texts")


def test_the_grid_shows_shares_as_numbers_and_frames_what_is_kept_now() -> None:
    figure = frequency_figure(resampled([0, 1], [0, 2], heads=4), HeadMask.of([0, 3], 1, 4), dark=False)
    assert figure.data[0].z.tolist() == [[100, 50, 50, 0]]
    assert figure.data[1].text == ("100", "50", "50", "0")
    assert [(shape.x0 + shape.x1) / 2 for shape in figure.layout.shapes] == [0, 3]


def test_a_thousand_heads_are_drawn_without_numbers() -> None:
    keep = np.random.default_rng(0).random((3, 32, 32)) < 0.2
    result = Stability("seed", np.arange(3), np.full(3, 200), keep)
    figure = frequency_figure(result, HeadMask.full(32, 32), dark=True)
    assert len(figure.data) == 1
    assert figure.layout.height < 720


def test_a_knee_that_was_not_found_is_a_gap_not_a_zero() -> None:
    result = replace(resampled([0, 1], [], heads=4), knees=np.array([2, 0]))
    figure = knee_figure(result, "seed", dark=False)
    assert [list(trace.y) for trace in figure.data] == [[2, None], [2, None]]
