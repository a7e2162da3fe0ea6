"""The tables of a data set, to look at before their columns and splits are known, and to read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cahp.data.dataset import SPLITS, Dataset, assemble, canonical, divide
from cahp.data.rows import (
    LABEL_COLUMN,
    LABEL_NAMES,
    NO_LABELS,
    Columns,
    default_columns,
    read_split,
)
from cahp.data.tables import RowTable, join_quoted
from cahp.values import DataError, OptionError

#: The most parts whose splits a form asks for; a folder may hold any number of files.
MOST_PARTS = 20


@dataclass(frozen=True)
class Parts:
    """One table, whose rows are divided into splits, or a table for each split.

    ``tables`` opens each part by the name of its file or published split. ``splits`` maps parts to the splits that they
    serve as by default; other parts are not read. ``split_notices`` explain these defaults. ``place`` names the data in
    messages.

    Example: ``tables`` of ``train.csv`` and ``notes.csv`` have the ``splits`` ``{"train.csv": "train"}``.
    """

    name: str
    place: str
    tables: Mapping[str, Callable[[], RowTable]]
    splits: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    split_notices: tuple[str, ...] = ()
    divided: bool = False

    @classmethod
    def of_files(cls, name: str, place: str, files: Mapping[str, Callable[[], RowTable]]) -> Parts:
        """Make parts of files, whose names tell their splits."""
        splits = {file: split for file in files if (split := canonical(Path(file).stem)) in SPLITS}
        return cls(name, place, files, splits)

    def read(
        self,
        *,
        text_column: str | None = None,
        pair_column: str | None = None,
        label_column: str | None = None,
        splits: Mapping[str, str] | None = None,
        documents: str = "paragraph",
    ) -> Dataset:
        """Read all rows by the named columns; other columns are found by the names in ``cahp.data.rows``.

        ``splits`` maps files of a folder, or published splits, to train, validation and test; other parts are left out.
        The documents of a text file are its paragraphs, or its lines (``documents="line"``).

        Raises:
            DataError: If a part cannot be read, or no split is known.
            OptionError: If ``splits`` or a column name something missing, or something twice.
        """
        columns = Columns(text_column, pair_column, label_column)
        if self.divided:
            if splits:
                raise OptionError(
                    f"{self.place} is a single table, which is split by its column 'split' or by a hash of the text; "
                    "leave out --splits."
                )
            (table,) = self.tables.values()
            raw = read_split(table(), columns, assigned=True, documents=documents)
            return assemble(self.name, divide(raw, self.place), self.notices)
        if not splits and not self.splits:
            example = shlex.quote(f"{next(iter(self.tables))}=train")
            raise DataError(
                f"{self.place} has no part called train, validation or test, only {join_quoted(self.tables)}; name the "
                f"splits, as in --splits {example}."
            )
        notices = self.notices
        wanted = {part: canonical(split) for part, split in (splits or {}).items()}
        if not splits:
            notices = (*notices, *self.split_notices)
            wanted = dict(self.splits)
        chosen: dict[str, str] = {}
        for part, split in wanted.items():
            if part not in self.tables:
                raise OptionError(
                    f"--splits names {part!r}, but {self.place} has {join_quoted(self.tables)}; name one of these."
                )
            if splits and split not in SPLITS:
                raise OptionError(
                    f"--splits has the unknown split {splits[part]!r} for {part!r}; use one of {join_quoted(SPLITS)}."
                )
            if split in chosen:
                raise DataError(
                    f"{chosen[split]} and {part} are both the {split} split of {self.place}; remove one, or name the "
                    "splits with --splits."
                )
            chosen[split] = part
        raws = {}
        for split, part in chosen.items():
            opened = self.tables[part]()
            wanted_columns = columns
            names = [name.lower() for name in opened.columns]
            if split == "test" and (label_column or LABEL_COLUMN).lower() not in names:
                # Published test splits often have no labels; a split without any is left out, unless all have none.
                wanted_columns = replace(columns, label=NO_LABELS)
            raws[split] = read_split(opened, wanted_columns, documents=documents)
        return assemble(self.name, raws, notices)


# Guesses, which the user can check and correct ---------------------------------------------------------------------


def guess_splits(parts: Parts) -> dict[str, str]:
    """Guess the split of each part by the words in its name; the first of the others is ``train`` if that is missing.

    Example: ``{"my_train.csv": "train", "reviews-dev.csv": "validation"}``
    """
    splits: dict[str, str] = {}
    for part in parts.tables:
        words = [canonical(word) for word in re.split(r"[^a-z]+", part.lower())]
        split = next((word for word in (parts.splits.get(part), *words) if word in SPLITS), None)
        if split is not None and split not in splits.values():
            splits[part] = split
    rest = [part for part in parts.tables if part not in splits]
    if "train" not in splits.values() and rest:
        splits = {rest[0]: "train", **splits}
    return splits


def guess_columns(names: Sequence[str], rows: Sequence[Mapping[str, str]], classes: Collection[str] = ()) -> Columns:
    """Guess which columns hold texts and labels.

    Without default names, the label is the column all of whose values in ``rows`` are among ``classes``, or one with a
    frequent name of label columns, or the last one unless it is the longest, or has another value in each row; else
    there are none (``NO_LABELS``). The text is the longest of the others.
    """
    columns = default_columns(names)
    if columns is not None and columns.label is not None:
        return columns
    known = {name.strip().casefold() for name in classes}
    lower = {name.lower(): name for name in reversed(names)}
    values = {}
    length = {}
    for name in names:
        cells = [row.get(name, "") for row in rows]
        values[name] = {cell.strip().casefold() for cell in cells}
        length[name] = sum(map(len, cells))
    by_value = next((name for name in names if values[name] and values[name] <= known), None)
    if columns is not None and by_value is None:
        return Columns(columns.text, columns.pair, NO_LABELS)
    by_name = next((lower[label] for label in LABEL_NAMES if label in lower), None)
    by_place = names[-1]
    all_different = len(rows) > 1 and len(values[by_place]) == len(rows)
    if all_different or by_place == max(length, key=length.__getitem__):
        by_place = NO_LABELS
    label = lower.get(LABEL_COLUMN) or by_value or by_name or by_place
    columns = default_columns(names, Columns(label=label))
    if columns is not None:
        return columns
    texts = [name for name in names if name != label]
    return Columns(max(texts, key=length.__getitem__, default=label), None, label)
