"""What a comparison says of cost, and of what failed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from comparisons import KEPT, cell, document, failed

from cahp.comparison import Comparison, summarise


def test_cost_is_of_the_costliest_budget_and_a_mean_over_seeds() -> None:
    right = np.ones(4, dtype=np.bool_)
    cells = [
        cell("gradient", 0, KEPT["gradient"], right, seed=1),
        cell("gradient", 1, KEPT["gradient"], right, seed=2),
        cell("gradient", 2, {"0": [0], "1": [1]}, right, seed=1, price={"forwards": 90.0, "labels": 10}),
    ]
    cells[0]["seconds"] = {**cells[0]["seconds"], "score": 6.0}
    (found,) = summarise(document(cells, seeds=(1, 2), n=4), {"eval": np.ones((4, 4), dtype=np.bool_)}).cost
    assert (found.forwards, found.labels, found.score_s) == (90.0, 10, 4.0)


def test_a_failed_cell_is_left_out_of_everything_but_the_table(tmp_path: Path) -> None:
    right = np.ones(4, dtype=np.bool_)
    cells = [cell("complementary", 0, KEPT["complementary"], right), failed("gradient")]
    comparison = Comparison(document(cells, n=4), {"eval": np.ones((2, 4), dtype=np.bool_)})
    assert {one.method for one in comparison.summary.means} == {"complementary"}
    assert comparison.summary.verdicts == ()
    comparison.write(tmp_path)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["full", "complementary", "gradient"]
    assert rows[2]["error"] == "ValueError: no"
    assert rows[1]["kept"] == "0.0 1.1 1.2"
    assert float(rows[1]["accuracy"]) == 1.0
