"""A comparison on text without labels: methods that need labels are left out by name, and no accuracy is there."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest

from cahp.comparison import Plan
from cahp.comparison.result import Comparison
from cahp.comparison.running import compare
from cahp.figures.comparison_blocks import show_comparison
from cahp.show import terminal
from cahp.store import Store
from cahp.values import OptionError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_methods_that_need_labels_are_left_out_by_name_and_no_accuracy_is_there(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("\n\n".join(fakes.sentences(120, seed=3).first), encoding="utf-8")
    settings = fakes.quick(fakes.save_model(tmp_path / "tiny"), notes)
    plan = Plan(
        settings,
        methods=("complementary", "magnitude", "dsp", "ablation"),
        budgets=("4", "6"),
        seeds=(42, 43),
        recoveries=("none", "refit", "finetune"),
    )
    comparison = compare(plan, store=Store(tmp_path / "store"))
    assert "left out, because they need labels: dsp, ablation, finetune." in comparison.document.notices
    assert set(comparison.document.methods) == {"complementary", "magnitude"}
    assert comparison.document.recoveries == ("none", "refit")
    assert not any(cell.error for cell in comparison.document.cells)
    assert comparison.results.outcomes == ("kl", "agreement")
    for mean in comparison.summary.means:
        assert mean.outcomes.keys() == {"kl", "agreement"}
    assert all("labels" not in arrays and "nll" not in arrays for arrays in comparison.answers.values())
    assert all(cell.price is None or cell.price.labels == 0 for cell in comparison.document.cells)
    lines = "\n".join(terminal.lines(show_comparison(comparison)))
    assert "accuracy" not in lines.lower()
    comparison.write(tmp_path / "out")
    assert not list((tmp_path / "out").glob("accuracy*"))
    read = Comparison.read(tmp_path / "out")
    assert read.document.data == comparison.document.data
    assert read.results.outcomes == ("kl", "agreement")
    with pytest.raises(OptionError, match="dsp need labels"):
        compare(Plan(settings, methods=("dsp",), budgets=("4",), seeds=(42,)), store=Store(tmp_path / "store"))
