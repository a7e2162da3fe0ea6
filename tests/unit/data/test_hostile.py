"""Data that stops or fills the machine: each file is refused in one sentence, soon, or read for what it is worth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opening import refusal

from cahp.data import load
from cahp.data.tables import read_table
from cahp.values import DataError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def parquet(path: Path, *, compression: str = "zstd", **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, compression=compression, use_dictionary=True)
    return path


@pytest.mark.parametrize("size", [16_000, 1_000_000])
def test_doubled_quotes_in_tsv_take_no_time(tmp_path: Path, size: int) -> None:
    never_closed = '"' * (size // 2) + " x"
    rows = f'text\tlabel\n{never_closed[:100_000]}\ta\n"he said ""no"""\tb\n' + f"{never_closed[:50_000]}\ta\n" * 20
    assert refusal("data", written(tmp_path / "d.tsv", rows)) == ""


#: Texts that stop or fill a careless reader, by the end of their file's name, and a part of the refusal.
HOSTILE: dict[str, tuple[str, Callable[[], str], str]] = {
    "many columns": ("csv", lambda: 2 * (",".join(f"c{n}" for n in range(200_000)) + "\n"), "200000 columns"),
    "short lines of JSON": ("jsonl", lambda: '{"text": "a", "label": 0}\n' + "{}\n" * 4_000_000, "line 2: no"),
    "short lines": ("tsv", lambda: 'text\tlabel\n""""\ta\n\tb\n' + "a\n" * 3_000_000, "line 3: no 'text'"),
    "a long line of JSON": ("jsonl", lambda: '{"text": "a", "more": [' + "{}," * 3_000_000 + "1]}", "longer than"),
    "texts as labels": (
        "csv",
        lambda: "text,label\n" + "".join(map("a,text {}\n".format, range(20_000))),
        "20,000 diff",
    ),
}


@pytest.mark.parametrize(("suffix", "text", "named"), HOSTILE.values(), ids=HOSTILE)
def test_text_that_fills_memory_is_refused(tmp_path: Path, suffix: str, text: Callable[[], str], named: str) -> None:
    assert named in refusal("data", written(tmp_path / f"d.{suffix}", text()))


@pytest.mark.parametrize("depth", [1000, 100_000])
@pytest.mark.parametrize("kind", ["data", "preview"])
def test_json_nested_deep_is_refused(tmp_path: Path, depth: int, kind: str) -> None:
    row = '{"text": "a", "label": ' + "[" * depth + "]" * depth + "}"
    sentence = refusal(kind, written(tmp_path / "d.jsonl", f"{row}\n{row}\n"))
    # Pythons differ in what is too deep for them; a label that is a list is none in any of them.
    deep_enough = depth < 10_000 and (kind == "preview" or "more than one label" in sentence)
    assert "not JSON" in sentence or deep_enough


@pytest.mark.parametrize("kind", ["data", "preview"])
@pytest.mark.parametrize("length", [80_000, 4_000_000])
def test_a_long_value_that_every_row_repeats_is_not_unpacked(tmp_path: Path, length: int, kind: str) -> None:
    rows = 65_536 if length < 1 << 20 else 2_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * length])
    path = parquet(tmp_path / "d.parquet", text=column, label=pa.array([0, 1] * (rows // 2)))
    assert path.stat().st_size < 20_000
    sentence = refusal(kind, path)
    assert ("would unpack" in sentence) if kind == "data" or rows > 10_000 else sentence == ""


def test_the_size_that_a_footer_says_is_not_believed(tmp_path: Path) -> None:
    path = parquet(tmp_path / "d.parquet", compression="gzip", text=["x" * (100 << 20), "b"], label=[0, 1])
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)

    def varint(value: int) -> bytes:
        value *= 2
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    data, true = path.read_bytes(), varint(chunk.total_uncompressed_size)
    small = bytes([0x80 | (true[0] & 127)]) + b"\x80" * (len(true) - 2) + b"\x00"
    at = data.rindex(true)
    path.write_bytes(data[:at] + small + data[at + len(true) :])
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size < 1000
    assert "would unpack" in refusal("data", path)


@pytest.mark.parametrize("kind", ["data", "preview"])
@pytest.mark.parametrize(
    ("text", "rows", "named"),
    [
        (lambda: ["x" * (100 << 20), "b"], 2, "would unpack"),
        (lambda: pa.nulls(20_000_000, pa.string()), 20_000_000, "20,000,000 rows"),
    ],
    ids=["a page unpacked beyond reason", "rows without content"],
)
def test_small_files_stay_small(tmp_path: Path, kind: str, text: Callable[[], Any], rows: int, named: str) -> None:
    path = parquet(tmp_path / "d.parquet", text=text(), label=pa.nulls(rows, pa.int8()))
    assert path.stat().st_size < 100_000
    assert named in refusal(kind, path)


def test_a_value_beyond_every_text_is_refused_with_its_row(tmp_path: Path) -> None:
    path = parquet(tmp_path / "d.parquet", text=["fine", "x" * (5 << 20)], label=[0, 1])
    assert "row 2: 'text' is longer" in refusal("data", path)


@pytest.mark.parametrize("kind", ["data", "preview"])
def test_nested_columns_and_bytes_are_named_and_not_read(tmp_path: Path, kind: str) -> None:
    wide = pa.array([[0] * 1_000] * 500, pa.list_(pa.int8()))
    path = parquet(tmp_path / "d.parquet", text=wide, label=[0, 1] * 250)
    assert ("'text'" in refusal(kind, path)) is (kind == "data")
    assert read_table(path).preview(1) == [{"text": "(list<element: int8>)", "label": "0"}]
    raw = parquet(tmp_path / "raw.parquet", text=[b"\xff", b"a"], label=[0, 1])
    with pytest.raises(DataError, match=r"'text' of .* holds binary"):
        load(str(raw))


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_categories_and_repeated_texts_are_read_as_ever(tmp_path: Path, compression: str) -> None:
    texts = pa.array([f"text {index % 100} {'word ' * 40}" for index in range(30_000)])
    labels = pa.array(["a", "b"] * 15_000).dictionary_encode()
    path = parquet(tmp_path / "d.parquet", compression=compression, text=texts, label=labels)
    assert sum(map(len, load(str(path)).splits.values())) == 30_000


def test_a_parquet_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "whole.parquet", text=[f"text {n}" for n in range(50)], label=[0, 1] * 25).read_bytes()
    cut = tmp_path / "cut.parquet"
    for end in range(0, len(whole), 37):
        cut.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"cut\.parquet"):
            load(str(cut))


