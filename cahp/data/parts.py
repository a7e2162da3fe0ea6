"""The tables that data consist of, before anything is said of their columns: to look at, and to read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cahp.data.dataset import SPLITS, Dataset, assemble, canonical, divide
from cahp.data.rawsplit import LABEL_COLUMN, Columns, read_split, usual_columns
from cahp.data.table import Table, listed
from cahp.values import DataError, OptionError

#: Names that columns of labels often have, the likeliest first.
_LABELS = ("label", "labels", "class", "category", "target", "topic", "kind", "type", "sentiment", "intent", "tag", "y")
#: Parts that anybody would tell the splits of; a folder may hold any number of files.
MOST_PARTS = 20


@dataclass(frozen=True)
class Parts:
    """What data consist of: one table, whose rows are divided into splits, or a table for each split.

    ``tables`` opens each part by its name: a file's, or that of a published split. ``usual`` says which split a part
    serves as unless a person says otherwise (one that serves as none is not read), ``serving`` what is to be known of
    that. ``place`` names the whole in sentences.

    Example: ``{"train.csv": ..., "notes.csv": ...}``, of which ``{"train.csv": "train"}`` is usual.
    """

    name: str
    place: str
    tables: Mapping[str, Callable[[], Table]]
    usual: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    serving: tuple[str, ...] = ()
    divided: bool = False

    @classmethod
    def of_files(cls, name: str, place: str, files: Mapping[str, Callable[[], Table]]) -> Parts:
        """Of opened files by name, which say what they are."""
        usual = {file: split for file in files if (split := canonical(Path(file).stem)) in SPLITS}
        return cls(name, place, files, usual)

    def read(
        self,
        *,
        text_column: str | None = None,
        pair_column: str | None = None,
        label_column: str | None = None,
        splits: Mapping[str, str] | None = None,
    ) -> Dataset:
        """All rows, as the columns and the splits of the parts are named.

        Raises:
            DataError: If a part cannot be read, or nothing says which split it is.
            OptionError: If ``columns`` or ``splits`` name what is not there, or one thing twice.
        """
        columns, splits = Columns(text_column, pair_column, label_column), splits or {}
        if self.divided:
            if splits:
                raise OptionError(
                    f"{self.place} is one table, which is split by its column 'split' or by a hash of the text; leave "
                    "--splits out."
                )
            (table,) = self.tables.values()
            return assemble(self.name, divide(read_split(table(), columns, assigned=True), self.place), self.notices)
        chosen = self._chosen(splits)
        raws = {split: read_split(self.tables[part](), columns) for split, part in chosen.items()}
        return assemble(self.name, raws, self.notices if splits else (*self.notices, *self.serving))

    def _chosen(self, splits: Mapping[str, str]) -> dict[str, str]:
        """The part that serves as each split."""
        if not splits and not self.usual:
            example = shlex.quote(f"{next(iter(self.tables))}=train")
            raise DataError(
                f"Nothing in {self.place} is called train, validation or test, only {listed(self.tables)}; say which "
                f"is which with --splits {example}."
            )
        chosen: dict[str, str] = {}
        for part, said in (splits or self.usual).items():
            split = canonical(said) if splits else said
            if part not in self.tables:
                raise OptionError(
                    f"--splits names {part!r}, which {self.place} does not have, only {listed(self.tables)}."
                )
            if splits and split not in SPLITS:
                raise OptionError(f"--splits makes {part!r} the {said!r} split; choose one of {listed(SPLITS)}.")
            if split in chosen:
                raise DataError(
                    f"{chosen[split]} and {part} are both the {split} split of {self.place}; keep one of them, or say "
                    "which it is with --splits."
                )
            chosen[split] = part
        return chosen


# Guesses, for a person to look at and to correct ------------------------------------------------------------------


def guess_splits(parts: Parts) -> dict[str, str]:
    """Which split each part probably is, by the words in its name; the first one that is none is ``train``.

    Example: ``{"my_train.csv": "train", "reviews-dev.csv": "validation"}``
    """
    found: dict[str, str] = {}
    for part in parts.tables:
        words = [canonical(word) for word in re.split(r"[^a-z]+", part.lower())]
        split = next((word for word in (parts.usual.get(part), *words) if word in SPLITS), None)
        if split is not None and split not in found.values():
            found[part] = split
    rest = [part for part in parts.tables if part not in found]
    if "train" not in found.values() and rest:
        found = {rest[0]: "train", **found}
    return found


def guess_columns(names: Sequence[str], rows: Sequence[Mapping[str, str]], classes: Collection[str] = ()) -> Columns:
    """Which columns probably hold texts and labels.

    By their usual names; else the label is the column all of whose values in ``rows`` are among ``classes``, or one
    that is called like labels, or the last; and the text is the longest of the others.
    """
    usual = usual_columns(names)
    if usual is not None:
        return usual
    label = _guess_label(names, rows, {name.strip().casefold() for name in classes})
    usual = usual_columns(names, Columns(label=label))
    if usual is not None:
        return usual
    length = {name: sum(len(row.get(name, "")) for row in rows) for name in names if name != label}
    return Columns(max(length, key=length.__getitem__, default=label), None, label)


def _guess_label(names: Sequence[str], rows: Sequence[Mapping[str, str]], classes: Collection[str]) -> str:
    low = {name.lower(): name for name in reversed(names)}
    if LABEL_COLUMN in low:
        return low[LABEL_COLUMN]
    for name in names:
        values = {row.get(name, "").strip().casefold() for row in rows}
        if values and values <= set(classes):
            return name
    return next((low[usual] for usual in _LABELS if usual in low), names[-1])
