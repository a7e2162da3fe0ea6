"""A comparison as files: written, read again, and refused where it is none."""

import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import KEPT, made, varied

from cahp.comparison import Comparison, arrays
from cahp.comparison.document import ComparisonDocument
from cahp.comparison.result import read_upload
from cahp.comparison.sentences import headline
from cahp.comparison.summary import Summary
from cahp.files import plain_json
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


def npy(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue() + content


#: Arrays that a comparison of two answers to six texts does not have.
ARRAYS = {
    # In the archive a thousandth of what it unpacks to.
    "unpacks to much": ("eval_predictions.npy", bytes(100 << 20)),
    "says much": ("eval_predictions.npy", npy((1 << 40,))),
    "cut": ("eval_predictions.npy", npy((2, 6), bytes(3))),
    "another shape": ("eval_predictions.npy", npy((1, 6), bytes(6))),
    "empty": ("eval_predictions.npy", b""),
    "another kind": ("eval_kl.npy", npy((2, 6), bytes(12))),
    "another name": ("eval_texts.npy", npy((2, 6), bytes(12))),
    "another split": ("train_kl.npy", npy((2, 6), bytes(12))),
}


@pytest.mark.parametrize(("name", "content"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_do_not_fit_their_document_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
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


def test_answers_to_as_many_texts_as_there_may_be_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_reading_a_comparison_loads_no_torch(tmp_path: Path) -> None:
    made({"complementary": [np.ones(6, dtype=np.bool_)]}).write(tmp_path)
    program = (
        "import sys; from pathlib import Path; from cahp.comparison import Comparison; "
        f"assert Comparison.read(Path({str(tmp_path)!r})).results.means; "
        "assert not {'torch', 'scipy', 'sklearn', 'transformers', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])


def test_a_headline_shows_no_words_of_a_file(folder: Path) -> None:
    file = json.loads((folder / "compare.json").read_text())
    file["summary"]["primary"]["words"] = "![](http://x)"
    assert "http" not in headline(read_upload("mine.json", json.dumps(file).encode()).results)
    # An uploaded file is read without its answers.
    found = read_upload("mine.json", (folder / "compare.json").read_bytes())
    assert set(found.files) == {path.name for path in folder.iterdir()} - {"compare.npz"}
    assert found.files["comparison.csv"] == (folder / "comparison.csv").read_bytes()
    assert json.loads(found.files["compare.json"]) == json.loads((folder / "compare.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison as ``cahp compare --out`` leaves it."""
    varied().write(tmp_path / "out")
    return tmp_path / "out"


def test_an_outcome_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="not measured"):
        varied().results_on("eval", "copying")


def test_a_comparison_that_reports_on_a_split_is_read_on_it() -> None:
    comparison = varied()
    assert comparison.document.parts == ("eval",)
    said = plain_json(comparison.document)
    said["data"]["report"] = {**said["data"]["eval"], "split": "test"}
    for one in (*said["full"], *said["cells"]):
        for measured in one["recoveries"].values():
            measured["report"] = {**measured["eval"], "accuracy": 0.25}
    document = ComparisonDocument.from_json(said)
    answers = comparison.answers["eval"]
    both = Comparison(document, {"eval": answers, "report": {**answers, "labels": 1 - answers["labels"]}})
    assert document.parts == ("eval", "report")
    assert both.results.split == "test"
    assert both.results_on("report", "accuracy").full["none"] == 0.25
    found = {
        part: both.results_on(part).means["none", "random", 3].outcomes["accuracy"].value for part in document.parts
    }
    assert found["eval"] + found["report"] == pytest.approx(1)


#: Changes that make a comparison's file none.
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no summary": lambda file: file.pop("summary"),
    "no means": lambda file: file["summary"].update(means=[]),
    "means of another split": lambda file: [mean.update(split="test") for mean in file["summary"]["means"]],
    "means without an interval": lambda file: [mean.update(outcomes={}) for mean in file["summary"]["means"]],
    "a list for a summary": lambda file: file.update(summary=[1]),
    "words for numbers": lambda file: file["summary"].update(cost=[{"method": "random", "forwards": "much"}]),
    "another method": lambda file: file["summary"]["means"][0].update(method="<img src=x>"),
    "endless heads": lambda file: file["model"].update(layers=10**9),
    "another schema": lambda file: file.update(schema="cahp.run/1"),
    "cells of nothing": lambda file: file.update(cells=[None]),
    "no seeds": lambda file: file.update(settings={}),
    "heads of another model": lambda file: file["cells"][0].update(kept={"0": [99]}),
    "a recovery that there is not": lambda file: file["summary"]["verdicts"][0].update(recovery="prayer"),
    "no recoveries": lambda file: file["settings"].update(recoveries=[]),
    "critical heads of another model": lambda file: file.update(criticality=[[0.1] * 3] * 3),
    "negative criticality": lambda file: file.update(criticality=[[-0.1] * 3] * 2),
    "criticality that is no number": lambda file: file.update(criticality=[[float("nan")] * 3] * 2),
}
#: Names of methods that mean something to Markdown, or are no names.
NAMES = ("[here](http://x)", "**bold**", "# head", ":material/home:", "$x$", "a b", "_a_", "", "x" * 61, "a\n", "é")
#: What is no JSON of a comparison.
CONTENTS = {
    **{"empty": b"", "words": b"hello", "null": b"null", "deep": b"[" * 100_000, "bytes": b"\xff\xfe\x00{"},
    **{f"nested {n}": b'{"schema": ' + b"[" * n + b"]" * n + b"}" for n in (1000, 100_000)},
}


def test_what_is_no_comparison_is_refused_in_a_sentence(folder: Path) -> None:
    whole = (folder / "compare.json").read_bytes()
    contents = dict(CONTENTS)
    for case, change in CHANGES.items():
        file = json.loads(whole)
        change(file)
        contents[case] = json.dumps(file).encode()
    for name in NAMES:
        contents[f"a method named {name!r}"] = whole.replace(b'"gradient"', json.dumps(name).encode())
    for case, content in contents.items():
        with pytest.raises(CahpError, match=r"mine\.json") as refused:
            read_upload("mine.json", content)
        assert "/tmp" not in str(refused.value), case
        assert "cahp compare" in str(refused.value), case
