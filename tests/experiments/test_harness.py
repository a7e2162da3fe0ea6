"""Models that are handed to lm-evaluation-harness: its scores are those that it computes by itself."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wikitext
from terminal import call, refused

pytestmark = pytest.mark.usefixtures("one_thread")

REFERENCE: dict[str, Any] = json.loads(wikitext.REFERENCE.read_text())
KINDS: dict[str, dict[str, bool]] = {"begins": {}, "ends only": {"begins": False}, "adds both": {"ends": True}}
SCORES = ("word_perplexity", "byte_perplexity", "bits_per_byte")
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
needs_harness = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm_eval is not installed")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "wiki.test.raw"
    path.write_text(wikitext.make_wikitext())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model, a mask for it, and a task of 12 items."""
    place = tmp_path_factory.mktemp("tasks")
    wikitext.save_tiny(place / "model")
    np.save(place / "mask.npy", np.array([[True, False], [True, True]]))
    words = wikitext.WORDS
    rows = [{"text": f"the {words[number + 3]} is by the", "answer": number % 2} for number in range(12)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "mills.yaml").write_text(TASK.format(file=place / "rows.jsonl"))
    return place


def measure(model: object, text: Path, out: Path, window: int) -> dict[str, float]:
    """Measure the perplexities of a model on a text."""
    given = ["experiment", "harness", "--model", model, "--device", "cpu", "--window", window, "--out", out]
    answer = call(*given, "--text", text)
    assert answer.code == 0, answer.err
    results = json.loads((out / "results.json").read_text())["results"][text.name]
    return {name: results[f"{name},none"] for name in SCORES}


def test_without_the_harness_one_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    given = ["experiment", "harness", "--model", folder / "model", "--tasks", "mills"]
    assert 'run pip install "cahp-explorer[tasks]"' in refused(call(*given))


@needs_harness
@pytest.mark.parametrize("kind", KINDS)
def test_words_bytes_and_bits_are_those_of_the_harness(text: Path, tmp_path: Path, kind: str) -> None:
    model = wikitext.save_tiny(tmp_path / "model", **KINDS[kind])
    found = measure(model, text, tmp_path / "out", wikitext.TINY_WINDOW)
    assert found == pytest.approx({name: REFERENCE["tiny"][kind][name] for name in SCORES}, rel=1e-5)


@needs_harness
def test_both_models_are_evaluated_and_their_samples_are_paired(folder: Path) -> None:
    given = ["experiment", "harness", "--model", folder / "model", "--device", "cpu", "--tasks", folder / "mills.yaml"]
    answers = [call(*given, "--out", folder / "full")]
    answers.append(call(*given, "--mask", folder / "mask.npy", "--out", folder / "pruned"))
    assert [answer.code for answer in answers] == [0, 0]
    assert answers[0].out.startswith("mills: acc 0.")
    files = [folder / name / "samples_mills.jsonl" for name in ("full", "pruned")]
    answer = call("experiment", "pair", "--samples", files[0], "--samples", files[1], "--json")
    (row,) = json.loads(answer.out)["rows"]
    assert (row["metric"], row["n"]) == ("acc", 12)
    assert "lm-evaluation-harness failed" in refused(call(*given[:-1], "mils"))


@pytest.mark.nightly
def test_the_recorded_values_are_those_of_the_harness() -> None:
    pytest.importorskip("lm_eval")
    for kind, found in wikitext.measure("tiny").items():
        for name, value in found.items():
            assert REFERENCE["tiny"][kind][name] == pytest.approx(value, rel=1e-6), (kind, name)


@needs_harness
@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_smollm2_has_the_bits_of_the_harness_on_one_text_of_several_windows(tmp_path: Path) -> None:
    (tmp_path / "news.txt").write_text(wikitext.join_bbc())
    found = measure("smollm2", tmp_path / "news.txt", tmp_path / "out", wikitext.WINDOW)
    # The word perplexity of news is 166, so that float32 allows no smaller difference.
    assert found == pytest.approx({name: REFERENCE["smollm2"][name] for name in SCORES}, rel=1e-4)
