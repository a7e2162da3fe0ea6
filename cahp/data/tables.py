"""Tables with named columns, and how CSV, TSV, JSON lines and Parquet files become tables."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from cahp.values import DataError, Names
from cahp.words import counted, first_line, join_quoted

#: The position of a row (from 1) and its cells, of the wanted columns at least.
Rows = Iterator[tuple[int, Mapping[str, object]]]

#: The files of save_to_disk that list the splits, and the tables of one.
LISTING = "dataset_dict.json"
STATE = "state.json"
_MOST_COLUMNS = 10_000
#: The only column of a text file, and the unit of its rows.
TEXT = "text"
_PARAGRAPH = "paragraph"
#: Characters of a value: a novel has fewer, and no model reads more than the first few thousand.
LONGEST_VALUE = 1 << 22


@dataclass(frozen=True)
class RowTable:
    """Columns and rows of one file or one hub split; its rows can be read once.

    ``rows(wanted, most)`` yields the wanted columns of the first ``most`` rows (None: of all). ``place`` and ``unit``
    name a position in errors. ``class_names`` decodes columns of integer labels that have names. ``published`` marks
    data that its reader cannot correct. ``opaque`` maps columns that hold neither text nor numbers to what they hold.
    They are never read: decoding a picture or a sound may open other files, and one value of a nested column may be
    larger than the file.

    Raises:
        DataError: If two columns have the same name, or there are too many.
    """

    place: str
    unit: str
    columns: Names
    rows: Callable[[Sequence[str], int | None], Rows]
    class_names: Mapping[str, Names] = field(default_factory=dict)
    published: bool = False
    opaque: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.columns) > _MOST_COLUMNS:
            raise DataError(f"{self.place} has {len(self.columns)} columns; keep only those with texts and labels.")
        twice = sorted(name for name, count in Counter(self.columns).items() if count > 1)
        if twice:
            raise DataError(f"{self.place} has several columns {join_quoted(twice)}; rename or remove one.")

    def read(self, wanted: Sequence[str]) -> Rows:
        """Yield the wanted columns of all rows.

        Raises:
            DataError: If a column holds neither text nor numbers, or a row is damaged.
        """
        for name in wanted:
            if name in self.opaque:
                raise DataError(
                    f"The column {join_quoted([name])} of {self.place} holds {self.opaque[name]}, not text or numbers; "
                    "name another with --text-column or --label-column."
                )
        return self.rows(wanted, None)

    def preview(self, count: int) -> list[dict[str, str]]:
        """Return the first ``count`` rows as text, with a note in place of opaque columns.

        Raises:
            DataError: If one of them is damaged.
        """
        plain = [name for name in self.columns if name not in self.opaque]
        unread = {name: f"({content})" for name, content in self.opaque.items()}
        preview = []
        for number, row in islice(self.rows(plain, count), count if plain else 0):
            try:
                cells = {name: str(row.get(name, "")) for name in plain}
            except RecursionError as error:
                raise row_error(self.place, self.unit, number, "nested too deep") from error
            preview.append({**unread, **cells})
        return preview

    def by_line(self) -> RowTable:
        """Make every line of a text file a document; other tables stay as they are."""
        if self.unit != _PARAGRAPH:
            return self

        def rows(wanted: Sequence[str], most: int | None) -> Rows:
            lines = (line.strip() for _, row in self.rows(wanted, None) for line in str(row[TEXT]).split("\n"))
            return ((number, {TEXT: line}) for number, line in islice(enumerate(filter(None, lines), start=1), most))

        return replace(self, unit="line", rows=rows)


def row_error(place: str, unit: str, number: int, problem: str) -> DataError:
    """Make the error for one line or row of ``place``."""
    return DataError(f"{place}, {unit} {number}: {problem}; correct or remove that {unit}.")


# Files ---------------------------------------------------------------------------------------------------------


def read_table(path: Path, place: str | None = None) -> RowTable:
    """Open a file by its suffix; messages call it ``place``, by default its path.

    Raises:
        DataError: If the format is unknown, or the file is empty, damaged or not text.
    """
    suffix = path.suffix.lower()
    if place is None:
        place = str(path)
    if suffix in PICKLES:
        raise DataError(
            f"{place} is refused because loading {suffix} files can run any code; save the data as CSV, TSV, JSONL or "
            "Parquet."
        )
    if suffix not in READERS:
        raise DataError(f"The format of {place} is unknown; use one of {', '.join(READERS)}.")
    return READERS[suffix](path, place)


def _decode(path: Path, place: str) -> str:
    """Read a UTF-8 file, with or without BOM, without the line ends at its end."""
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
    if not text.strip():
        raise DataError(f"{place} is empty; it needs texts.")
    return text.rstrip("\r\n")


def _delimited(path: Path, place: str, *, delimiter: str, quoting: Any) -> RowTable:
    text = _decode(path, place)
    header = text.partition("\n")[0]
    if delimiter == "," and ";" in header and "," not in header:
        # Spreadsheets write semicolons where a comma is the decimal sign.
        delimiter = ";"

    def read_records() -> Iterator[tuple[int, list[str]]]:
        """Yield records with the line on which each begins, since a quoted field may span several lines."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        begin = 1
        # The library's own limit is lower, and another library may have changed it.
        csv.field_size_limit(LONGEST_VALUE)
        try:
            for cells in reader:
                yield begin, cells
                begin = reader.line_num + 1
        except csv.Error as error:
            problem = f"{first_line(error)} (a quotation mark that is not closed or not doubled?)"
            raise row_error(place, "line", begin, problem) from error

    records = read_records()
    columns = tuple(name.strip() for name in next(records)[1])

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        for line, cells in islice(records, most):
            if len(cells) != len(columns):
                fields = f"{counted(len(cells), 'field')} where the header has {len(columns)}"
                raise row_error(place, "line", line, fields)
            yield line, dict(zip(columns, cells, strict=True))

    return RowTable(place, "line", columns, rows)


