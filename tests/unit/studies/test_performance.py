"""The table of limits: which side of a limit a number is on, and how it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import pytest
import zoo

from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.studies import performance
from cahp.studies.performance import ROWS, Limit, placed, words
from cahp.values import silent


@pytest.mark.parametrize(
    ("row", "value", "kept"),
    [
        (Limit("a", "a", "times", 1.05), 1.05, True),
        (Limit("a", "a", "times", 1.05), 1.06, False),
        (Limit("a", "a", "times", 5.0, "least"), 5.0, True),
        (Limit("a", "a", "times", 5.0, "least"), 4.9, False),
        (Limit("a", "a", "times"), 1.0, None),
        (Limit("a", "a", "seconds", 8.0, model="other"), 9.0, None),
        (Limit("a", "a", "seconds", 8.0, model="tiny"), 9.0, False),
        (Limit("a", "a", "seconds", 8.0), None, None),
    ],
)
def test_a_limit_is_kept_on_its_own_side(row: Limit, value: float | None, kept: bool | None) -> None:
    assert row.kept(value, "tiny") is kept


def found(**values: Any) -> dict[str, Any]:
    rows = [
        {
            "name": row.name,
            "words": row.words,
            "unit": row.unit,
            "limit": row.limit,
            "side": row.side,
            "value": values.get(row.name, 1.0),
            "kept": row.kept(values.get(row.name, 1.0), "minilm-bbc"),
        }
        for row in ROWS
    ]
    return {
        "model": "minilm-bbc",
        "texts": 640,
        "threads": 2,
        "rounds": 3,
        "seconds": dict.fromkeys(("forward", "signatures", "selection", "naive"), 1.0),
        "ratios": {"signatures_to_forward": 1.0, "naive_to_selection": 6.0},
        "same_heads": True,
        "rows": rows,
        "device": "Somebody's processor, 2 cores",
        "load": 0.25,
    }


def test_the_table_says_where_and_under_which_load_and_which_limits_are_not_kept() -> None:
    said = "\n".join(
        words(found(self_test=0.123, first_nine=9.5, peak_memory=1_500_000_000, sweep_to_evaluations=None))
    )
    assert "on Somebody's processor, 2 cores; load 0.25 before" in said
    lines = {row.name: next(line for line in said.splitlines() if row.words in line) for row in ROWS}
    assert lines["self_test"].endswith("12.3 %   at most 10.0 %, missed")
    assert lines["first_nine"].endswith("9.50 s   at most 8.00 s, missed")
    assert lines["signatures_to_forward"].endswith("1.00 x   at most 1.05 x")
    assert lines["peak_memory"].endswith("1.5 GB")
    assert lines["sweep_to_evaluations"].endswith("-")


def test_the_table_takes_the_place_of_the_last_one() -> None:
    before = "# A\n<!-- bench -->\nold\n<!-- /bench -->\nend\n"
    once = placed(before, ["one", "two"])
    assert once == "# A\n<!-- bench -->\n```\none\ntwo\n```\n<!-- /bench -->\nend\n"
    assert placed(once, ["three"]) == "# A\n<!-- bench -->\n```\nthree\n```\n<!-- /bench -->\nend\n"
    assert placed("no marks", ["one"]) is None
    assert placed("<!-- bench --> alone", ["one"]) is None


def test_sizes_of_clustering_stand_in_the_table_with_what_they_may_take() -> None:
    rows = {row.name: row for row in ROWS}
    for heads, said, seconds in (
        (384, "384 heads, every number", 10),
        (1024, "1,024 heads, 124 numbers", 2),
        (2048, "2,048 heads, 126 numbers", 8),
    ):
        row = rows[f"clustering_{heads}"]
        assert (row.words, row.limit) == (f"clustering {said} of clusters", seconds)
    assert {f"clustering_{heads}" for heads in performance.CLUSTERED} == {name for name in rows if "clustering" in name}


def test_answers_that_share_layers_must_save_a_quarter() -> None:
    (row,) = (row for row in ROWS if row.name == "sweep_to_evaluations")
    assert (row.kept(0.75, "tiny"), row.kept(0.76, "tiny")) == (True, False)


@pytest.mark.parametrize(("kind", "shares"), [("bert", True), ("gemma2", False), ("albert", False)])
def test_only_models_with_tails_are_held_to_what_shared_layers_save(kind: str, shares: bool, tmp_path: Path) -> None:
    save = zoo.save if kind == "gemma2" else fakes.save_model
    model, data = save(tmp_path / "model", kind), fakes.write_data(tmp_path / "data")
    settings = Settings(model=str(model), data=str(data), device="cpu", limit=24, eval_limit=8, projection="pca")
    found = performance._sharing(open_bench(settings, store=Store(tmp_path / "store")), silent)
    assert (found is not None) is shares
