"""From the rows of a table to checked texts and labels: the only place that decides which rows are usable."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cahp.data.tables import RowTable, join_quoted, row_error
from cahp.tasks.texts import Texts
from cahp.values import DataError, OptionError

#: Names of text columns that need no option, in the order in which they are tried: a text and its pair, or a text.
TEXT_COLUMNS: tuple[tuple[str, str | None], ...] = (
    ("premise", "hypothesis"),
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text", None),
    ("sentence", None),
)
LABEL_COLUMN = "label"
#: Frequent names of label columns, the likeliest first.
LABEL_NAMES = (
    *(LABEL_COLUMN, "labels", "class", "category", "target", "topic"),
    *("kind", "type", "sentiment", "intent", "tag", "grade", "rating", "stars", "y"),
)
#: Stands for a label column where labels must not be read.
NO_LABELS = "(none)"
SPLIT_COLUMN = "split"

#: The label of rows without one in published test splits.
UNLABELLED = "-1"

# NUL ends strings in tokenizers, half a surrogate pair (JSON can write one) has no UTF-8 form.
_UNENCODABLE = re.compile("[\0\ud800-\udfff]")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Columns:
    """The columns that the user named; None stands for the default names."""

    text: str | None = None
    pair: str | None = None
    label: str | None = None


class RawSplit(NamedTuple):
    """Checked rows of one split, whose classes are the labels of the file (``"1.0"`` and 1 become ``"1"``).

    ``assigned`` is the split that the file assigns to each row, if it does.
    """

    texts: Texts
    assigned: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()


def make_texts(first: tuple[str, ...], second: tuple[str, ...] | None, labels: Sequence[str]) -> Texts:
    """Make texts whose classes are the different ``labels``, in the order in which they first occur."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return Texts(first, second, np.array([numbers[label] for label in labels], dtype=np.int64), tuple(numbers))


class _UnusableCell(Exception):
    """A cell cannot be used; the caller adds its position."""


def read_split(table: RowTable, columns: Columns, *, assigned: bool = False, documents: str = "paragraph") -> RawSplit:
    """Read all rows of a table, with the split column if they may be ``assigned`` by one.

    Without a label column all labels are ``UNLABELLED``; the column ``NO_LABELS`` is none. Rows without a text or label
    are left out of published data, with a notice, since the user cannot correct them; elsewhere they are errors.
    ``documents`` are the paragraphs of text files, or their lines (``"line"``).

    Raises:
        DataError: For unknown columns, and for the first row that cannot be used.
        OptionError: If a column is named twice.
    """
    if documents == "line":
        table = table.by_line()
    text, pair, label = _resolve(table, columns)
    wanted = [name for name in (text, pair, label) if name is not None]
    if len(set(wanted)) < len(wanted):
        raise OptionError(f"A column of {table.place} is used twice ({join_quoted(wanted)}); name different columns.")
    splits = (name for name in table.columns if assigned and name.lower() == SPLIT_COLUMN and name not in wanted)
    split = next(splits, None)
    if split is not None:
        wanted.append(split)
    names: Sequence[str] | None = None
    if label is not None:
        names = table.class_names.get(label)
    kept: list[list[str]] = [[] for _ in wanted]
    shared: dict[str, str] = {}
    left_out: list[int] = []
    number = 0
    for number, row in table.read(wanted):
        missing = [name for name in wanted if _is_missing(row.get(name))]
        unlabelled = label is not None and names is not None and row.get(label) == int(UNLABELLED)
        if unlabelled or (missing and table.published):
            left_out.append(number)
            continue
        if missing:
            raise row_error(table.place, table.unit, number, f"no {join_quoted(missing)}")
        try:
            cells = []
            for name in wanted:
                cell = _label(row[name], names) if name == label else _text(row[name], name)
                # A text or label that occurs again takes no further memory.
                cells.append(shared.setdefault(cell, cell))
        except _UnusableCell as error:
            raise row_error(table.place, table.unit, number, str(error)) from error
        for column, cell in zip(kept, cells, strict=True):
            column.append(cell)
    if not number:
        raise DataError(f"{table.place} has a header but no {table.unit}s of data; add texts.")
    cells_of = {name: tuple(column) for name, column in zip(wanted, kept, strict=True)}
    notices: tuple[str, ...] = ()
    if left_out and cells_of[text]:
        lost = f"{len(left_out)} rows without text or label were left out, row {left_out[0]} first"
        notices = (f"{table.place}: {lost}.",)
    second: tuple[str, ...] | None = None
    if pair is not None:
        second = cells_of[pair]
    labels = (UNLABELLED,) * len(cells_of[text])
    if label is not None:
        labels = cells_of[label]
    texts = make_texts(cells_of[text], second, labels)
    if split is None:
        return RawSplit(texts, None, notices)
    return RawSplit(texts, cells_of[split], notices)


