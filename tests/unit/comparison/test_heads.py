"""Which heads methods keep, and what they have in common, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import KEPT, cell, document, made

from cahp.comparison import summarise
from cahp.stages.overlap import expected_jaccard


def test_overlap_is_measured_between_methods_and_between_seeds() -> None:
    right = np.ones(4, dtype=np.bool_)
    other = {"0": [0], "1": [0, 1]}
    cells = [
        cell("complementary", 0, KEPT["complementary"], right, seed=1),
        cell("complementary", 1, other, right, seed=2),
        cell("gradient", 2, KEPT["gradient"], right, seed=1),
        cell("gradient", 3, KEPT["gradient"], right, seed=2),
    ]
    found = summarise(document(cells, seeds=(1, 2), n=4), {"eval": np.ones((5, 4), dtype=np.bool_)}).overlap
    # {00, 11, 12} and {00, 10, 11} share 2 of 4; each shares {00, 11} with {00, 01, 11}, 2 of 4.
    within = {one.method: one.jaccard for one in found.seeds}
    assert within == {"complementary": 0.5, "gradient": 1.0}
    (between,) = found.methods
    assert between.methods == ("complementary", "gradient")
    assert between.jaccard == pytest.approx(0.5)
    assert between.chance == pytest.approx(expected_jaccard(3, 3, 6))


def test_everybody_and_nobody_leave_chance_out() -> None:
    right = np.ones(4, dtype=np.bool_)
    summary = made({name: [right, right] for name in KEPT}).summary
    (found,) = summary.consensus
    # complementary {00, 11, 12}, gradient {00, 01, 11}; random {02, 10, 11} has no say.
    assert (found.budget, found.methods) == (3, 2)
    assert found.everybody == ((0, 0), (1, 1))
    assert found.nobody == ((0, 2), (1, 0))
    assert found.share == ((1.0, 0.5, 0.0), (0.0, 1.0, 0.5))
    by_method = {one.method: one.mean for one in summary.layers}
    assert by_method == {"complementary": (1, 2), "gradient": (2, 1), "random": (1, 2)}
