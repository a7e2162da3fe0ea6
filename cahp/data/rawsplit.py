"""From the rows of a table to checked texts and labels: the one place that decides what a usable row is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cahp.data.table import Table, listed
from cahp.values import DataError, OptionError

#: Text columns recognised without an option, tried in this order: a text and its pair, or a text alone.
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
SPLIT_COLUMN = "split"

#: The label of rows without one in published test splits.
UNLABELLED = "-1"

# NUL ends strings in tokenizers, half a surrogate pair (JSON can write one) has no UTF-8 form.
_UNENCODABLE = re.compile("[\0\ud800-\udfff]")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Columns:
    """The columns a person named; None means the usual names."""

    text: str | None = None
    pair: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class RawSplit:
    """Checked rows of one split, with labels still as the file wrote them (``"1.0"`` and 1 are ``"1"``).

    ``second`` is None for single texts; ``assigned`` is the split that the file names for each row, if it does.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: tuple[str, ...]
    assigned: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.first)

    @property
    def inputs(self) -> Iterator[tuple[str, ...]]:
        """Each row's text, or text and pair."""
        return zip(self.first, strict=True) if self.second is None else zip(self.first, self.second, strict=True)

    def take(self, rows: Sequence[int]) -> RawSplit:
        """The given rows, in the given order; they are assigned now."""
        second = None if self.second is None else tuple(self.second[row] for row in rows)
        first, labels = tuple(self.first[row] for row in rows), tuple(self.labels[row] for row in rows)
        return RawSplit(first, second, labels, notices=self.notices)


class _Unusable(Exception):
    """What is wrong with a cell; the caller knows where it is."""


def read_split(table: Table, columns: Columns, *, assigned: bool = False, labelled: bool = True) -> RawSplit:
    """All rows of a table; with ``assigned`` the split column, if there is one, is read too.

    Unless they are ``labelled``, no label is looked for or read, and all are ``UNLABELLED``.

    Rows of published data that lack a text or label are left out with a notice, since their reader cannot
    correct them; anywhere else they are refused.

    Raises:
        DataError: For unknown columns, and for the first row that cannot be used.
        OptionError: If one column would serve twice.
    """
    text, pair, label = _resolve(table, columns, labelled)
    wanted = [name for name in (text, pair, label) if name is not None]
    if len(set(wanted)) < len(wanted):
        raise OptionError(f"One column of {table.place} cannot serve twice ({listed(wanted)}); name different ones.")
    splits = (name for name in table.columns if assigned and name.lower() == SPLIT_COLUMN and name not in wanted)
    split = next(splits, None)
    if split is not None:
        wanted.append(split)
    names = None if label is None else table.class_names.get(label)
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
            raise table.broken(number, f"no {listed(missing)}")
        try:
            cells = [_label(row[name], names) if name == label else _text(row[name], name) for name in wanted]
        except _Unusable as error:
            raise table.broken(number, str(error)) from error
        for column, cell in zip(kept, cells, strict=True):
            # A text or label that occurs again is kept once.
            column.append(shared.setdefault(cell, cell))
    if not number:
        raise DataError(f"{table.place} has columns but no {table.unit}s of data; add labelled texts.")
    found = {name: tuple(column) for name, column in zip(wanted, kept, strict=True)}
    notices = table.notices
    if left_out and found[text]:
        lost = f"{len(left_out)} rows without text or label were left out, row {left_out[0]} first"
        notices += (f"{table.place}: {lost}.",)
    return RawSplit(
        found[text],
        None if pair is None else found[pair],
        (UNLABELLED,) * len(found[text]) if label is None else found[label],
        None if split is None else found[split],
        notices,
    )


def usual_columns(names: Sequence[str], columns: Columns = Columns()) -> Columns | None:
    """The columns that are read where ``columns`` leave any to their usual names (None: those are not there)."""
    try:
        text, pair, label = _resolve(Table("", "row", tuple(names), lambda *_: iter(())), columns, labelled=True)
    except DataError:
        return None
    return Columns(text, pair, label)


def _resolve(table: Table, columns: Columns, labelled: bool) -> tuple[str, str | None, str | None]:
    """Names of the text, pair and label column (None: no labels are asked for) as the table writes them."""
    have = f"its columns are {listed(table.columns)}"
    label = columns.label if labelled else None
    for name, option in ((columns.text, "text"), (columns.pair, "pair"), (label, "label")):
        if name is not None and name not in table.columns:
            raise DataError(f"{table.place} has no column {name!r} (--{option}-column); {have}.")
    present = {name.lower(): name for name in reversed(table.columns)}
    if labelled:
        label = label or present.get(LABEL_COLUMN)
    free = {usual: name for usual, name in present.items() if name not in (label, columns.pair)}
    texts = (columns.text, columns.pair) if columns.text is not None else _usual_texts(free, columns.pair)
    if labelled and label is None:
        # All that is missing at once: nobody should have to try twice.
        also = "" if texts is not None else ", and that of the texts with --text-column"
        raise DataError(f"{table.place} has no column 'label'; {have}: name the right one with --label-column{also}.")
    if texts is None:
        raise DataError(
            f"{table.place} has no column 'text', nor 'premise' and 'hypothesis'; {have}: "
            "name the right ones with --text-column and, for pairs, --pair-column."
        )
    return *texts, label


def _usual_texts(present: Mapping[str, str], paired: str | None) -> tuple[str, str | None] | None:
    """The columns of texts and pairs among those ``present`` (by their names in lower case); ``paired`` is named."""
    for text, pair in TEXT_COLUMNS:
        if text in present and paired is not None:
            return present[text], paired
        if text in present and (pair is None or pair in present):
            return present[text], None if pair is None else present[pair]
    return None


def _is_missing(cell: object) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _text(cell: object, column: str) -> str:
    if not isinstance(cell, str):
        raise _Unusable(f"{column[:60]!r} is not a text but {type(cell).__name__}")
    if _UNENCODABLE.search(cell):
        raise _Unusable(f"{column[:60]!r} holds a NUL or half of a surrogate pair")
    return cell


def _label(cell: object, names: Sequence[str] | None) -> str:
    """A label's name: declared names and integers by value, strings trimmed, whole floats as integers."""
    if isinstance(cell, list | tuple | dict):
        raise _Unusable("more than one label (multi-label data has no one class for each text)")
    if isinstance(cell, int) and names is not None:
        if not 0 <= cell < len(names):
            raise _Unusable(f"label {cell} is outside the {len(names)} classes that the data declares")
        cell = names[cell]
    if isinstance(cell, int):
        return str(cell)
    name = str(cell) if isinstance(cell, float) else _text(cell, "label").strip()
    if not isinstance(cell, float) and not _FLOAT.fullmatch(name):
        return name
    if not float(name).is_integer():
        raise _Unusable(f"label {name[:60]} is a score and not a class (regression data cannot be used)")
    return str(int(float(name)))
