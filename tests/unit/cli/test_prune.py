"""``cahp prune`` as its users meet it: what is asked, what is refused, and what a run says."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from terminal import call, refused

from cahp import methods
from cahp.exports.masks import read_mask_record
from cahp.exports.report import recipe
from cahp.run.document import RunDocument
from cahp.run.settings import Settings

LAYERS, HEADS, CLASSES, POOL = 3, 4, 2, 8


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        # Invalid by itself, for this model, and for these data; all options are tried on ``Settings`` and on ``prune``.
        ("--projection mds", "--projection"),
        ("--budget 13", "3 to 12"),
        ("--label-map worse=bad", "'worse'"),
        ("--data no-such-data", "no data named"),
        ("--method magnitude", "magnitude cannot suggest how many heads to keep; give --budget a number"),
        ("--method clairvoyant --data no-such-data", f"'clairvoyant'; choose one of {', '.join(methods.names())}"),
    ],
)
def test_what_cannot_be_pruned_leaves_no_folder(words: list[object], asked: str, named: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert named in refused(call(*words, *asked.split(), "--out", out))
    assert not out.exists()


@pytest.mark.parametrize("method", ["complementary", "magnitude"])
def test_the_method_is_named_by_all_that_is_written(words: list[object], method: str, tmp_path: Path) -> None:
    answer = call(*words, "--method", method, "--budget", 6, "--out", tmp_path)
    assert (answer.code, answer.err) == (0, "")
    run = json.loads((tmp_path / "run.json").read_text())
    assert RunDocument.from_json(run).to_json() == run
    assert run["settings"]["method"] == read_mask_record(tmp_path / "head_mask.json")["method"] == method
    assert (f"heads kept by {method} (" in answer.out) is (method != "complementary")
    # Shown by the explorer, the run is asked for by its method too.
    again = call(*shlex.split(recipe(Settings(**run["settings"])))[1:-2], "--json").document
    assert (again["kept"], again["settings"]) == (run["kept"], run["settings"])


def test_the_summary_is_one_screen_a_person_can_read(words: list[object], run: dict[str, Any]) -> None:
    answer = call(*words, "--budget", 5, "--recover", "refit")
    assert (answer.code, answer.err) == (0, "")
    said = answer.out.splitlines()
    assert len(said) < 40
    assert [line.split()[-2] for line in said[3 : 3 + LAYERS]] == [str(len(heads)) for heads in run["kept"].values()]
    assert [line.split()[1:] for line in said if line.startswith("  n ")] == [["40"] * 3]
    for name in ("full", "pruned", "recovered"):
        assert f"{run['metrics'][name]['accuracy'] * 100:.1f} %" in answer.out
    for row in ("5 of 12 heads kept", "95 % intervals", "Macro-F1", "Time per batch", "Weights", "refit"):
        assert row in answer.out


def test_json_prints_the_run_file_and_nothing_else(words: list[object], run: dict[str, Any]) -> None:
    answer = call(*words, "--budget", 5, "--recover", "refit", "--json")
    assert (answer.code, answer.err) == (0, "")
    # Another test may have timed the same mask since, on a machine that was busy or not.
    changing = {"timings", "cached", "command", "cost", "latency_ratio", "attention_share", "notices"}
    assert answer.document.keys() == run.keys()
    assert answer.document == {**run, **{name: answer.document[name] for name in changing}}


def test_the_command_is_kept_as_it_was_typed(words: list[object], run: dict[str, Any], folder: Path) -> None:
    assert run["command"].split()[:3] == ["cahp", "prune", "--model"]
    assert run["command"].endswith(f"--budget 5 --recover refit --out {folder}")


def test_the_arrays_have_the_shapes_of_the_contract(folder: Path, run: dict[str, Any]) -> None:
    arrays = np.load(folder / "arrays.npz", allow_pickle=False)
    heads, cells = LAYERS * HEADS, POOL * POOL
    shapes = {
        "class_counts": (CLASSES,),
        "mean": (heads, CLASSES, cells),
        "var": (heads, CLASSES, cells),
        "features": (heads, cells),
        "embedding": (heads, 2),
        **dict.fromkeys(("salience", "salience_batch", "salience_example"), (heads,)),
        "ks": (heads - 2,),
        "mss": (heads - 2,),
        "labels": (heads,),
        "medoids": (run["clusters"],),
        # What the board of a report needs beside them: all distances, and the clusters of every number.
        "distances": (heads, heads),
        "labels_of_k": (heads - 2, heads),
        "medoids_of_k": (sum(range(2, heads)),),
        # The curves of unstructured data, where the published rule chose the number.
        **({"mss_null": (run["knee_null"]["draws"], heads - 2)} if run["knee_null"] else {}),
    }
    assert {name: arrays[name].shape for name in arrays.files} == shapes
    assert arrays["class_counts"].tolist() == [60, 60]
    assert arrays["ks"].tolist() == list(range(2, heads))
    assert set(arrays["labels"]) <= set(range(run["clusters"]))
    assert (arrays["salience"].min(), arrays["salience"].max()) == (0, 1)
