"""What a comparison says, held against numbers worked out by hand or counted out."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cahp.compare import SCHEMA, Comparison, holm, summarise
from cahp.compare.summary import trapezoid, two_sided
from cahp.stages.overlap import expected_jaccard
from cahp.values import CahpError, OptionError

LAYERS, HEADS = 2, 3


def cell(
    method: str, row: int, kept: dict[str, list[int]], right: NDArray[np.bool_], *, seed: int = 1, **more: Any
) -> dict[str, Any]:
    budget = sum(map(len, kept.values()))
    quality = {
        **{"accuracy": float(right.mean()), "macro_f1": 0.5, "loss": 1.0, "n": len(right), "ci95": [0.0, 1.0]},
        **{"agreement": 0.5, "delta": {"pp": -10.0, "ci95": [-20.0, 0.0]}, "delta_alike": None},
    }
    return {
        **{"method": method, "setting": {}, "seed": seed, "draw": 0, "noise": seed, "error": None, "kept": kept},
        "budget": {"requested": budget, "attained": budget},
        "recoveries": {"none": {"row": row, "eval": quality, "report": None}},
        "seconds": {"score": 2.0, "recovery": {}, "evaluation": {"none": 1.0}},
        "price": {"forwards": 30.0, "labels": 10},
        **more,
    }


def document(cells: list[dict[str, Any]], *, seeds: tuple[int, ...] = (1,), n: int = 8) -> dict[str, Any]:
    full = cell("full", len(cells), {"0": [0, 1, 2], "1": [0, 1, 2]}, np.ones(n, dtype=np.bool_))
    chance = {"random"}
    return {
        "schema": SCHEMA,
        "model": {"id": "tiny", "layers": LAYERS, "heads": HEADS},
        "data": {"eval": {"split": "validation", "examples": n}, "report": None},
        "settings": {"seeds": list(seeds), "recoveries": ["none"]},
        "methods": {one["method"]: {"draws": 20 if one["method"] in chance else 1} for one in cells},
        "full": [full],
        "cells": cells,
        **dict.fromkeys(("versions", "command", "test_opened", "timings", "estimate")),
        "notices": [],
    }


def made(answers: dict[str, list[NDArray[np.bool_]]], kept: dict[str, dict[str, list[int]]]) -> Comparison:
    """A comparison of methods, with the answers of each seed."""
    cells, rows = [], []
    for method, of in answers.items():
        for seed, right in enumerate(of, start=1):
            cells.append(cell(method, len(rows), kept[method], right, seed=seed))
            rows.append(right)
    n, seeds = len(rows[0]), tuple(range(1, len(next(iter(answers.values()))) + 1))
    right = np.array([*rows, np.ones(n, dtype=np.bool_)])
    return Comparison(document(cells, seeds=seeds, n=n), {"eval": right})


KEPT = {
    "complementary": {"0": [0], "1": [1, 2]},
    "gradient": {"0": [0, 1], "1": [1]},
    "random": {"0": [2], "1": [0, 1]},
}


def test_holm_s_correction_is_the_textbook_s() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, 0.9 * 1.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    # A larger p never becomes the smaller one.
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_an_area_weighs_budgets_by_how_far_apart_they_lie() -> None:
    # Lines through 10, 20 and 50: (10 * (a + b) / 2 + 30 * (b + c) / 2) / 40.
    assert trapezoid([10, 20, 50]) == pytest.approx([5 / 40, 20 / 40, 15 / 40])


def test_a_bootstrap_without_a_draw_on_the_other_side_has_the_smallest_p_there_is() -> None:
    assert two_sided(np.full(999, 0.5)) == pytest.approx(2 / 1000)
    assert two_sided(np.zeros(999)) == 1.0
    # 100 of 999 at or below zero.
    assert two_sided(np.repeat([-1.0, 1.0], [100, 899])) == pytest.approx(2 * 101 / 1000)


def test_equal_answers_are_a_tie_and_are_called_so() -> None:
    right = np.arange(8) % 2 == 0
    found = made({"complementary": [right, right], "gradient": [right, right]}, KEPT).summary["verdicts"]
    (one,) = found
    assert (one["tie"], one["better"], one["p_holm"], one["pp"]) == (True, None, 1.0, 0.0)
    assert "no difference at this n" in one["words"]
    assert "n = 8, 2 seeds" in one["words"]


def test_a_large_difference_passes_and_names_the_better_method() -> None:
    random = np.random.default_rng(0)
    good, bad = random.random((3, 400)) < 0.8, random.random((3, 400)) < 0.5
    found = made({"complementary": list(bad), "gradient": list(good)}, KEPT).summary["verdicts"]
    (one,) = found
    assert not one["tie"]
    assert one["better"] == "gradient"
    assert one["pp"] == pytest.approx((bad.mean() - good.mean()) * 100)
    assert one["ci95"][0] < one["pp"] < one["ci95"][1] < 0
    assert one["words"].startswith("3 heads: gradient is better than complementary")


def test_the_interval_of_one_seed_is_that_of_a_bootstrap_over_texts() -> None:
    random = np.random.default_rng(1)
    right = random.random(500) < 0.7
    (mean,) = made({"complementary": [right]}, KEPT).summary["means"]
    # The standard error of a proportion.
    width = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 500)
    assert mean["accuracy"] == pytest.approx(right.mean())
    assert mean["ci95"] == pytest.approx([right.mean() - width, right.mean() + width], abs=0.005)
    assert (mean["sd"], mean["seeds"], mean["n"]) == (None, 1, 500)


def test_seeds_that_disagree_widen_the_interval() -> None:
    right = np.arange(400) % 2 == 0
    alike = made({"complementary": [right] * 4}, KEPT).summary["means"][0]["ci95"]
    far, none = np.ones(400, dtype=np.bool_), np.zeros(400, dtype=np.bool_)
    (apart,) = made({"complementary": [far, none, far, none]}, KEPT).summary["means"]
    # All texts agree within a seed, so only the seeds vary: means of 4 draws of 0 and 1.
    assert apart["ci95"] == pytest.approx([0.0, 1.0])
    assert apart["sd"] == pytest.approx(np.std([1, 0, 1, 0], ddof=1))
    assert alike[1] - alike[0] < 0.12


def test_masks_drawn_with_one_seed_are_averaged_before_they_are_compared() -> None:
    none, every = np.zeros(50, dtype=np.bool_), np.ones(50, dtype=np.bool_)
    cells = [cell("complementary", 0, KEPT["complementary"], none), cell("random", 1, KEPT["random"], none)]
    cells += [cell("random", 2, KEPT["random"], every, draw=1), cell("random", 3, KEPT["random"], every, draw=2)]
    found = summarise(document(cells, n=50), {"eval": np.array([none, none, every, every, every])})
    mean = next(one for one in found["means"] if one["method"] == "random")
    assert mean["accuracy"] == pytest.approx(2 / 3)
    assert (mean["masks"], mean["lowest"], mean["highest"]) == (3, 0.0, 1.0)


def test_overlap_is_measured_between_methods_and_between_seeds() -> None:
    right = np.ones(4, dtype=np.bool_)
    other = {"0": [0], "1": [0, 1]}
    cells = [
        cell("complementary", 0, KEPT["complementary"], right, seed=1),
        cell("complementary", 1, other, right, seed=2),
        cell("gradient", 2, KEPT["gradient"], right, seed=1),
        cell("gradient", 3, KEPT["gradient"], right, seed=2),
    ]
    found = summarise(document(cells, seeds=(1, 2), n=4), {"eval": np.ones((5, 4), dtype=np.bool_)})["overlap"]
    # {00, 11, 12} and {00, 10, 11} share 2 of 4; each shares {00, 11} with {00, 01, 11}, 2 of 4.
    within = {one["method"]: one["jaccard"] for one in found["seeds"]}
    assert within == {"complementary": 0.5, "gradient": 1.0}
    (between,) = found["methods"]
    assert between["jaccard"] == pytest.approx(0.5)
    assert between["chance"] == pytest.approx(expected_jaccard(3, 3, 6))


def test_everybody_and_nobody_leave_chance_out() -> None:
    right = np.ones(4, dtype=np.bool_)
    comparison = made({name: [right, right] for name in KEPT}, KEPT)
    (found,) = comparison.summary["consensus"]
    # complementary {00, 11, 12}, gradient {00, 01, 11}; random {02, 10, 11} has no say.
    assert found["everybody"] == [[0, 0], [1, 1]]
    assert found["nobody"] == [[0, 2], [1, 0]]
    assert found["share"] == [[1.0, 0.5, 0.0], [0.0, 1.0, 0.5]]
    by_method = {one["method"]: one["mean"] for one in comparison.summary["layers"]}
    assert by_method == {"complementary": [1, 2], "gradient": [2, 1], "random": [1, 2]}


def test_cost_is_of_the_costliest_budget_and_a_mean_over_seeds() -> None:
    right = np.ones(4, dtype=np.bool_)
    cells = [
        cell("gradient", 0, KEPT["gradient"], right, seed=1),
        cell("gradient", 1, KEPT["gradient"], right, seed=2),
        cell("gradient", 2, {"0": [0], "1": [1]}, right, seed=1, price={"forwards": 90.0, "labels": 10}),
    ]
    cells[0]["seconds"] = {**cells[0]["seconds"], "score": 6.0}
    (found,) = summarise(document(cells, seeds=(1, 2), n=4), {"eval": np.ones((4, 4), dtype=np.bool_)})["cost"]
    assert (found["forwards"], found["labels"], found["score_s"]) == (90.0, 10, 4.0)


def test_a_failed_cell_is_left_out_of_everything_but_the_table(tmp_path: Path) -> None:
    right = np.ones(4, dtype=np.bool_)
    broken = {**cell("gradient", 0, KEPT["gradient"], right), "error": "ValueError: no", "recoveries": {}}
    broken |= {"kept": None, "budget": {"requested": 3, "attained": None}, "price": None}
    cells = [cell("complementary", 0, KEPT["complementary"], right), broken]
    comparison = Comparison(document(cells, n=4), {"eval": np.ones((2, 4), dtype=np.bool_)})
    assert {one["method"] for one in comparison.summary["means"]} == {"complementary"}
    assert comparison.summary["verdicts"] == []
    comparison.write(tmp_path)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["full", "complementary", "gradient"]
    assert rows[2]["error"] == "ValueError: no"
    assert rows[1]["kept"] == "0.0 1.1 1.2"
    assert float(rows[1]["accuracy"]) == 1.0


def test_a_method_that_failed_with_one_seed_is_compared_on_the_others() -> None:
    none, every = np.zeros(20, dtype=np.bool_), np.ones(20, dtype=np.bool_)
    broken = {**cell("gradient", 0, KEPT["gradient"], none, seed=1), "error": "ValueError: no", "recoveries": {}}
    cells = [
        cell("complementary", 0, KEPT["complementary"], none, seed=1),
        cell("complementary", 1, KEPT["complementary"], every, seed=2),
        broken,
        cell("gradient", 2, KEPT["gradient"], none, seed=2),
    ]
    found = summarise(document(cells, seeds=(1, 2), n=20), {"eval": np.array([none, every, none, every])})
    (one,) = found["verdicts"]
    assert (one["seeds"], one["pp"], one["ci95"]) == (1, 100.0, [100.0, 100.0])
    assert {mean["method"]: mean["seeds"] for mean in found["means"]} == {"complementary": 2, "gradient": 1}


def test_an_area_is_of_methods_with_every_budget_alone() -> None:
    half, every = np.arange(20) % 2 == 0, np.ones(20, dtype=np.bool_)
    more = {"0": [0, 1, 2], "1": [0, 1]}
    cells = [
        cell("complementary", 0, KEPT["complementary"], half),
        cell("complementary", 1, more, every),
        cell("gradient", 2, more, every),
    ]
    found = summarise(document(cells, n=20), {"eval": np.array([half, every, every, every])})
    (area,) = found["areas"]
    # Between 3 and 5 heads, from a half to all.
    assert (area["method"], area["area"], area["budgets"]) == ("complementary", 0.75, [3, 5])
    low, high = next(one["ci95"] for one in found["means"] if one["accuracy"] == 0.5)
    assert area["ci95"] == pytest.approx([(low + 1) / 2, (high + 1) / 2])


def test_over_all_budgets_a_difference_passes_that_is_a_tie_at_each() -> None:
    random = np.random.default_rng(4)
    more = {"0": [0, 1, 2], "1": [0, 1]}
    ours, theirs = random.random((2, 4, 220)) < 0.60, random.random((2, 4, 220)) < 0.665
    cells, rows = [], []
    for method, answers in (("complementary", ours), ("gradient", theirs)):
        for kept, by_seed in zip((KEPT["complementary"], more), answers, strict=True):
            for seed, right in enumerate(by_seed, start=1):
                cells.append(cell(method, len(rows), kept, right, seed=seed))
                rows.append(right)
    found = summarise(document(cells, seeds=(1, 2, 3, 4), n=220), {"eval": np.array(rows)})
    assert all(one["tie"] for one in found["verdicts"])
    (one,) = found["area_verdicts"]
    areas = {area["method"]: area["area"] for area in found["areas"]}
    # Two budgets count for a half each.
    assert one["pp"] == pytest.approx(100 * (ours.mean() - theirs.mean()))
    assert one["pp"] == pytest.approx(100 * (areas["complementary"] - areas["gradient"]))
    assert (one["budget"], one["budgets"], one["better"], one["seeds"]) == (None, [3, 5], "gradient", 4)
    assert one["words"].startswith("over all budgets: gradient is better than complementary")


def test_what_is_written_is_read_again_and_the_verdicts_can_be_asked_against_another_method(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    comparison = made({name: list(random.random((2, 60)) < 0.6) for name in KEPT}, KEPT)
    names = comparison.write(tmp_path)
    assert set(names) == {path.name for path in tmp_path.iterdir()}
    again = Comparison.read(tmp_path)
    assert again.summary["verdicts"] == comparison.summary["verdicts"]
    assert json.loads((tmp_path / "compare.json").read_text())["summary"]["means"] == comparison.summary["means"]
    other = summarise(again.document, again.right, against="random")
    assert {one["method"] for one in other["verdicts"]} == {"complementary", "gradient"}
    with pytest.raises(OptionError, match="not in this comparison"):
        summarise(again.document, again.right, against="nobody")


def test_a_file_that_was_moved_alone_keeps_the_summary_it_was_written_with(tmp_path: Path) -> None:
    comparison = made({"complementary": [np.ones(6, dtype=np.bool_)]}, KEPT)
    comparison.write(tmp_path)
    (tmp_path / "compare.npz").unlink()
    assert Comparison.read(tmp_path / "compare.json").summary["means"] == comparison.summary["means"]


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "cahp.run/1"}', f'{{"schema": "{SCHEMA}"}}'])
def test_a_file_of_another_kind_is_refused_with_the_next_step(tmp_path: Path, content: str) -> None:
    (tmp_path / "compare.json").write_text(content)
    with pytest.raises(CahpError, match="cahp compare --out"):
        Comparison.read(tmp_path)


def test_figures_stand_alone_and_show_every_method(tmp_path: Path) -> None:
    right = np.arange(10) % 2 == 0
    comparison = made({name: [right] for name in KEPT}, KEPT)
    for name in comparison.write(tmp_path):
        if not name.endswith(".svg"):
            continue
        drawn = (tmp_path / name).read_text()
        assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
        assert "href" not in drawn
        assert "script" not in drawn
        assert all(f">{method}</text>" in drawn for method in KEPT)
    assert {"accuracy-none.svg", "overlap-3.svg"} <= {path.name for path in tmp_path.iterdir()}


def test_reading_a_comparison_loads_no_torch(tmp_path: Path) -> None:
    made({"complementary": [np.ones(6, dtype=np.bool_)]}, KEPT).write(tmp_path)
    program = (
        "import sys; from pathlib import Path; from cahp.compare import Comparison; "
        f"assert Comparison.read(Path({str(tmp_path)!r})).summary['means']; "
        "assert not {'torch', 'scipy', 'sklearn', 'transformers', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])
