"""``cahp evaluate --tasks``: a pruned and the full model in lm-evaluation-harness, offline, on a task of one's own."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import harness
import numpy as np
import pytest
from terminal import call, refused

import cahp
from cahp.features.paired_tasks import harness as room
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

TASK = """
task: mills
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{text}}}}"
doc_to_choice: ["river", "sea"]
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model, a mask for it, and a task of 12 items."""
    place = tmp_path_factory.mktemp("tasks")
    harness.save_tiny(place / "model")
    np.save(place / "mask.npy", np.array([[True, False], [True, True]]))
    words = harness.WORDS
    rows = [{"text": f"the {words[number + 3]} is by the", "answer": number % 2} for number in range(12)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "mills.yaml").write_text(TASK.format(file=place / "rows.jsonl"))
    return place


def test_without_the_extra_one_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    given = ["evaluate", "--model", folder / "model", "--mask", folder / "mask.npy", "--tasks", "mills"]
    assert 'run pip install "cahp-explorer[tasks]"' in refused(call(*given))


def test_tasks_need_a_mask_and_a_name(folder: Path) -> None:
    assert "give its heads with --mask" in refused(call("evaluate", "--model", folder / "model", "--tasks", "mills"))
    given = ["evaluate", "--model", folder / "model", "--mask", folder / "mask.npy"]
    assert "no task is named" in refused(call(*given, "--tasks", ","))


def test_options_that_the_harness_does_not_read_are_refused(folder: Path) -> None:
    given = ["evaluate", "--model", folder / "model", "--mask", folder / "mask.npy", "--tasks", "mills"]
    assert "use --items" in refused(call(*given, "--limit", 100))
    assert "eval_split has no effect on --tasks" in refused(call(*given, "--split", "test"))


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm-evaluation-harness")
def test_both_models_are_evaluated_and_paired_and_their_samples_are_those_of_the_harness(folder: Path) -> None:
    given = ["evaluate", "--model", folder / "model", "--mask", folder / "mask.npy", "--device", "cpu"]
    answer = call(*given, "--tasks", folder / "mills.yaml", "--samples-out", folder / "out", "--json")
    assert answer.code == 0, answer.err
    (row,) = answer.document["rows"]
    assert (row["task"], row["metric"], row["n"]) == ("mills", "acc", 12)
    files = [folder / "out" / f"{name}_samples_mills.jsonl" for name in ("full", "pruned")]
    (again,) = cahp.compare_samples(*files).rows
    assert (again.p, again.only_a, again.only_b) == (row["p"], row["only_a"], row["only_b"])
    full = cahp.evaluate_tasks(folder / "model", str(folder / "mills.yaml"), mask=HeadMask.full(2, 2), device="cpu")
    assert full.paired.rows[0].difference.value == 0
    assert "there is no task" in refused(call(*given, "--tasks", "mils"))


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm-evaluation-harness")
def test_the_network_is_not_used_without_yes(folder: Path) -> None:
    given = ["evaluate", "--model", folder / "model", "--mask", folder / "mask.npy", "--device", "cpu"]
    assert "give --yes to let it download" in refused(call(*given, "--tasks", "piqa"))
