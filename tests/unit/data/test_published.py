"""Data on the hub, read by the real libraries from a small server; and which table is which split, told or guessed."""

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import Hub, asked_here, serving

from cahp import cli, data, hub as hub_client
from cahp.data import Columns, find, guess_columns, guess_splits, load
from cahp.data.dataset import Parts
from cahp.values import DataError

NAMES = ("entailment", "neutral", "contradiction")


def grades(split: str, count: int) -> bytes:
    rows = [{"text": f"{split} number {row}", "label": row % 5, "label_text": "fine"} for row in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(labels: Sequence[int], names: Sequence[str], **texts: Sequence[str]) -> bytes:
    """A Parquet file with columns of texts, and the names of the classes as the library leaves them."""
    features = {"label": {"names": list(names), "_type": "ClassLabel"}}
    features |= {name: {"dtype": "string", "_type": "Value"} for name in texts}
    table = pa.table({**texts, "label": pa.array(labels, pa.int64())})
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), out)
    return out.getvalue()


def card(**configs: Mapping[str, str]) -> bytes:
    """The README that says which files are which split of a configuration."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [f"  - split: {split}\n    path: {path}" for split, path in splits.items()]
    return "\n".join([*lines, "---", ""]).encode()


def why_not(name: str) -> str:
    return fakes.reason(DataError, data.load, name)


def test_a_preset_of_lines_is_read_and_nothing_is_drawn(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    files = {f"{split}.jsonl": grades(split, size) for split, size in (("train", 20), ("dev", 10), ("test", 15))}
    hub.add("datasets/SetFit/sst5", {**files, "README.md": b"# SST-5\n"})
    found = data.load("sst5")
    assert {split: len(texts) for split, texts in found.splits.items()} == {"train": 20, "validation": 10, "test": 15}
    assert found.classes == ("0", "1", "2", "3", "4")
    assert capfd.readouterr() == ("", "")
    # The library is quiet here alone.
    assert not datasets.are_progress_bars_disabled()
    hub.requests.clear()
    data.load("sst5")
    assert hub.fetched() == {}


def test_a_preset_of_pairs_is_read_by_its_card_and_validates_on_the_matched_split(hub: Hub) -> None:
    splits = ("train", "validation_matched", "validation_mismatched")
    files = {
        f"data/{split}-00000-of-00001.parquet": parquet(
            [0, 1, 2], NAMES, premise=[f"{split} {row}" for row in range(3)], hypothesis=["so it is"] * 3
        )
        for split in splits
    }
    readme = card(default={split: f"data/{split}-*" for split in splits})
    hub.add("datasets/nyu-mll/multi_nli", {**files, "README.md": readme, "old/train.csv": b"a,b\n"})
    dataset = data.load("mnli")
    assert list(dataset.splits) == ["train", "validation", "validation_mismatched"]
    assert dataset.splits["validation"].inputs[0] == ("validation_matched 0", "so it is")
    assert dataset.classes == ("contradiction", "entailment", "neutral")
    assert dataset.splits["train"].labels.tolist() == [1, 2, 0]
    assert "train.csv" not in str(hub.fetched())


def test_of_c4_one_file_is_fetched_and_divided(hub: Hub) -> None:
    lines = "".join(json.dumps({"text": f"page {row}", "url": "u"}) + "\n" for row in range(60)).encode()
    files = {f"en/c4-validation.0000{part}-of-00008.json.gz": gzip.compress(lines) for part in range(2)}
    hub.add("datasets/allenai/c4", {**files, "README.md": card(en={"validation": "en/c4-validation.*.json.gz"})})
    dataset = data.load("c4")
    assert {*dataset.splits} == {"train", "validation", "test"}
    assert [file for file in hub.fetched() if file.endswith("gz")] == ["en/c4-validation.00000-of-00008.json.gz"]


def test_a_hub_name_carries_its_config_and_class_names(hub: Hub) -> None:
    files = {
        "small/train.parquet": parquet([1, 0], ("no", "yes"), text=["a", "b"]),
        "small/dev.parquet": parquet([0, 1, 1], ("no", "yes"), text=["c", "d", "e"]),
    }
    readme = card(
        large={"train": "large/train.parquet"}, small={"train": "small/train.parquet", "dev": "small/dev.parquet"}
    )
    hub.add("datasets/org/name", {**files, "large/train.parquet": b"", "README.md": readme})
    dataset = data.load("hub:org/name:small")
    assert dataset.id == "hub:org/name:small"
    assert dataset.classes == ("no", "yes")
    assert dataset.splits["train"].labels.tolist() == [1, 0]
    assert dataset.splits["validation"].labels.tolist() == [0, 1, 1]
    assert dataset.notices == ()


def test_unlabelled_rows_are_left_out_and_a_split_of_them_is_dropped(hub: Hub) -> None:
    names = ("no", "yes")
    files = {
        "train.parquet": parquet([1, -1, 0], names, text=["a", "b", "c"]),
        "validation.parquet": parquet([0, 1, 1, 0], names, text=["a", "", "b", "c"]),
        "test.parquet": parquet([-1, -1], names, text=["a", "b"]),
    }
    hub.add("datasets/org/name", files)
    dataset = data.load("hub:org/name")
    found = {split: texts.first for split, texts in dataset.splits.items()}
    assert found == {"train": ("a", "c"), "validation": ("a", "b", "c")}
    notices = " ".join(dataset.notices)
    assert "hub:org/name (train): 1 rows without text or label were left out, row 2 first" in notices
    assert "test has no labels" in notices


def test_a_revision_of_data_is_honoured(hub: Hub) -> None:
    hub.add("datasets/org/name", {"train.jsonl": grades("old", 10)}, tag="v1")
    hub.add("datasets/org/name", {"train.jsonl": grades("new", 10)})
    texts = [text for split in data.load("hub:org/name@v1").splits.values() for text in split.first]
    assert all(text.startswith("old") for text in texts)
    assert "'v9'" in why_not("hub:org/name@v9")


def test_a_preset_is_read_from_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sst5").mkdir()
    (tmp_path / "sst5" / "train.tsv").write_text("text\tlabel\nx\t0\ny\t4\n")
    (tmp_path / "sst5" / "validation.tsv").write_text("text\tlabel\nz\t0\n")
    monkeypatch.chdir(tmp_path)
    dataset = data.load("sst5")
    assert dataset.splits["train"].first == ("x", "y")
    assert dataset.notices == ("sst5 is read from the folder of that name, not from the hub.",)


def test_a_local_folder_is_never_read_in_place_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "hides the hub data set" in why_not("hub:org/name")


def test_large_data_are_fetched_with_consent_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("datasets/org/name", {"train.jsonl": grades("train", 40), "more.bin": b"\0" * 10_000})
    monkeypatch.setattr(hub_client, "FREE", 1000)
    assert "hub:org/name takes 2 kB" in why_not("hub:org/name")
    assert "train.jsonl" not in hub.fetched()
    with hub_client.consent_from(lambda *_: True):
        assert len(data.load("hub:org/name").splits["train"]) > 20


def test_without_a_connection_what_was_fetched_is_used_and_no_other_commit_than_the_one_named(tmp_path: Path) -> None:
    with serving() as hub, asked_here(hub, tmp_path / "hf"):
        old = hub.add("datasets/org/name", {"train.jsonl": grades("old", 20)}, tag="v1")
        hub.add("datasets/org/name", {"train.jsonl": grades("new", 20)})
        data.load(f"hub:org/name@{old}")
        before = data.load("hub:org/name")
    with asked_here(hub, tmp_path / "hf"):
        again = data.load("hub:org/name")
        assert again.splits["train"].first[0].startswith("new")
        assert again.splits["train"].sha256 == before.splits["train"].sha256
        assert "the hub cannot be reached" in again.notices[0]
        assert old in why_not(f"hub:org/name@{old}")
        assert "connection" in why_not("hub:org/none")


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


def test_a_column_of_no_usual_name_is_guessed_to_be_a_text_and_no_label() -> None:
    rows = [{"posted": "day 1", "review": "a long review of a town"}]
    assert guess_columns(["posted", "review"], rows) == Columns("review", None, "(none)")