def default_columns(names: Sequence[str], columns: Columns = Columns()) -> Columns | None:
    """Complete ``columns`` by the default names, or return None if the table has no columns of these names."""
    try:
        text, pair, label = _resolve(RowTable("", "row", tuple(names), lambda *_: iter(())), columns)
    except DataError:
        return None
    return Columns(text, pair, label)


def _resolve(table: RowTable, columns: Columns) -> tuple[str, str | None, str | None]:
    """Find the text, pair and label columns; the label is None if there is none, or labels are not wanted.

    A column whose name suggests labels is neither read nor ignored without being named.
    """
    have = f"its columns are {join_quoted(table.columns)}"
    labelled = columns.label != NO_LABELS
    label = columns.label
    if not labelled:
        label = None
    for name, option in ((columns.text, "text"), (columns.pair, "pair"), (label, "label")):
        if name is not None and name not in table.columns:
            raise DataError(f"{table.place} has no column {name!r} (--{option}-column); {have}.")
    present = {name.lower(): name for name in reversed(table.columns)}
    if labelled:
        label = label or present.get(LABEL_COLUMN)
    texts: tuple[str, str | None] | None
    if columns.text is not None:
        texts = (columns.text, columns.pair)
    else:
        free = {lower: name for lower, name in present.items() if name not in (label, columns.pair)}
        texts = _find_texts(free, columns.pair)
    likely = [present[name] for name in LABEL_NAMES if name in present and present[name] not in (texts or ())]
    if labelled and label is None and (likely or texts is None):
        # Everything that is missing at once, so that one correction is enough.
        also = ""
        if texts is None:
            also = " and the texts with --text-column"
        raise DataError(
            f"{table.place} has no column 'label'; {have}; name the label column with --label-column{also} "
            f'("{NO_LABELS}": there are no labels).'
        )
    if texts is None:
        raise DataError(
            f"{table.place} has no column 'text', nor 'premise' and 'hypothesis'; {have}; name the text column with "
            "--text-column and, for pairs, the second one with --pair-column."
        )
    return *texts, label


def _find_texts(names: Mapping[str, str], pair: str | None) -> tuple[str, str | None] | None:
    """Find text columns by their default names; ``names`` are by the same in lower case, ``pair`` is a named column."""
    for first, second in TEXT_COLUMNS:
        if first not in names:
            continue
        if pair is not None or second is None:
            return names[first], pair
        if second in names:
            return names[first], names[second]
    return None


def _is_missing(cell: object) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _text(cell: object, column: str) -> str:
    if not isinstance(cell, str):
        raise _UnusableCell(f"{column[:60]!r} holds {type(cell).__name__} where a text is needed")
    if _UNENCODABLE.search(cell):
        raise _UnusableCell(f"{column[:60]!r} holds a NUL or half of a surrogate pair")
    return cell


def _label(cell: object, names: Sequence[str] | None) -> str:
    """Return the name of a label: declared names for integers, trimmed strings, integers for whole floats."""
    if isinstance(cell, list | tuple | dict):
        raise _UnusableCell("several labels (multi-label data cannot be used)")
    if isinstance(cell, int) and names is not None:
        if not 0 <= cell < len(names):
            raise _UnusableCell(f"label {cell} is outside the {len(names)} classes that the data declares")
        cell = names[cell]
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float):
        name = str(cell)
    else:
        name = _text(cell, "label").strip()
        if not _FLOAT.fullmatch(name):
            return name
    if not float(name).is_integer():
        raise _UnusableCell(f"label {name[:60]} is a score, not a class (regression data cannot be used)")
    return str(int(float(name)))
