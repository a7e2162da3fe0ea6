"""Parquet files and saved or published data sets as tables, in bounded time and memory.

A thousand bytes of Parquet or Arrow can describe gigabytes: compressed pages, a long value that a dictionary repeats,
rows without content. Sizes are therefore checked before any memory is allocated for them.
"""

import json
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cahp.data.tables import LISTING, LONGEST_VALUE, STATE, Rows, RowTable, row_error
from cahp.files import read_bounded_json
from cahp.values import DataError, Names
from cahp.words import first_line, join_quoted

#: The most bytes that a file may unpack to, per byte of its own. Texts compress to a fifth.
_MOST_PER_BYTE = 10
#: Bytes that any file may unpack to.
_ALWAYS_ALLOWED = 32 << 20
#: Rows that any file may have; a longer one needs at least a byte per row.
_FEW_ROWS = 50_000
#: Bytes of one batch of rows.
_BATCH_BYTES = 16 << 20
#: Entries of each list in the footer of a file (columns, row groups): each takes some hundred bytes in memory.
_MOST_ENTRIES = 100_000
#: Pages of a file: writers make pages of a megabyte or 20,000 rows.
_MOST_PAGES = 20_000


def parquet_table(path: Path, place: str) -> RowTable:
    """Open a Parquet file, called ``place`` in messages; only its footer is read before rows are.

    Raises:
        DataError: If it is damaged, or would unpack to far more than its size.
    """
    unreadable = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)

    def damaged(error: BaseException) -> DataError:
        return DataError(f"{place} is not a whole Parquet file ({first_line(error)}); write or download it again.")

    try:
        file = pq.ParquetFile(path, thrift_container_size_limit=_MOST_ENTRIES)
        schema = file.schema_arrow
        size = path.stat().st_size
    except unreadable as error:
        raise damaged(error) from error
    if file.metadata.num_rows > max(_FEW_ROWS, size):
        raise _too_large(place, f"{file.metadata.num_rows:,} rows")

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        allowed = max(_ALWAYS_ALLOWED, _MOST_PER_BYTE * size)
        try:
            groups = []
            count = 0
            for group in range(file.metadata.num_row_groups):
                if most is None or count < most:
                    count += file.metadata.row_group(group).num_rows
                    groups.append(group)
            sizes = list(_page_sizes(path, file.metadata, set(wanted), groups))
            if sum(sizes) > allowed:
                raise _too_large(place, f"{sum(sizes) >> 20:,} MB")
            # No value is larger than its page, so this bounds a batch even if every row repeats the same value.
            largest = max(sizes, default=1) or 1
            count = min(1000, max(1, _BATCH_BYTES // largest), most or 1000)
            batches = file.iter_batches(batch_size=count, row_groups=groups, columns=list(wanted), use_threads=False)
            yield from _rows_of(batches, wanted, place, allowed)
        except unreadable as error:
            raise damaged(error) from error

    opaque = {field.name: str(field.type) for field in schema if not _is_plain(field.type)}
    # The class names that the datasets library writes into its files; without them classes are called by integers.
    names: dict[str, Names] = {}
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = {name: tuple(map(str, one["names"])) for name, one in features.items() if "names" in one}
    return RowTable(place, "row", tuple(schema.names), rows, names, opaque=opaque)


def _too_large(place: str, size: str) -> DataError:
    return DataError(
        f"{place} would unpack to {size}, far more than its size allows; write the texts as CSV or JSONL, or use a "
        "part of them."
    )


def saved_table(data: Any, place: str, *, published: bool) -> RowTable:
    """Open one split (``datasets.Dataset``) of a hub or ``save_to_disk`` data set."""
    import datasets

    schema = data.data.schema
    opaque = {}
    for column, feature in data.features.items():
        # Both must be plain: a picture is declared over plain text that names a file.
        if isinstance(feature, (list, dict)):
            opaque[column] = "lists"
        elif not isinstance(feature, (datasets.Value, datasets.ClassLabel)):
            opaque[column] = type(feature).__name__
        elif not _is_plain(schema.field(column).type):
            opaque[column] = str(schema.field(column).type)

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        if data.num_rows > max(_FEW_ROWS, data.data.nbytes):
            raise _too_large(place, f"{data.num_rows:,} rows")
        # Without a format: a data set saved "as torch" would import torch and yield tensors.
        plain = data.with_format("arrow").select_columns(list(wanted))
        try:
            # Arrow files are mapped into memory unchecked: damaged offsets would crash the process.
            plain.data.validate(full=True)
            yield from _rows_of(plain.iter(batch_size=most or 1000), wanted, place, None)
        except DataError:
            raise
        except Exception as error:  # damaged arrow files raise errors of any type
            raise DataError(f"{place} is damaged ({first_line(error)}); save or download it again.") from error

    names = {
        column: tuple(feature.names)
        for column, feature in data.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return RowTable(place, "row", tuple(data.column_names), rows, names, published=published, opaque=opaque)


def _is_plain(kind: Any) -> bool:
    """Tell whether values of this Arrow type are single texts, numbers or truth values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _is_text(kind) or bool(pa.types.is_primitive(kind) or pa.types.is_null(kind))


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _rows_of(batches: Iterable[Any], wanted: Sequence[str], place: str, allowed: int | None) -> Rows:
    """Yield the rows of Arrow batches; all their texts together may take ``allowed`` bytes."""
    number = 0
    taken = 0
    for batch in batches:
        for name in wanted:
            column = batch.column(name)
            if _is_text(column.type):
                lengths = pc.fill_null(pc.binary_length(column.cast(pa.large_string())), 0).to_pylist()
                longest = max(lengths, default=0)
                if longest > LONGEST_VALUE:
                    long = number + lengths.index(longest) + 1
                    raise row_error(place, "row", long, f"{name[:60]!r} is longer than {LONGEST_VALUE:,} bytes")
                taken += sum(lengths)
                if allowed is not None and taken > allowed:
                    raise _too_large(place, f"more than {allowed >> 20:,} MB")
        for row in batch.select(list(wanted)).to_pylist():
            number += 1
            yield number, row


# Sizes of Parquet pages ------------------------------------------------------------------------------------------
#
# Arrow allocates the memory that the header of a page asks for, and does not compare it with the sizes in the footer.
# So the headers are read here first. They use Thrift's compact protocol (parquet.thrift, ``PageHeader``).

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
#: The fields of a page header with the bytes of the page, unpacked and in the file.
_UNPACKED = 2
_PACKED = 3


def _page_sizes(path: Path, metadata: Any, columns: set[str], groups: Iterable[int]) -> Iterator[int]:
    """Yield the unpacked bytes of each page of these columns in these row groups; ``ValueError`` if one is damaged."""
    count = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for group in groups:
            row_group = metadata.row_group(group)
            for chunk in map(row_group.column, range(row_group.num_columns)):
                if not {chunk.path_in_schema, chunk.path_in_schema.partition(".")[0]} & columns:
                    continue
                start = chunk.data_page_offset
                if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
                    start = chunk.dictionary_page_offset
                data.seek(start)
                while data.tell() < start + chunk.total_compressed_size:
                    count += 1
                    if count > _MOST_PAGES:
                        raise ValueError(f"more than {_MOST_PAGES:,} pages")
                    header = _read_page_header(data)
                    if min(header.get(_UNPACKED, -1), header.get(_PACKED, -1)) < 0:
                        raise ValueError("a page without a size")
                    yield header[_UNPACKED]
                    data.seek(header[_PACKED], os.SEEK_CUR)


def _read_page_header(data: mmap.mmap) -> dict[int, int]:
    """Read the header that begins at the position of ``data``; return its integers by the number of their field."""

    def read_number() -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = data.read_byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number that is too long")

    integers = {}
    # The numbers of the last fields of the structures that are open; only the outermost is of interest.
    fields = [0]
    while fields:
        head = data.read_byte()
        kind = head & 15
        if not head:
            fields.pop()
            continue
        fields[-1] += head >> 4
        if not head >> 4:
            fields[-1] = _zigzag(read_number())
        if kind in (_I16, _I32, _I64):
            value = _zigzag(read_number())
            if len(fields) == 1:
                integers[fields[0]] = value
        elif kind in (_BYTE, _DOUBLE, _BINARY):
            data.seek({_BYTE: 1, _DOUBLE: 8}.get(kind) or read_number(), os.SEEK_CUR)
        elif kind == _STRUCT:
            fields.append(0)
        elif kind not in (_TRUE, _FALSE):
            # Page headers have no lists or maps; skipping a huge empty one would take forever.
            raise ValueError("a page header of an unknown form")
    return integers


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


# Folders of save_to_disk -----------------------------------------------------------------------------------------
#
# The datasets library maps Arrow files into memory, which costs nothing unless their content is compressed: then it
# unpacks all of it. It writes no compressed files itself, and it follows the file names that a folder lists.

#: Bytes of the JSON files.
_LARGEST_JSON = 4 << 20
#: The field of the table ``RecordBatch`` in Arrow's Message.fbs that says how its content is compressed.
_COMPRESSION = 3


def check_saved(path: Path) -> None:
    """Refuse a saved data set that refers to files outside its folder, or that is compressed.

    Raises:
        DataError: If it does or is.
        Exception: Of any type, if it is damaged.
    """
    folders = []
    if (path / LISTING).is_file():
        folders = [path / _file_name(split) for split in read_bounded_json(path / LISTING, _LARGEST_JSON)["splits"]]
    if (path / STATE).is_file() or not folders:
        # The library reads these first.
        folders.append(path)
    files = [
        folder / _file_name(file["filename"])
        for folder in folders
        for file in read_bounded_json(folder / STATE, _LARGEST_JSON)["_data_files"]
    ]
    compressed = [file.name for file in files if _is_compressed(file)]
    if compressed:
        raise DataError(
            f"{path} has compressed files ({join_quoted(compressed)}), which save_to_disk never writes; save it again."
        )


def _file_name(name: Any) -> str:
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"{str(name)[:60]!r} is no file name")
    return name


def _is_compressed(file: Path) -> bool:
    """Tell whether the content of any message in a file is compressed, by its header (flatbuffers) alone."""
    with pa.memory_map(str(file)) as source:
        for message in pa.ipc.MessageReader.open_stream(source):
            if message.type in ("record batch", "dictionary"):
                data = message.metadata.to_pybytes()
                header = _follow(data, _field(data, _follow(data, 0), 2))
                if message.type == "dictionary":  # it holds a record batch
                    header = _follow(data, _field(data, header, 1))
                if _field(data, header, _COMPRESSION):
                    return True
    return False


def _follow(message: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", message, at)[0])


def _field(message: bytes, table: int, number: int) -> int:
    """Return where the field of a flatbuffers table lies, or 0 if it has none."""
    vtable = table - struct.unpack_from("<i", message, table)[0]
    (size,) = struct.unpack_from("<H", message, vtable)
    place = 4 + 2 * number
    if place >= size:
        return 0
    (offset,) = struct.unpack_from("<H", message, vtable + place)
    return table + offset if offset else 0