def by_hand(
    folder: Path, features: datasets.Features, columns: dict[str, list[Any]], *, compression: str | None = None
) -> None:
    """What ``save_to_disk`` would write, without looking at the cells as it does."""
    folder.mkdir()
    table = pa.table(columns, schema=features.arrow_schema)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema, options=options) as stream:
        stream.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features.to_dict()}))
    none = dict.fromkeys(("_format_columns", "_format_type", "_split"))
    state = {"_fingerprint": "0", "_format_kwargs": {}, "_output_all_columns": False, **none}
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps({**state, "_data_files": files}))


@pytest.mark.parametrize("feature", ["Image", "Audio"])
@pytest.mark.parametrize("column", ["text", "label"])
def test_no_image_or_sound_is_read(tmp_path: Path, feature: str, column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = getattr(datasets, feature)

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("something was decoded")

    monkeypatch.setattr(kind, "decode_example", decoded)
    secret = written(tmp_path / "secret", "not a picture")
    cells = [{"bytes": None, "path": str(secret)}, {"bytes": None, "path": "http://127.0.0.1:9/x"}]
    features = {"text": datasets.Value("string"), "label": datasets.Value("string"), column: kind()}
    by_hand(tmp_path / "d", datasets.Features(features), {"text": ["a", "b"], "label": ["a", "b"], column: cells})
    with pytest.raises(DataError, match=f"{column}.*holds {feature}"):
        load(str(tmp_path / "d"))


TEXTS = datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("string")})


def test_a_saved_data_set_is_not_unpacked(tmp_path: Path) -> None:
    columns = {"text": ["x" * (200 << 20), "b"], "label": ["a", "b"]}
    by_hand(tmp_path / "d", TEXTS, columns, compression="zstd")
    assert "compressed" in refusal("data", tmp_path / "d")


def test_a_saved_data_set_does_not_reach_out_of_its_folder(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], "label": ["a", "b"]}
    by_hand(tmp_path / "secret", TEXTS, columns)
    by_hand(tmp_path / "d", TEXTS, columns)
    assert len(load(str(tmp_path / "d")).classes) == 2
    state = json.loads((tmp_path / "d" / "state.json").read_text())
    for name in ("../secret/data-00000-of-00001.arrow", str(tmp_path / "secret/data-00000-of-00001.arrow"), 5, None):
        (tmp_path / "d" / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": name}]}))
        with pytest.raises(DataError, match="no file name"):
            load(str(tmp_path / "d"))
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["../secret"]}')
    with pytest.raises(DataError, match="no file name"):
        load(str(tmp_path / "both"))
    # The library reads the files of the folder itself before those that are listed.
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": []}')
    (tmp_path / "both" / "state.json").write_text((tmp_path / "d" / "state.json").read_text())
    with pytest.raises(DataError, match="no file name"):
        load(str(tmp_path / "both"))
