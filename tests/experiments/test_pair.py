"""Two runs of lm-evaluation-harness, paired item by item: hand-checked tables, and files that cannot be used."""

from __future__ import annotations

import json
import math
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


def test_the_order_of_lines_does_not_matter_and_equal_documents_are_paired_in_theirs(read: Read) -> None:
    rows = answers("110100")
    assert pair(read(rows), read(rows[::-1])).rows[0].only_a == 0
    twice = [sample(number, value, doc_hash="same") for number, value in enumerate((1.0, 0.0))]
    other = [sample(number, value, doc_hash="same") for number, value in enumerate((1.0, 1.0))]
    assert (pair(read(twice), read(other)).rows[0].only_a, pair(read(twice), read(other)).rows[0].only_b) == (0, 1)


def test_the_rows_of_several_metrics_are_corrected_together(read: Read) -> None:
    def two(right: str, other: str) -> list[dict[str, Any]]:
        pairs = enumerate(zip(right, other, strict=True))
        return [sample(n, int(a), metrics=["acc", "acc_norm"], acc_norm=int(b)) for n, (a, b) in pairs]

    acc, norm = pair(read(two("1" * 9, "1" * 9)), read(two("0" * 9, "1" * 8 + "0"))).rows
    assert (acc.p, norm.p) == (pytest.approx(2 / 512), 1.0)
    assert (acc.p_holm, norm.p_holm) == (pytest.approx(4 / 512), 1.0)


def test_a_filter_is_a_metric_of_its_own(read: Read) -> None:
    rows = [sample(number, number % 2, filter=name) for name in ("strict", "flexible") for number in range(4)]
    assert [row.label for row in pair(read(rows), read(rows)).rows] == ["acc (strict)", "acc (flexible)"]


def test_values_that_are_no_shares_have_an_interval_and_random_signs(read: Read) -> None:
    first = [sample(number, 0.1 * number) for number in range(10)]
    second = [sample(number, 0.1 * number + 0.2) for number in range(10)]
    (row,) = pair(read(first), read(second)).rows
    assert (row.test, row.only_a) == ("random signs", None)
    assert row.difference.value == pytest.approx(0.2)
    assert row.p == pytest.approx(2 / 2**10, abs=0.002)


def test_a_perplexity_is_that_of_all_words_and_its_difference_is_in_nats(read: Read) -> None:
    def of(*likelihoods: float) -> list[dict[str, Any]]:
        more = {"metrics": ["word_perplexity"]}
        return [sample(n, 0, word_perplexity=[one, 10 * (n + 1)], **more) for n, one in enumerate(likelihoods)]

    (row,) = pair(read(of(-20, -40)), read(of(-26, -52))).rows
    assert row.a.value == pytest.approx(2.718281828**2)
    assert row.difference.value == pytest.approx(18 / 30)


def test_bits_per_byte_differ_in_bits(read: Read) -> None:
    def of(likelihood: float) -> list[dict[str, Any]]:
        value = likelihood * math.log(2)
        return [sample(n, 0, metrics=["bits_per_byte"], bits_per_byte=[value, 10]) for n in range(8)]

    (row,) = pair(read(of(-10)), read(of(-15))).rows
    assert (row.a.value, row.b.value) == pytest.approx((1.0, 1.5))
    assert row.difference.value == pytest.approx(0.5)
    assert row.difference.unit == "bits"


def test_missing_items_are_counted_and_left_out(read: Read) -> None:
    paired = pair(read(answers("111000"), "a.jsonl"), read(answers("1110"), "b.jsonl"))
    assert paired.rows[0].n == 4
    assert "2 of 6 items of a.jsonl are not in the other file" in notices(paired)


def test_another_version_of_a_task_is_said(read: Read) -> None:
    paired = pair(read(answers("110")), read([row | {"prompt_hash": "new"} for row in answers("110")]))
    assert "3 of 3 items have another prompt in each run" in notices(paired)
    changed = answers("110")
    changed[0]["target_hash"] = "1"
    paired = pair(read(answers("110")), read(changed))
    assert paired.rows[0].n == 2
    assert "1 item with another right answer in each run left out" in notices(paired)


def test_files_without_digests_are_matched_by_number(read: Read) -> None:
    rows = [{name: row[name] for name in ("doc_id", "metrics", "acc")} for row in answers("101")]
    assert "matched by doc_id" in notices(pair(read(rows), read(rows)))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (answers("10"), [row | {"doc_hash": f"other {row['doc_id']}"} for row in answers("10")], "no item in common"),
        (
            answers("10"),
            [row | {"target_hash": "1"} for row in answers("10")],
            "another right answer for each of the 2 items",
        ),
        (answers("10"), [sample(n, 0, metrics=["f"], f=1) for n in range(2)], "no metric in common"),
        (
            answers("10"),
            [{"doc_id": 0, "metrics": ["acc"], "acc": 1}],
            "only one of run.jsonl and run.jsonl has digests",
        ),
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


def test_a_perplexity_of_single_answers_is_that_of_their_log_likelihoods(read: Read) -> None:
    first, second = (
        [sample(n, 0, metrics=["perplexity"], perplexity=value) for n in range(4)] for value in (-1.0, -2.0)
    )
    (row,) = pair(read(first), read(second)).rows
    assert row.a.value == pytest.approx(math.e)
    assert row.b.value == pytest.approx(math.e**2)
    # B is worse by one nat an answer.
    assert row.difference.value == pytest.approx(1.0)
