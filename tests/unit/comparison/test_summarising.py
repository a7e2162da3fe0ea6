"""Costs, failed cells, and which heads methods keep."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from comparisons import KEPT, MORE, cell, document, failed, told

from cahp.comparison import Comparison, summarise
from cahp.values.statistics import expected_jaccard


def test_cost_is_of_the_costliest_budget_and_a_mean_over_seeds() -> None:
    right = np.ones(4, dtype=np.bool_)
    cells = [
        cell("gradient", 0, KEPT["gradient"], right, seed=1),
        cell("gradient", 1, KEPT["gradient"], right, seed=2),
        cell("gradient", 2, {"0": [0], "1": [1]}, right, seed=1, price={"forwards": 90.0, "labels": 10}),
    ]
    cells[0]["seconds"] = {**cells[0]["seconds"], "score": 6.0}
    (found,) = summarise(document(cells, seeds=(1, 2), n=4), {"eval": told(np.ones((4, 4)))}).cost
    assert (found.forwards, found.labels, found.score_s) == (90.0, 10, 4.0)


def test_a_failed_cell_is_left_out_of_everything_but_the_table(tmp_path: Path) -> None:
    right = np.ones(4, dtype=np.bool_)
    cells = [cell("complementary", 0, KEPT["complementary"], right), failed("gradient")]
    comparison = Comparison(document(cells, n=4), {"eval": told(np.ones((2, 4)))})
    assert {one.method for one in comparison.summary.means} == {"complementary"}
    assert not comparison.summary.tests
    comparison.write(tmp_path)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["full", "complementary", "gradient"]
    assert rows[2]["error"] == "ValueError: no"
    assert rows[1]["kept"] == "0.0 1.1 1.2"
    assert float(rows[1]["accuracy"]) == 1.0


def test_a_method_whose_seeds_failed_in_turn_has_no_area() -> None:
    right = np.ones(4, dtype=np.bool_)
    gradient = [
        cell("gradient", 4, KEPT["gradient"], right, seed=1),
        cell("gradient", 5, MORE["gradient"], right, seed=2),
    ]
    whole = [
        cell("complementary", row, kept["complementary"], right, seed=seed)
        for row, (kept, seed) in enumerate(product((KEPT, MORE), (1, 2)))
    ]
    cells = [*whole, *gradient, failed("gradient", seed=2), failed("gradient", seed=1, budget=5)]
    summary = summarise(document(cells, seeds=(1, 2), n=4), {"eval": told(np.ones((7, 4)))})
    assert {area.method for area in summary.all_areas} == {"complementary"}


def test_the_overlap_of_a_method_is_that_of_its_masks_with_several_seeds() -> None:
    right = np.ones(4, dtype=np.bool_)
    other = {"0": [0], "1": [0, 1]}
    cells = [
        cell("complementary", 0, KEPT["complementary"], right, seed=1),
        cell("complementary", 1, other, right, seed=2),
        cell("gradient", 2, KEPT["gradient"], right, seed=1),
        cell("gradient", 3, KEPT["gradient"], right, seed=2),
    ]
    found = summarise(document(cells, seeds=(1, 2), n=4), {"eval": told(np.ones((5, 4)))}).overlap["seeds"]
    # {00, 11, 12} and {00, 10, 11} share 2 of 4.
    assert {one["method"]: one["jaccard"] for one in found} == {"complementary": 0.5, "gradient": 1.0}
    assert found[0]["chance"] == pytest.approx(expected_jaccard(3, 3, 6))
