"""A run as a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import documents
import numpy as np
import pytest

from cahp.exports.masks import read_mask, read_mask_record
from cahp.exports.run_folder import write_run
from cahp.run.document import RunDocument
from cahp.run.prune import Run

DOCUMENT = RunDocument.from_json(documents.run_json())
RUN = Run(DOCUMENT, DOCUMENT.mask, {"salience": np.arange(6.0), "labels": np.array([0, 0, 1, 1, 2, 2])})


def test_a_run_is_three_files_that_say_the_same(tmp_path: Path) -> None:
    write_run(str(tmp_path / "out"), RUN)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "arrays.npz",
        "head_mask.json",
        "run.json",
    ]
    assert RunDocument.from_json(json.loads((tmp_path / "out" / "run.json").read_text())) == DOCUMENT
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "head_mask.json").keep, RUN.mask.keep)
    said = read_mask_record(tmp_path / "out" / "head_mask.json")
    assert (said["model"], said["method"], said["budget"]) == (
        "tiny",
        "complementary",
        {"requested": None, "attained": 3},
    )
    assert said["metrics"] == documents.run_json()["metrics"]
    with np.load(tmp_path / "out" / "arrays.npz", allow_pickle=False) as found:
        assert list(found) == ["salience", "labels"]
        np.testing.assert_array_equal(found["salience"], np.arange(6.0))


@pytest.mark.parametrize(
    "broken",
    [
        replace(RUN, arrays={"objects": np.array([object()])}),
        replace(RUN, document=replace(DOCUMENT, kept={"0": (0, 1), "1": (1,)})),
    ],
    ids=["objects", "other heads"],
)
def test_a_run_that_is_not_of_one_piece_is_refused_and_the_last_one_stays(tmp_path: Path, broken: Run) -> None:
    write_run(tmp_path, RUN)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"were kept|Object arrays"):
        write_run(tmp_path, broken)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
