"""Models that are handed to lm-evaluation-harness: its scores are those that it computes by itself."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pandas as pd
import pytest
import wikitext
from pair import Paired, pair, read_samples
from terminal import call, refused

from cahp.values import DataError

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


Read = Callable[..., pd.DataFrame]


def sample(number: int, acc: object, **more: Any) -> dict[str, Any]:
    """One line of a file, as the harness writes it."""
    row = {"doc_id": number, "filter": "none", "metrics": ["acc"], "acc": acc, "target": "0", "resps": [["-1.5"]]}
    row |= {"doc_hash": f"doc {number}", "prompt_hash": f"prompt {number}", "target_hash": "0"}
    return row | more


def to_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write samples to a file, and read them."""

    def write_and_read(rows: list[dict[str, Any]], name: str = "run.jsonl") -> pd.DataFrame:
        (tmp_path / name).write_bytes(to_lines(rows))
        return read_samples(tmp_path / name)

    return write_and_read


def answers(right: str) -> list[dict[str, Any]]:
    """Items that are right where there is a 1."""
    return [sample(number, float(one)) for number, one in enumerate(right)]


def notices(paired: Paired) -> str:
    return "; ".join(paired.notices)


def test_right_answers_have_the_exact_test_of_mcnemar(read: Read) -> None:
    # 8 items right in A only, 1 in B only: 2 (1 + 9) / 2^9.
    paired = pair(read(answers("1" * 8 + "0" + "1" * 6 + "0" * 5)), read(answers("0" * 8 + "1" + "1" * 6 + "0" * 5)))
    (row,) = paired.rows
    assert (row.n, row.only_a, row.only_b, row.test) == (20, 8, 1, "McNemar")
    assert (row.a.value, row.b.value, row.difference.value) == (14 / 20, 7 / 20, pytest.approx(-35))
    assert row.p == pytest.approx(20 / 512)
    assert row.p_holm == row.p
    assert row.difference.excludes(0)
    assert paired.notices == ()
    # Missing items are counted and left out.
    paired = pair(read(answers("111000"), "a.jsonl"), read(answers("1110"), "b.jsonl"))
    assert paired.rows[0].n == 4
    assert "2 of 6 items of a.jsonl are not in the other file" in notices(paired)


def test_a_perplexity_is_that_of_all_words_and_its_difference_is_in_nats(read: Read) -> None:
    def of(*likelihoods: float) -> list[dict[str, Any]]:
        more = {"metrics": ["word_perplexity"]}
        return [sample(n, 0, word_perplexity=[one, 10 * (n + 1)], **more) for n, one in enumerate(likelihoods)]

    (row,) = pair(read(of(-20, -40)), read(of(-26, -52))).rows
    assert row.a.value == pytest.approx(2.718281828**2)
    assert row.difference.value == pytest.approx(18 / 30)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (answers("10"), [row | {"doc_hash": f"other {row['doc_id']}"} for row in answers("10")], "no item in common"),
        (answers("10"), [row | {"target_hash": "1"} for row in answers("10")], "another right answer for each of"),
        (answers("10"), [sample(n, 0, metrics=["f"], f=1) for n in range(2)], "no metric in common"),
        (answers("10"), [{"doc_id": 0, "metrics": ["acc"], "acc": 1}], "one of run.jsonl and run.jsonl has digests"),
    ],
)
def test_runs_that_cannot_be_paired_are_one_sentence(read: Read, first: Any, second: Any, reason: str) -> None:
    assert reason in fakes.reason(DataError, pair, read(first), read(second))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no finite number for a metric (none is named)"),
        (b"no json\n", "line 1: is not JSON"),
        (b'{"metrics": ["acc"], "acc": 1}\n{', "line 2: is not JSON"),
        (b"[" * 100_000 + b"\n", "line 1: is not JSON"),
        (b"\xff\xfe\n", "cannot be read"),
        (b"[1]\n", "line 1: is no sample"),
        (b'{"acc": 1}\n', "line 1: is no sample"),
        (to_lines([sample(0, float("nan"))]), "no finite number for a metric (acc)"),
        (to_lines([sample(0, [["gold"], "prediction"])]), "no finite number for a metric (acc)"),
        (to_lines([sample(0, 10**400)]), "no finite number for a metric (acc)"),
    ],
)
def test_files_that_hold_no_samples_are_one_sentence(content: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_bytes(content)
    assert reason in fakes.reason(DataError, read_samples, file)


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    files = [tmp_path / "full.jsonl", tmp_path / "pruned.jsonl"]
    for file, right in zip(files, ("1" * 12 + "0" * 3, "0" * 9 + "1" * 3 + "0" * 3), strict=True):
        file.write_bytes(to_lines(answers(right)))
    given = ["experiment", "pair", "--samples", files[0], "--samples"]
    lines = call(*given, files[1]).out.splitlines()
    assert lines[:2] == ["A: full.jsonl", "B: pruned.jsonl"]
    assert " ".join(lines[4].split()) == "acc 15 80.0 % 20.0 % −60.0 points [−86.7, −33.3] 0.0039 0.0039"
    assert lines[6] == "  acc: the runs differ; 9 items right in A only, 0 in B only (exact test of McNemar)"
    document = json.loads(call(*given, files[1], "--json").out)
    assert document["rows"][0]["difference"]["value"] == pytest.approx(-60)
    assert "write --samples A --samples B" in refused(call(*given[:-1]))
    assert "cannot be read" in refused(call(*given, "none.jsonl"))


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    rows = [sample(0, 0, metrics=["\x1b[31mred"], **{"\x1b[31mred": 1})]
    (tmp_path / "a.jsonl").write_bytes(to_lines(rows))
    assert "\x1b" not in call("experiment", "pair", *2 * ("--samples", tmp_path / "a.jsonl")).out
