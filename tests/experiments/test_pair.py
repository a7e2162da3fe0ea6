"""Two runs of lm-evaluation-harness, paired item by item: hand-checked tables, and files that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pandas as pd
import pytest
from pair import Paired, pair, read_samples
from terminal import call, refused

from cahp.values import DataError

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


def test_a_perplexity_is_that_of_all_words_and_its_difference_is_in_nats(read: Read) -> None:
    def of(*likelihoods: float) -> list[dict[str, Any]]:
        more = {"metrics": ["word_perplexity"]}
        return [sample(n, 0, word_perplexity=[one, 10 * (n + 1)], **more) for n, one in enumerate(likelihoods)]

    (row,) = pair(read(of(-20, -40)), read(of(-26, -52))).rows
    assert row.a.value == pytest.approx(2.718281828**2)
    assert row.difference.value == pytest.approx(18 / 30)


def test_missing_items_are_counted_and_left_out(read: Read) -> None:
    paired = pair(read(answers("111000"), "a.jsonl"), read(answers("1110"), "b.jsonl"))
    assert paired.rows[0].n == 4
    assert "2 of 6 items of a.jsonl are not in the other file" in notices(paired)


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
