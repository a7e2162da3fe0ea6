"""A comparison as files: written, read again, and refused where it is none."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from comparisons import KEPT, made

from cahp.comparison import SCHEMA, Comparison, arrays
from cahp.comparison.summary import Summary
from cahp.values import CahpError


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    comparison = made({name: list(random.random((2, 60)) < 0.6) for name in KEPT})
    names = comparison.write(tmp_path)
    assert set(names) == {path.name for path in tmp_path.iterdir()}
    again = Comparison.read(tmp_path)
    assert Comparison.read(str(tmp_path)).document == again.document
    assert again.summary.tests == comparison.summary.tests
    written = json.loads((tmp_path / "compare.json").read_text())["summary"]
    assert written == comparison.summary.to_json()
    assert Summary.from_json(written, again.document) == comparison.summary


def test_the_summary_of_a_file_has_the_names_of_its_schema() -> None:
    right = np.arange(8) % 2 == 0
    said = made({name: [right, right] for name in KEPT}).summary.to_json()
    assert list(said) == [
        *(
            "primary",
            "against",
            "rule",
            "means",
            "areas",
            "overlap",
            "cost",
            "verdicts",
            "area_verdicts",
        ),
        "by_outcome",
    ]
    # Lists of before hold the accuracy alone.
    assert {one["outcome"] for one in said["verdicts"]} == {"accuracy"}
    assert {one["outcome"] for one in said["by_outcome"]["agreement"]["verdicts"]} == {"agreement"}
    assert said["means"][0].keys() == {
        *("split", "recovery", "method", "budget", "accuracy", "ci95", "lowest", "highest", "sd", "macro_f1", "loss"),
        *("agreement", "n", "seeds", "masks", "rejected", "outcomes"),
    }
    assert list(said["verdicts"][0]) == [
        *("split", "recovery", "budget", "method", "against", "pp", "ci95", "p", "p_holm", "tie", "better", "n"),
        *("seeds", "outcome", "unit", "df", "simultaneous", "margin", "budgets"),
    ]
    assert list(said["primary"]) == ["split", "outcome", "recovery", "budgets", "words", "tests"]
    assert list(said["overlap"]["seeds"][0]) == ["method", "budget", "chance", "jaccard", "pairs"]
    assert list(said["cost"][0]) == ["method", "forwards", "labels", "score_s", "recovery_s"]


def test_a_file_without_its_answers_keeps_the_summary_it_was_written_with(tmp_path: Path) -> None:
    comparison = made({"complementary": [np.ones(6, dtype=np.bool_)]})
    comparison.write(tmp_path)
    (tmp_path / "compare.npz").unlink()
    read = Comparison.read(tmp_path / "compare.json")
    assert read.answers == {}
    assert read.summary.means == comparison.summary.means
    assert read.files["compare.json"] == (tmp_path / "compare.json").read_bytes()


def npy(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue() + content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        # In the archive a thousandth of what it unpacks to.
        ("eval_predictions.npy", bytes(100 << 20)),
        ("eval_predictions.npy", npy((1 << 40,))),
        ("eval_predictions.npy", npy((2, 6), bytes(3))),
        ("eval_predictions.npy", npy((1, 6), bytes(6))),
        ("eval_predictions.npy", b""),
        ("eval_kl.npy", npy((2, 6), bytes(12))),
        ("eval_texts.npy", npy((2, 6), bytes(12))),
        ("train_kl.npy", npy((2, 6), bytes(12))),
    ],
    ids=[
        "unpacks to much",
        "says much",
        "cut",
        "another shape",
        "empty",
        "another kind",
        "another name",
        "another split",
    ],
)
def test_arrays_that_do_not_fit_their_document_are_refused_before_room_is_made(
    tmp_path: Path, name: str, content: bytes
) -> None:
    made({"complementary": [np.ones(6, dtype=np.bool_)]}).write(tmp_path)
    with zipfile.ZipFile(tmp_path / "compare.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    tracemalloc.start()
    try:
        with pytest.raises(CahpError, match=r"compare\.npz is broken"):
            Comparison.read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_answers_to_as_many_texts_as_there_may_be_repeated_tokens_must_fit_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made({"complementary": [np.ones(6, dtype=np.bool_)]}).write(tmp_path)
    monkeypatch.setattr(arrays, "_MOST_COPIES", 6)
    for name, content in (
        ("eval_predictions.npy", npy((2, 3), bytes(6))),
        ("eval_copies.npy", npy((7,), bytes(7)).replace(b"|u1", b"|i1")),
    ):
        with zipfile.ZipFile(tmp_path / "compare.npz", "w") as archive:
            archive.writestr(name, content)
        with pytest.raises(CahpError, match="another shape"):
            Comparison.read(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "cahp.run/1"}', f'{{"schema": "{SCHEMA}"}}'])
def test_a_file_of_another_kind_is_refused_with_the_next_step(tmp_path: Path, content: str) -> None:
    (tmp_path / "compare.json").write_text(content)
    with pytest.raises(CahpError, match="cahp compare --out"):
        Comparison.read(tmp_path)


def test_reading_a_comparison_loads_no_torch(tmp_path: Path) -> None:
    made({"complementary": [np.ones(6, dtype=np.bool_)]}).write(tmp_path)
    program = (
        "import sys; from pathlib import Path; from cahp.comparison import Comparison; "
        f"assert Comparison.read(Path({str(tmp_path)!r})).results.means; "
        "assert not {'torch', 'scipy', 'sklearn', 'transformers', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])
