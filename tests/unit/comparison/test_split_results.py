"""A comparison file, read: what it says is found by name, and what is none is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparisons import varied

from cahp.comparison import Comparison
from cahp.comparison.document import ComparisonDocument
from cahp.comparison.result import read_upload
from cahp.comparison.sentences import headline
from cahp.files import plain_json
from cahp.values import CahpError


def test_a_headline_shows_no_words_of_a_file(folder: Path) -> None:
    file = json.loads((folder / "compare.json").read_text())
    file["summary"]["primary"]["words"] = "![](http://x)"
    assert "http" not in headline(read_upload("mine.json", json.dumps(file).encode()).results)


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


def without_summary(file: dict[str, Any]) -> None:
    del file["summary"]


#: Changes that make a comparison's file none.
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no summary": without_summary,
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


def test_an_uploaded_file_is_read_without_its_answers(folder: Path) -> None:
    found = read_upload("mine.json", (folder / "compare.json").read_bytes())
    assert set(found.files) == {path.name for path in folder.iterdir()} - {"compare.npz"}
    assert found.files["comparison.csv"] == (folder / "comparison.csv").read_bytes()
    assert json.loads(found.files["compare.json"]) == json.loads((folder / "compare.json").read_text())
