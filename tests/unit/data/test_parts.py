"""Which table is which split, and which column is which: told, and guessed for a person to look at."""

from pathlib import Path

import pytest

from cahp import cli
from cahp.data import Columns, find, guess_columns, guess_splits, load
from cahp.data.dataset import Parts

ROWS = "".join(f"what is the weather in town number {row},{'ab'[row % 2]}\n" for row in range(40))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a person has it: no file and no column is called as usual."""
    for number, name in enumerate(("reviews.csv", "held-out.csv", "more.csv")):
        (tmp_path / name).write_text("question,kind\n" + ROWS.replace("town", f"town {number}"))
    return tmp_path


def named(*names: str) -> Parts:
    return Parts.of_files("d", "d", dict.fromkeys(names, lambda: pytest.fail("nothing is opened to guess")))


def test_a_folder_of_other_names_says_which_options_tell_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["prune", "--data", str(folder), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "'held-out.csv', 'more.csv', 'reviews.csv'" in said
    assert "--splits held-out.csv=train" in said
    assert cli.run(["prune", "--data", str(folder), "--splits", "reviews.csv=train", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "its columns are 'question', 'kind'" in said
    assert "--label-column" in said
    assert "--text-column" in said
    assert len(said.splitlines()) == 1


def test_the_files_that_are_named_are_read_and_no_others(folder: Path) -> None:
    (folder / "more.csv").write_text("never opened")
    columns = {"text_column": "question", "label_column": "kind"}
    read = load(str(folder), splits={"reviews.csv": "train", "held-out.csv": "dev"}, **columns)
    assert {split: texts.first[0] for split, texts in read.splits.items()} == {
        "train": "what is the weather in town 0 number 0",
        "validation": "what is the weather in town 1 number 0",
    }


def test_published_splits_serve_as_what_they_are_told(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"text": [f"text {row}" for row in range(20)], "label": ["a", "b"] * 10}
    made = datasets.Dataset.from_dict(rows)
    saved = tmp_path / "saved"
    datasets.DatasetDict(train=made, dev_matched=made, dev_other=made).save_to_disk(saved)
    assert set(load(str(saved)).splits) == {"train", "validation", "dev_other"}
    told = load(str(saved), splits={"train": "train", "dev_other": "validation"})
    assert set(told.splits) == {"train", "validation"}
    assert guess_splits(find(str(saved))) == {"train": "train", "dev_matched": "validation"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train.csv", "dev.csv"), {"train.csv": "train", "dev.csv": "validation"}),
        (("b_test_v2.csv", "my-train.csv"), {"b_test_v2.csv": "test", "my-train.csv": "train"}),
        (("reviews.csv", "reviews-val.jsonl"), {"reviews.csv": "train", "reviews-val.jsonl": "validation"}),
        (("a.csv", "b.csv"), {"a.csv": "train"}),
        (("train.csv", "train2.csv"), {"train.csv": "train"}),
        (("contest.csv",), {"contest.csv": "train"}),
    ],
)
def test_splits_are_guessed_by_the_words_in_names(names: tuple[str, ...], expected: dict[str, str]) -> None:
    assert guess_splits(named(*names)) == expected


@pytest.mark.parametrize("last", ["review", "posted"])
def test_a_last_column_with_long_or_unlike_values_is_no_label(last: str) -> None:
    rows = [{"review": f"a long review of town {row}", "id": str(row), "posted": f"day {row}"} for row in range(5)]
    names = [*(name for name in rows[0] if name != last), last]
    assert guess_columns(names, rows) == Columns("review", None, "(none)")
    # Values that occur again are classes.
    rows = [{**row, "posted": f"day {number % 2}"} for number, row in enumerate(rows)]
    assert guess_columns(["review", "posted"], rows) == Columns("review", None, "posted")
