"""Every format as one thing: named columns, and rows that know the line they came from."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cahp.values import DataError

#: A position (1-based line or row) and the cells of at least the wanted columns.
Rows = Iterator[tuple[int, Mapping[str, object]]]


@dataclass(frozen=True)
class Table:
    """Columns and rows of one file or one hub split; ``rows(wanted)`` can be read once.

    ``place`` and ``unit`` name a position in errors, ``class_names`` decodes integer label columns that carry
    their names, ``published`` marks data that the person who reads it cannot correct.

    Raises:
        DataError: If two columns have one name.
    """

    place: str
    unit: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Rows]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    published: bool = False

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise DataError(f"{self.place} has more than one column {listed(twice)}; rename or remove one.")

    def broken(self, number: int, what: str) -> DataError:
        """The error for a row that cannot be used."""
        return _broken(self.place, self.unit, number, what)


def listed(names: Iterable[str], *, limit: int = 20) -> str:
    """Names quoted and joined for a sentence, the first ``limit`` of them."""
    quoted = [repr(name) if len(name) <= 60 else repr(name[:60]) + "..." for name in names]
    more = f", ... ({len(quoted)} in all)" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more if quoted else "none"


def read_table(path: Path) -> Table:
    """Open a file by its suffix.

    Raises:
        DataError: If the format is unknown, or the file is empty, damaged or not text.
    """
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise DataError(
            f"{path} is refused: what loads such a file can run any code in it; save the data as CSV, TSV, "
            "JSONL or Parquet."
        )
    if suffix not in READERS:
        raise DataError(f"The format of {path} is unknown; use one of {', '.join(READERS)}.")
    return READERS[suffix](path)


def arrow_table(data: Any, place: str, *, published: bool) -> Table:
    """One split (``datasets.Dataset``) of a hub or ``save_to_disk`` data set."""
    import datasets

    def rows(wanted: Sequence[str]) -> Rows:
        # Without a format: a data set saved "as torch" would import torch and yield tensors.
        plain = data.with_format(None).select_columns(list(wanted))
        try:
            # Arrow files are mapped into memory as they are: unchecked offsets of a damaged one crash the process.
            plain.data.validate(full=True)
            columns = ([batch[name] for name in wanted] for batch in plain.iter(batch_size=1000))
            yield from _rows_of(columns, wanted)
        except Exception as error:  # whatever the arrow files provoke below
            raise DataError(f"{place} is damaged ({first_line(error)}); save or download it again.") from error

    names = {
        column: tuple(feature.names)
        for column, feature in data.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return Table(place, "row", tuple(data.column_names), rows, names, published=published)


def first_line(error: BaseException) -> str:
    """The first line of a library's error, short enough for a sentence."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return line[:200].rstrip(" .:")


def _broken(place: str, unit: str, number: int, what: str) -> DataError:
    return DataError(f"{place}, {unit} {number}: {what}; correct or remove that {unit}.")


def _decode(path: Path) -> str:
    """The text of a UTF-8 file, with or without BOM, without line ends at its end."""
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x}"
        raise DataError(f"{path}, line {line}: not UTF-8 ({byte}); save the file as UTF-8 text.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: a NUL byte; save the file as UTF-8 text.")
    text = text.rstrip("\r\n")
    if not text.strip():
        raise DataError(f"{path} is empty; it needs a text and a label column.")
    return text


def _records(lines: Iterable[str], place: str, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    """Records with the line on which each begins: a quoted field may span several."""
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    begin = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = f"{first_line(error)} (a quotation mark that is not closed or not doubled?)"
            raise _broken(place, "line", begin, what) from error
        yield begin, cells
        begin = reader.line_num + 1


def _delimited(path: Path, text: str, delimiter: str, quoting: Any, notices: tuple[str, ...] = ()) -> Table:
    place = str(path)
    records = _records(io.StringIO(text, newline=""), place, delimiter, quoting)
    columns = tuple(name.strip() for name in next(records)[1])

    def rows(wanted: Sequence[str]) -> Rows:
        for line, cells in records:
            if len(cells) != len(columns):
                fields = f"{len(cells)} field{'s' * (len(cells) != 1)} where the header has {len(columns)}"
                raise _broken(place, "line", line, fields)
            yield line, dict(zip(columns, cells, strict=True))

    return Table(place, "line", columns, rows, notices=notices)


def _csv(path: Path) -> Table:
    return _delimited(path, _decode(path), ",", csv.QUOTE_MINIMAL)


# A field as CSV writers quote it: in quotes, with quotes doubled inside.
_QUOTED = re.compile(r'(?:^|\t)"[^\t\n]*""[^\t\n]*"(?=[\t\r\n]|$)', re.MULTILINE)


def _tsv(path: Path) -> Table:
    # Quotation marks mean nothing in TSV: corpora are full of texts that begin with one and never close it.
    text = _decode(path)
    quoted = sum(1 for _ in _QUOTED.finditer(text)) if '""' in text else 0
    notice = f"{path}: {quoted} fields look quoted, but quotes are kept as text in TSV; save it as CSV if they are."
    return _delimited(path, text, "\t", csv.QUOTE_NONE, (notice,) if quoted else ())


def _json_lines(path: Path) -> Table:
    place, lines = str(path), _decode(path).split("\n")

    def parsed(number: int, line: str) -> Mapping[str, object]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _broken(place, "line", number, f"not JSON ({first_line(error)})") from error
        if not isinstance(row, dict):
            raise _broken(place, "line", number, "not a JSON object with one row")
        return row

    def rows(wanted: Sequence[str]) -> Rows:
        for number, line in enumerate(lines, start=1):
            yield number, parsed(number, line)

    return Table(place, "line", tuple(parsed(1, lines[0])), rows)


def _parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    unreadable = (pyarrow.ArrowException, OSError, ValueError, OverflowError)

    def damaged(error: BaseException) -> DataError:
        return DataError(f"{path} is not a whole Parquet file ({first_line(error)}); write or download it again.")

    try:
        file = pyarrow.parquet.ParquetFile(path)
        schema = file.schema_arrow
    except unreadable as error:
        raise damaged(error) from error

    def rows(wanted: Sequence[str]) -> Rows:
        try:
            batches = file.iter_batches(columns=list(wanted))
            yield from _rows_of(([batch.column(name).to_pylist() for name in wanted] for batch in batches), wanted)
        except unreadable as error:
            raise damaged(error) from error

    return Table(str(path), "row", tuple(schema.names), rows, _embedded_names(schema.metadata or {}))


def _rows_of(batches: Iterable[list[list[object]]], wanted: Sequence[str]) -> Rows:
    number = 0
    for columns in batches:
        for cells in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(wanted, cells, strict=True))


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


READERS: Mapping[str, Callable[[Path], Table]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".parquet": _parquet,
}

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz")
