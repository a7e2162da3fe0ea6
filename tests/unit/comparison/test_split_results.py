"""A comparison file, read: what it says is found by name, and what is none is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comparisons import varied

from cahp.comparison import Comparison
from cahp.comparison.document import ComparisonDocument
from cahp.comparison.result import read_shown, read_upload
from cahp.comparison.split_results import mean_layer
from cahp.values import CahpError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison as ``cahp compare --out`` leaves it."""
    varied().write(tmp_path / "out")
    return tmp_path / "out"


def test_results_equal_those_of_the_file(folder: Path) -> None:
    document = json.loads((folder / "compare.json").read_text())
    one = next(
        one
        for one in document["summary"]["means"]
        if (one["recovery"], one["method"], one["budget"]) == ("refit", "random", 5)
    )
    reading = read_shown(folder).results_on("eval", "accuracy")
    mean = reading.means["refit", "random", 5]
    assert (mean.accuracy.value, list(mean.accuracy.ci95 or ()), mean.masks) == (
        *(one["accuracy"], one["ci95"], one["masks"]),
    )
    assert mean.outcomes["agreement"].value == one["agreement"]
    assert reading.full["none"] == document["full"][0]["recoveries"]["none"]["eval"]["accuracy"]
    assert reading.budgets == (3, 5)
    # Heads that a method keeps sum to its budget.
    assert sum(reading.layers["gradient", 3]) == pytest.approx(3)
    assert (reading.split, reading.n, reading.total) == ("validation", 60, 6)
    assert reading.title == "tiny on reviews, 3 methods"
    assert [reading.methods[name].random for name in ("random", "gradient")] == [True, False]
    # Two methods in the order of their names; one twice is itself with another seed.
    assert reading.overlap["complementary", "gradient", 3] == 0.5
    assert reading.overlap["gradient", "gradient", 3] == 1
    assert {one.recovery for one in reading.verdicts} == {one.recovery for one in reading.overall} == {"none", "refit"}


def test_a_comparison_that_reports_on_a_split_is_read_on_it() -> None:
    comparison = varied()
    assert comparison.document.parts == ("eval",)
    said = comparison.document.to_json()
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
    found = {part: both.results_on(part).means["none", "random", 3].accuracy.value for part in document.parts}
    assert found["eval"] + found["report"] == pytest.approx(1)


def test_reading_computes_nothing_where_a_summary_was_written(folder: Path) -> None:
    said = json.loads((folder / "compare.json").read_text())
    said["summary"]["rule"] = "What they wrote."
    (folder / "compare.json").write_text(json.dumps(said))
    assert read_shown(folder).results.rule == "What they wrote."


def test_the_mean_layer_of_kept_heads_is_their_mean() -> None:
    # One head in layer 0, three in layer 2.
    assert mean_layer([1, 0, 3]) == pytest.approx(1.5)


def _broken(document: dict[str, Any]) -> dict[str, bytes]:
    """What is no comparison, or says so and is none."""
    without = {name: value for name, value in document.items() if name != "summary"}
    summary = document["summary"]
    odd = {
        "no summary": without,
        "no means": {**document, "summary": {**summary, "means": []}},
        "a list for a summary": {**document, "summary": [1]},
        "words for numbers": {**document, "summary": {**summary, "cost": [{"method": "random", "forwards": "much"}]}},
        "another method": {
            **document,
            "summary": {**summary, "means": [{**summary["means"][0], "method": "<img src=x>"}]},
        },
        "another shape": {**document, "model": {**document["model"], "layers": 7}},
        "endless heads": {**document, "model": {**document["model"], "layers": 10**9}},
        "another schema": {**document, "schema": "cahp.run/1"},
        "cells of nothing": {**document, "cells": [None]},
        "no seeds": {**document, "settings": {}},
        "heads of another model": {**document, "cells": [{**document["cells"][0], "kept": {"0": [99]}}]},
    }
    return {
        **{name: json.dumps(value).encode() for name, value in odd.items()},
        **{"empty": b"", "words": b"hello", "null": b"null", "deep": b"[" * 100_000, "bytes": b"\xff\xfe\x00{"},
    }


def test_what_is_no_comparison_is_refused_in_a_sentence(folder: Path) -> None:
    document = json.loads((folder / "compare.json").read_text())
    for name, content in _broken(document).items():
        with pytest.raises(CahpError, match=r"mine\.json") as refused:
            read_upload("mine.json", content)
        assert "/tmp" not in str(refused.value), name
        assert "cahp compare" in str(refused.value), name


def test_an_uploaded_file_is_read_without_its_answers(folder: Path) -> None:
    found = read_upload("mine.json", (folder / "compare.json").read_bytes())
    assert set(found.files) == {path.name for path in folder.iterdir()} - {"compare.npz"}
    assert found.files["comparison.csv"] == (folder / "comparison.csv").read_bytes()
    assert json.loads(found.files["compare.json"]) == json.loads((folder / "compare.json").read_text())


@pytest.mark.parametrize(
    "name", ["[here](http://x)", "**bold**", "# head", ":material/home:", "$x$", "a b", "_a_", "", "x" * 61, "a\n", "é"]
)
def test_a_method_whose_name_means_something_to_markdown_is_refused(folder: Path, name: str) -> None:
    text = (folder / "compare.json").read_text().replace(json.dumps("gradient"), json.dumps(name))
    with pytest.raises(CahpError, match="broken"):
        read_upload("mine.json", text.encode())


def test_a_recovery_that_there_is_not_is_refused(folder: Path) -> None:
    document = json.loads((folder / "compare.json").read_text())
    document["summary"]["verdicts"][0]["recovery"] = "prayer"
    with pytest.raises(CahpError, match="broken"):
        read_upload("mine.json", json.dumps(document).encode())
    document["settings"]["recoveries"] = []
    with pytest.raises(CahpError, match="broken"):
        read_upload("mine.json", json.dumps(document).encode())


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_a_file_nested_deep_is_refused(depth: int) -> None:
    with pytest.raises(CahpError, match="the file mine"):
        read_upload("mine.json", b'{"schema": ' + b"[" * depth + b"]" * depth + b"}")
