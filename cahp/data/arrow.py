"""Parquet files and saved or published data sets as tables, with a bound on what a small file may become.

Both formats can say in a thousand bytes what takes gigabytes once it is unpacked: a compressed page, a long value that
a dictionary repeats, rows without content. Sizes are therefore read before anything is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cahp.data.pages import Page, pages_of
from cahp.data.table import LONGEST_VALUE, Rows, Table, broken, first_line
from cahp.values import DataError

#: What a file may become for each of its bytes, once it is unpacked, and what any file may become. Texts compress to a
#: third or a fifth.
_TIMES, _ALWAYS = 10, 32 << 20
#: Rows of any file; above, each must have taken a byte of it.
_FEW_ROWS = 50_000
#: What one batch of rows may take, whatever they hold.
_BATCH_BYTES = 16 << 20
#: Entries of each list in a file's footer (columns, row groups): each is some hundred bytes in memory.
_MOST_ENTRIES = 100_000


def parquet_table(path: Path, place: str) -> Table:
    """A Parquet file, called ``place`` in sentences; only its footer is read before rows are asked for.

    Raises:
        DataError: If it is damaged, or would become far larger than it is.
    """
    import pyarrow
    import pyarrow.parquet

    unreadable = (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError)

    def damaged(error: BaseException) -> DataError:
        return DataError(f"{place} is not a whole Parquet file ({first_line(error)}); write or download it again.")

    try:
        file = pyarrow.parquet.ParquetFile(path, thrift_container_size_limit=_MOST_ENTRIES)
        schema, size = file.schema_arrow, path.stat().st_size
    except unreadable as error:
        raise damaged(error) from error
    if file.metadata.num_rows > max(_FEW_ROWS, size):
        raise _swells(place, f"{file.metadata.num_rows:,} rows")

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        allowed = max(_ALWAYS, _TIMES * size)
        try:
            groups = list(_first_groups(file.metadata, most))
            pages = list(pages_of(path, file.metadata, set(wanted), groups))
            _check_pages(place, pages, allowed)
            largest = max((page.size for page in pages), default=1)
            # No value is larger than the page it comes from, so this bounds a batch even where each row repeats one.
            count = min(1000, max(1, _BATCH_BYTES // max(1, largest)), most or 1000)
            batches = file.iter_batches(batch_size=count, row_groups=groups, columns=list(wanted), use_threads=False)
            yield from _rows_of(batches, wanted, place, allowed)
        except unreadable as error:
            raise damaged(error) from error

    opaque = {field.name: str(field.type) for field in schema if not _is_plain(field.type)}
    names = _embedded_names(schema.metadata or {})
    return Table(place, "row", tuple(schema.names), rows, names, opaque=opaque)


def _first_groups(metadata: Any, most: int | None) -> Iterator[int]:
    """The row groups that hold the first ``most`` rows, or all."""
    found = 0
    for group in range(metadata.num_row_groups):
        if most is not None and found >= most:
            return
        yield group
        found += metadata.row_group(group).num_rows


def _check_pages(place: str, pages: Sequence[Page], allowed: int) -> None:
    size = sum(page.size for page in pages)
    if size > allowed:
        raise _swells(place, f"{size >> 20:,} MB")


def _swells(place: str, what: str) -> DataError:
    return DataError(
        f"{place} would become {what} once it is unpacked, far more than its size allows; write the texts as CSV or "
        "JSONL, or give a part of them."
    )


def saved_table(data: Any, place: str, *, published: bool) -> Table:
    """One split (``datasets.Dataset``) of a hub or ``save_to_disk`` data set."""
    import datasets

    schema = data.data.schema
    opaque = {}
    for column, feature in data.features.items():
        # Both must be plain: a picture is declared over plain text that names a file.
        if not isinstance(feature, (datasets.Value, datasets.ClassLabel)):
            opaque[column] = _called(feature)
        elif not _is_plain(schema.field(column).type):
            opaque[column] = str(schema.field(column).type)

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        if data.num_rows > max(_FEW_ROWS, data.data.nbytes):
            raise _swells(place, f"{data.num_rows:,} rows")
        # Without a format: a data set saved "as torch" would import torch and yield tensors.
        plain = data.with_format("arrow").select_columns(list(wanted))
        try:
            # Arrow files are mapped into memory as they are: unchecked offsets of a damaged one crash the process.
            plain.data.validate(full=True)
            yield from _rows_of(plain.iter(batch_size=most or 1000), wanted, place, None)
        except DataError:
            raise
        except Exception as error:  # whatever the arrow files provoke below
            raise DataError(f"{place} is damaged ({first_line(error)}); save or download it again.") from error

    names = {
        column: tuple(feature.names)
        for column, feature in data.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return Table(place, "row", tuple(data.column_names), rows, names, published=published, opaque=opaque)


def _called(feature: object) -> str:
    """What a feature of a data set holds, in a word: ``Image``, ``List``."""
    return type(feature).__name__ if not isinstance(feature, (list, dict)) else "lists"


def _is_plain(kind: Any) -> bool:
    """Whether values of this Arrow type are single texts, numbers or truth values."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(_is_text(kind) or pa.types.is_primitive(kind) or pa.types.is_null(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _rows_of(batches: Iterable[Any], wanted: Sequence[str], place: str, allowed: int | None) -> Rows:
    """Rows of Arrow batches; ``allowed`` are the bytes that all their texts together may take."""
    number, taken = 0, 0
    for batch in batches:
        columns = []
        for name in wanted:
            column, lengths = _sized(batch.column(name))
            if lengths is not None:
                longest = max(lengths, default=0)
                if longest > LONGEST_VALUE:
                    row = number + lengths.index(longest) + 1
                    raise broken(place, "row", row, f"{name[:60]!r} is longer than {LONGEST_VALUE:,} bytes")
                taken += sum(lengths)
                if allowed is not None and taken > allowed:
                    raise _swells(place, f"more than {allowed >> 20:,} MB")
            columns.append(column.to_pylist())
        for cells in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(wanted, cells, strict=True))


def _sized(column: Any) -> tuple[Any, list[int] | None]:
    """A column, and the bytes of each of its values where they are texts."""
    import pyarrow as pa
    import pyarrow.compute as compute

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not _is_text(kind):
        return column, None
    column = column.cast(pa.large_string())
    return column, compute.fill_null(compute.binary_length(column), 0).to_pylist()


def _embedded_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Class names that the datasets library leaves in the schema of the files it writes."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # a courtesy of the writer: without it the integers stand for themselves