#: Lines of JSON whose columns are collected before a file is read.
_LOOKED_AT = 10_000


def _json_lines(path: Path, place: str) -> RowTable:
    text = _decode(path, place)

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        # One by one: a list of short lines would take many times the memory of the text.
        lines = re.finditer("^.*", text, re.MULTILINE)
        for number, line in enumerate(islice(lines, most), start=1):
            if len(line[0]) > LONGEST_VALUE:
                raise row_error(place, "line", number, f"longer than {LONGEST_VALUE:,} characters")
            try:
                row = json.loads(line[0])
            except (ValueError, RecursionError) as error:
                raise row_error(place, "line", number, f"not JSON ({first_line(error)})") from error
            if not isinstance(row, dict):
                raise row_error(place, "line", number, "not a JSON object with one row")
            yield number, row

    # A writer may leave out what is empty, also in the first line.
    columns: dict[str, None] = {}
    for _, row in rows((), _LOOKED_AT):
        columns |= dict.fromkeys(row)
    return RowTable(place, "line", tuple(columns), rows)


def _text_file(path: Path, place: str) -> RowTable:
    """A document per paragraph; blank lines separate paragraphs."""
    text = _decode(path, place).replace("\r\n", "\n")

    def rows(wanted: Sequence[str], most: int | None) -> Rows:
        paragraphs = (one.strip() for one in re.split(r"\n[^\S\n]*(?=\n)", text) if one.strip())
        for number, paragraph in islice(enumerate(paragraphs, start=1), most):
            yield number, {TEXT: paragraph}

    return RowTable(place, _PARAGRAPH, (TEXT,), rows)


def _parquet(path: Path, place: str) -> RowTable:
    # Imported here because pyarrow takes long to import.
    from cahp.data.arrow import parquet_table

    return parquet_table(path, place)


READERS: Mapping[str, Callable[[Path, str], RowTable]] = {
    ".csv": partial(_delimited, delimiter=",", quoting=csv.QUOTE_MINIMAL),
    # Quotation marks have no meaning in TSV: many texts begin with one and never close it.
    ".tsv": partial(_delimited, delimiter="\t", quoting=csv.QUOTE_NONE),
    **dict.fromkeys((".txt", ".raw"), _text_file),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), _json_lines),
    ".parquet": _parquet,
}

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz")
