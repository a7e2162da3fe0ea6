"""Files as tables: CSV, TSV and JSON lines are read here, Parquet in ``cahp.data.arrow``."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cahp.data.table import LONGEST_VALUE, Rows, Table, broken, first_line
from cahp.values import DataError


def read_table(path: Path, place: str | None = None) -> Table:
    """Open a file by its suffix; ``place`` is what it is called in sentences, by default its path.

    Raises:
        DataError: If the format is unknown, or the file is empty, damaged or not text.
    """
    suffix, place = path.suffix.lower(), str(path) if place is None else place
    if suffix in PICKLES:
        raise DataError(
            f"{place} is refused: what loads such a file can run any code in it; save the data as CSV, TSV, "
            "JSONL or Parquet."
        )
    if suffix not in READERS:
        raise DataError(f"The format of {place} is unknown; use one of {', '.join(READERS)}.")
    return READERS[suffix](path, place)


def _decode(path: Path, place: str) -> str:
    """The text of a UTF-8 file, with or without BOM, without line ends at its end."""
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror}); check its permissions.") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x}"
        raise DataError(f"{place}, line {line}: not UTF-8 ({byte}); save the file as UTF-8 text.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{place}, line {line}: a NUL byte; save the file as UTF-8 text.")
    text = text.rstrip("\r\n")
    if not text.strip():
        raise DataError(f"{place} is empty; it needs a text and a label column.")
    return text


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, one after the other: a list of all would take many times the room of a short-lined file."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


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
            raise broken(place, "line", begin, what) from error
        yield begin, cells
        begin = reader.line_num + 1


def _delimited(place: str, text: str, delimiter: str, quoting: Any, notices: tuple[str, ...] = ()) -> Table:
    records = _records(io.StringIO(text, newline=""), place, delimiter, quoting)
    columns = tuple(name.strip() for name in next(records)[1])

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        for line, cells in islice(records, most):
            if len(cells) != len(columns):
                fields = f"{len(cells)} field{'s' * (len(cells) != 1)} where the header has {len(columns)}"
                raise broken(place, "line", line, fields)
            yield line, dict(zip(columns, cells, strict=True))

    return Table(place, "line", columns, rows, notices=notices)


def _csv(path: Path, place: str) -> Table:
    return _delimited(place, _decode(path, place), ",", csv.QUOTE_MINIMAL)


def _tsv(path: Path, place: str) -> Table:
    # Quotation marks mean nothing in TSV: corpora are full of texts that begin with one and never close it.
    text = _decode(path, place)
    quoted = 0
    if '""' in text:
        quoted = sum(_looks_quoted(cell) for line in _lines(text) if '""' in line for cell in line.split("\t"))
    notice = f"{place}: {quoted} fields look quoted, but quotes are kept as text in TSV; save it as CSV if they are."
    return _delimited(place, text, "\t", csv.QUOTE_NONE, (notice,) if quoted else ())


def _looks_quoted(cell: str) -> bool:
    """Whether a field is as CSV writers quote it: in quotes, with quotes doubled inside.

    Not a regular expression, which would try every way to pair up the quotes of a field that has thousands.
    """
    inside = cell.removesuffix("\r")
    return len(inside) > 3 and inside[0] == inside[-1] == '"' and '""' in inside[1:-1]


def _json_lines(path: Path, place: str) -> Table:
    text = _decode(path, place)

    def parsed(number: int, line: str) -> Mapping[str, object]:
        if len(line) > LONGEST_VALUE:
            raise broken(place, "line", number, f"longer than {LONGEST_VALUE:,} characters")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise broken(place, "line", number, f"not JSON ({first_line(error)})") from error
        if not isinstance(row, dict):
            raise broken(place, "line", number, "not a JSON object with one row")
        return row

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        for number, line in enumerate(islice(_lines(text), most), start=1):
            yield number, parsed(number, line)

    return Table(place, "line", tuple(parsed(1, next(_lines(text)))), rows)


def _parquet(path: Path, place: str) -> Table:
    from cahp.data.arrow import parquet_table

    return parquet_table(path, place)


READERS: Mapping[str, Callable[[Path, str], Table]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".parquet": _parquet,
}

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz")
