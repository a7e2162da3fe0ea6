"""Measures of redundancy against answers known beforehand: orthogonal outputs, and costs in a known order."""

from __future__ import annotations

import numpy as np
import pytest

from cahp.features.premise.redundancy import MEASURES, align, conclude, correlate


def test_outputs_align_with_what_they_turn_into_and_not_with_what_is_orthogonal() -> None:
    one = np.array([[1.0, 0], [-1, 0], [0, 0], [0, 0]])
    turned, orthogonal = 3 * one[:, ::-1], np.array([[0.0, 0], [0, 0], [1, 0], [-1, 0]])
    found = align(np.stack([one, turned, orthogonal]))
    assert found == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))


def test_a_measure_in_the_order_of_the_costs_correlates_perfectly() -> None:
    costs, first, second = np.arange(8.0) ** 3, np.arange(7), np.arange(1, 8)
    joint = costs[first] + costs[second]
    measured = dict.fromkeys(MEASURES, (costs, joint)) | {"distance": (-costs, -joint)}
    found = correlate(measured, costs, joint, first, second, seed=1)
    for kind, n in (("alone", 8), ("pairs", 7)):
        assert (found["norm"][kind]["value"], found["norm"][kind]["n"]) == (pytest.approx(1), n)
        assert found["norm"][kind]["ci95"] == pytest.approx((1, 1))
        assert found["distance"][kind]["value"] == pytest.approx(-1)
    assert "follows distance of attention (Jensen-Shannon) most: rank correlation 1.00 (1.00 to 1.00)" in conclude(
        found
    )
    assert "the distance of CAHP less: −1.00 (−1.00 to −1.00)" in conclude(found)
