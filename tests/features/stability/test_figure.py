from __future__ import annotations

import numpy as np

from cahp.features.stability.figure import frequency_figure, knee_figure
from cahp.features.stability.measuring import Stability
from cahp.values import HeadMask


def test_the_grid_shows_shares_as_numbers_and_frames_what_is_kept_now() -> None:
    keep = np.array([[[1, 1, 0, 0]], [[1, 0, 1, 0]]], dtype=np.bool_)
    figure = frequency_figure(
        Stability("seed", np.arange(2), np.full(2, 2), keep), HeadMask.of([0, 3], 1, 4), dark=False
    )
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
    keep = np.zeros((2, 1, 4), dtype=np.bool_)
    keep[0, 0, :2] = True
    figure = knee_figure(Stability("seed", np.array([1, 2]), np.array([2, 0]), keep), "seed", dark=False)
    assert [list(trace.y) for trace in figure.data] == [[2, None], [2, None]]
