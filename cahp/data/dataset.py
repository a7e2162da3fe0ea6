"""Data sets: splits and classes that do not change between runs, samples of them, and labels in a model's order."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from cahp.data.tables import RowTable, row_error
from cahp.tasks.answers import NO_LABEL
from cahp.tasks.texts import Texts
from cahp.values import DataError, Ints, Names, Notices, OptionError, digest
from cahp.words import join_quoted

#: Names of text columns that need no option, in the order in which they are tried: a text and its pair, or a text.
TEXT_COLUMNS = (
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
    LABEL_COLUMN,
    "labels",
    "class",
    "category",
    "target",
    "topic",
    "kind",
    "type",
    "sentiment",
    "intent",
    "tag",
    "grade",
    "rating",
    "stars",
    "y",
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
    assigned: Names | None = None
    notices: Notices = ()


def make_texts(first: Sequence[str], second: Sequence[str] | None, labels: Sequence[str]) -> Texts:
    """Make texts whose classes are the different ``labels``, in the order in which they first occur."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    if second is not None:
        second = tuple(second)
    codes = np.array([numbers[label] for label in labels], dtype=np.int64)
    return Texts(tuple(first), second, codes, tuple(numbers))


def read_split(table: RowTable, columns: Columns, *, assigned: bool = False, documents: str) -> RawSplit:
    """Read all rows of a table, with the split column if they may be ``assigned`` by one.

    Without a label column all labels are ``UNLABELLED``; the column ``NO_LABELS`` is none. Rows without a text or label
    are left out of published data, with a notice, since the user cannot correct them; elsewhere they are errors.
    ``documents`` are the paragraphs of text files, or their lines (``"line"``).

    Raises:
        DataError: For unknown columns, and for the first row that cannot be used.
    """
    if documents == "line":
        table = table.by_line()
    used = find_columns(table.columns, columns)
    wanted = [name for name in (used.text, used.pair, used.label) if name not in (None, NO_LABELS)]
    have = f"its columns are {join_quoted(table.columns)}"
    unknown = [name for name in wanted if name not in table.columns]
    if unknown:
        raise DataError(
            f"{table.place} has no column {unknown[0]!r}; {have}; name others with --text-column, --pair-column and "
            "--label-column."
        )
    if used.text is None or used.label is None:
        missing = LABEL_COLUMN
        if used.text is None:
            missing = "text"
        raise DataError(
            f"{table.place} has no column {missing!r}; {have}; name the columns with --text-column (pairs: also "
            f'--pair-column) and --label-column ("{NO_LABELS}": there are no labels).'
        )
    if len(set(wanted)) < len(wanted):
        raise DataError(f"A column of {table.place} is used twice ({join_quoted(wanted)}); name different columns.")
    divided_by: list[str] = []
    if assigned:
        divided_by = [name for name in table.columns if name.lower() == SPLIT_COLUMN and name not in wanted][:1]
    wanted += divided_by
    names = table.class_names.get(used.label)
    kept: dict[str, list[str]] = {name: [] for name in wanted}
    shared: dict[str, str] = {}
    left_out = []
    number = 0
    for number, row in table.read(wanted):
        missing_cells = [name for name in wanted if _is_missing(row.get(name))]
        unlabelled = names is not None and row.get(used.label) == int(UNLABELLED)
        if unlabelled or (missing_cells and table.published):
            left_out.append(number)
            continue
        if missing_cells:
            raise row_error(table.place, table.unit, number, f"no {join_quoted(missing_cells)}")
        for name in wanted:
            try:
                cell = _label(row[name], names) if name == used.label else _text(row[name], name)
            except (TypeError, ValueError) as error:
                raise row_error(table.place, table.unit, number, str(error)) from error
            # A text or label that occurs again takes no further memory.
            kept[name].append(shared.setdefault(cell, cell))
    if not number:
        raise DataError(f"{table.place} has a header but no {table.unit}s of data; add texts.")
    first = kept[used.text]
    notices: Notices = ()
    if left_out and first:
        lost = f"{len(left_out)} rows without text or label were left out, row {left_out[0]} first"
        notices = (f"{table.place}: {lost}.",)
    texts = make_texts(first, kept.get(used.pair or ""), kept.get(used.label, [UNLABELLED] * len(first)))
    if divided_by:
        return RawSplit(texts, tuple(kept[divided_by[0]]), notices)
    return RawSplit(texts, None, notices)


def find_columns(names: Sequence[str], named: Columns = Columns()) -> Columns:
    """Complete the ``named`` columns by default names.

    The text is None if there is no column of a default name. The label is ``NO_LABELS`` if no column has a name of
    label columns, and None if one has: it is neither read nor ignored without being named.
    """
    present = {name.lower(): name for name in reversed(names)}
    label = named.label or present.get(LABEL_COLUMN)
    found = replace(named, label=label)
    free = [lower for lower, name in present.items() if name not in (label, named.pair)]
    for first, second in TEXT_COLUMNS:
        if found.text is None and first in free and (second is None or second in free or named.pair is not None):
            found = replace(found, text=present[first])
            if second is not None and named.pair is None:
                found = replace(found, pair=present[second])
    likely = [name for name in LABEL_NAMES if present.get(name) not in (None, found.text, found.pair)]
    if label is None and not likely:
        return replace(found, label=NO_LABELS)
    return found


def _is_missing(cell: object) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _text(cell: object, column: str) -> str:
    if not isinstance(cell, str):
        raise TypeError(f"{column[:60]!r} holds {type(cell).__name__} where a text is needed")
    if _UNENCODABLE.search(cell):
        raise ValueError(f"{column[:60]!r} holds a NUL or half of a surrogate pair")
    return cell


def _label(cell: object, names: Sequence[str] | None) -> str:
    """Return the name of a label: declared names for integers, trimmed strings, integers for whole floats."""
    if isinstance(cell, list | tuple | dict):
        raise TypeError("several labels (multi-label data cannot be used)")
    if isinstance(cell, int) and names is not None:
        if not 0 <= cell < len(names):
            raise ValueError(f"label {cell} is outside the {len(names)} classes that the data declares")
        cell = names[cell]
    if isinstance(cell, int | float):
        cell = str(cell)
    name = _text(cell, "label").strip()
    if not _FLOAT.fullmatch(name):
        return name
    if not float(name).is_integer():
        raise ValueError(f"label {name[:60]} is a score, not a class (regression data cannot be used)")
    return str(int(float(name)))


# Data sets ------------------------------------------------------------------------------------------------------------

#: Other names of the three splits.
ALIASES = {
    "training": "train",
    **dict.fromkeys(("dev", "val", "valid", "validation_matched", "dev_matched"), "validation"),
}
SPLITS = ("train", "validation", "test")

#: A column with more different labels holds something else.
_MOST_CLASSES = 10_000

#: Texts without labels that choose heads and hold one out for a refit, at least.
_LEAST_TRAIN = 5
#: How many texts are enough of all that a hash divides: with 30, one file in 130 has no text to evaluate on.
_ENOUGH_TEXTS = 30

#: The end of each split among the hundred buckets of the hash: 70/15/15.
_ENDS = {"train": 70, "validation": 85, "test": 100}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Texts by split, all with the same ``classes``; no split is empty.

    ``classes`` are the label names of the data (integers by value, strings sorted; none without labels) until ``match``
    puts them into the order of a model. ``notices`` are sentences that the user should read before trusting a result.
    ``whole_test`` is the digest of the test split that the items were made of (None: of the one in ``splits``).
    """

    id: str
    splits: Mapping[str, Texts]
    classes: Names
    notices: Notices
    whole_test: str | None = None

    @property
    def labelled(self) -> bool:
        """Whether the texts have labels."""
        return all(texts.labelled for texts in self.splits.values())

    @property
    def pairs(self) -> bool:
        """Whether each input is a pair of texts."""
        return any(texts.second is not None for texts in self.splits.values())

    @cached_property
    def sha256(self) -> str:
        """Digest of all splits, each with its texts and labels."""
        return digest(*(f"{split}-{texts.sha256}" for split, texts in self.splits.items()))

    @property
    def test_sha256(self) -> str:
        """Digest of the texts of the test split, however they are cut or labelled (empty: there is none)."""
        if self.whole_test is not None:
            return self.whole_test
        if "test" not in self.splits:
            return ""
        return digest(json.dumps(self.splits["test"].plain_inputs))

    def split(self, name: str) -> Texts:
        """Return the texts of one split.

        Raises:
            DataError: If the data has no such split.
        """
        if name not in self.splits:
            raise DataError(f"{self.id} has no split {name!r}; choose one of {join_quoted(self.splits)}.")
        return self.splits[name]


def canonical(name: str) -> str:
    """Return the standard name of a split: ``dev``, ``val`` and ``valid`` are ``validation``."""
    name = name.strip().lower()
    return ALIASES.get(name, name)


def bucket(*texts: str) -> int:
    """Hash a text (and its pair) to 0..99, so that no text changes its split when others are added or removed."""
    return int(digest(*texts)[:16], 16) % 100


def divide(raw: RawSplit, place: str) -> dict[str, RawSplit]:
    """Divide the rows of a file by its split column; without one, all are ``train``.

    Raises:
        DataError: If a row names another split than train, validation or test.
    """
    if raw.assigned is None:
        return {"train": raw}
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for row, name in enumerate(raw.assigned):
        if canonical(name) not in SPLITS:
            known = join_quoted(SPLITS)
            raise DataError(f"The split column of {place} holds {join_quoted([name])}; it may hold {known}.")
        rows[canonical(name)].append(row)
    return {split: raw._replace(texts=raw.texts.take(chosen)) for split, chosen in rows.items() if chosen}


def assemble(name: str, raws: Mapping[str, RawSplit], notices: Iterable[str] = ()) -> Dataset:
    """Make a data set of splits: number the labels, set missing splits aside, and collect notices.

    If no split has labels, the data have none.

    Raises:
        DataError: If there is only one class, there are too few texts without labels, or pairs in some splits only.
    """
    # Splits of the same file have the same notices.
    all_notices = [*notices, *dict.fromkeys(notice for raw in raws.values() for notice in raw.notices)]
    used: dict[str, set[str]] = {}
    for split, raw in raws.items():
        used[split] = {raw.texts.classes[label] for label in np.unique(raw.texts.labels)}
    # A split without labels is left out, unless no other has some.
    read = [split for split in raws if used[split] - {UNLABELLED}] or list(raws)
    all_notices += [f"{split} has no labels and was left out." for split in raws if split not in read]
    if len({raws[split].texts.second is None for split in read}) > 1:
        raise DataError(f"Some splits of {name} hold pairs, others single texts; use the same columns in all splits.")
    texts_of, divided = _complete({split: raws[split].texts for split in read})
    labels = set[str]().union(*(used[split] for split in read))
    classes: Names = ()
    if labels != {UNLABELLED}:
        classes = _sort_classes(labels, name)
    elif divided and (len(texts_of.get("train", ())) < _LEAST_TRAIN or "validation" not in texts_of):
        raise DataError(
            f"{name} has too few texts to choose heads on some and evaluate them on others; use at least "
            f"{_ENOUGH_TEXTS}."
        )
    index = {label: position for position, label in enumerate(classes)}
    splits: dict[str, Texts] = {}
    for split in sorted(texts_of, key=[*SPLITS, *texts_of].index):
        texts = texts_of[split]
        # Classes that only other splits have are not used.
        numbers = np.array([index.get(label, NO_LABEL) for label in texts.classes], dtype=np.int64)
        texts = Texts(texts.first, texts.second, numbers[texts.labels], classes)
        for earlier, known in splits.items():
            seen = set(known.inputs)
            shared = sum(text in seen for text in texts.inputs)
            if shared:
                divided += (
                    f"{shared} of {len(texts)} {split} texts also occur in {earlier}; results may be too good.",
                )
        splits[split] = texts
    return Dataset(name, splits, classes, (*all_notices, *divided))


def _sort_classes(labels: Collection[str], place: str) -> Names:
    """Sort labels, by value if all are integers.

    Raises:
        DataError: If they are too few or too many.
    """
    try:
        classes = tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        classes = tuple(sorted(labels))
    if not 2 <= len(classes) <= _MOST_CLASSES:
        raise DataError(
            f"{place} has {len(classes):,} different labels ({join_quoted(classes, limit=3)}), and may have 2 to "
            f"{_MOST_CLASSES:,}; add texts of other classes, or name another column with --label-column "
            f'("{NO_LABELS}": there are no labels).'
        )
    return classes


def _complete(given: Mapping[str, Texts]) -> tuple[dict[str, Texts], Notices]:
    """Set a validation split aside from ``train`` if there is none, and a test split if that is missing too."""
    if "train" not in given or "validation" in given:
        return dict(given), ()
    rows: dict[str, list[int]] = {split: [] for split in SPLITS if split not in given or split == "train"}
    for row, text in enumerate(given["train"].plain_inputs):
        number = bucket(text) if isinstance(text, str) else bucket(*text)
        split = next(split for split, end in _ENDS.items() if number < end)
        rows.get(split, rows["train"]).append(row)
    parts = {split: given["train"].take(chosen) for split, chosen in rows.items() if chosen}
    sizes = ", ".join(f"{len(chosen)} {split}" for split, chosen in rows.items())
    how = "validation was set aside from train"
    if "test" in rows:
        how = "the texts were split 70/15/15"
    others = {split: texts for split, texts in given.items() if split != "train"}
    return {**others, **parts}, (f"{how} by a stable hash of the text ({sizes}).",)


# Samples ---------------------------------------------------------------------------------------------------------


def sample(
    texts: Texts,
    limit: int | None,
    *,
    how: Literal["stratified", "head"] = "stratified",
    seed: int = 42,
    by_label: bool = True,
) -> tuple[Texts, Notices]:
    """Draw at most ``limit`` rows (None: all); return them with notices for the user.

    ``"head"`` takes the first rows. ``"stratified"`` draws from each class in proportion (largest remainder, and at
    least one of every class if the limit allows) and keeps the order of the file. A file sorted by label is shuffled,
    since batches of a single class would bias averages over batches. Without labels, or unless ``by_label``, all texts
    are of one class.
    """
    size = len(texts)
    if limit is not None:
        size = min(limit, size)
    notices = []
    rows: Ints = np.arange(size)
    labels: Ints = np.zeros(len(texts), dtype=np.int64)
    if by_label and texts.labelled:
        labels = texts.labels
    counts = np.bincount(labels)
    if how == "stratified":
        random = np.random.default_rng(seed)
        if size < len(texts):
            quotas = enumerate(_quotas(counts, size))
            of_class = [random.permutation(np.flatnonzero(labels == index))[:quota] for index, quota in quotas]
            rows = np.sort(np.concatenate(of_class))
        if _is_sorted(labels):
            rows = random.permutation(rows)
            notices.append(f"the texts were sorted by label and are now shuffled (seed {seed}).")
    drawn = texts.take(rows)
    absent = np.flatnonzero((texts.class_counts > 0) & (drawn.class_counts == 0))
    if len(absent):
        names = join_quoted(texts.classes[index] for index in absent)
        notices.append(f"the sample of {size} texts has no text of the class {names}; raise the limit.")
    return drawn, tuple(notices)


def _is_sorted(labels: Ints) -> bool:
    """Tell whether labels are sorted, or almost: they form far fewer blocks than in a random order.

    Single rows of each class prove nothing.
    """
    blocks = 1 + np.count_nonzero(np.diff(labels))
    classes = np.bincount(labels)
    classes = classes[classes > 0]
    if len(classes) < 2 or blocks == len(labels):
        return False
    expected = 1 + len(labels) - float((classes**2).sum()) / len(labels)
    return bool(blocks == len(classes) or blocks <= expected / 2)


def _quotas(counts: Ints, size: int) -> Ints:
    """Divide ``size`` rows among the classes; the lower class index wins a tie."""
    # In units of 1/total, so that proportions are exact integers.
    total = int(counts.sum())
    ideal = counts * size
    least = ((counts > 0) & (size >= np.count_nonzero(counts))).astype(np.int64)
    quotas = np.maximum(ideal // total, least)
    while quotas.sum() < size:
        quotas[np.argmax(ideal - quotas * total)] += 1
    while quotas.sum() > size:
        surplus = np.where(quotas > least, quotas * total - ideal, np.iinfo(np.int64).min)
        quotas[np.argmax(surplus)] -= 1
    return quotas


# Labels --------------------------------------------------------------------------------------------------------------

# Longer numbers are no classes, and Python refuses to read very long ones.
_NUMBERED = re.compile(r"(?:label_)?(0|[1-9][0-9]{0,17})", re.ASCII)


def match(
    dataset: Dataset, labels: Sequence[str], *, label_map: Mapping[str, str] | None = None, in_order: bool = False
) -> Dataset:
    """Re-index a data set to the class names of a model, given in the order of its logits.

    Names match if they are equal apart from case and outer blanks; ``"2"`` and ``"LABEL_2"`` are the same label. If no
    name matches, integers are positions in ``labels``. ``label_map`` (data label to model label) has priority; several
    labels may map to one class. ``in_order`` is for ``labels`` that the user wrote for this data, the answers to a
    prompt: if nothing else matches, the first belongs to the first class of the data, and so on. Notices state how
    labels were matched and which classes a split lacks. Data without labels get the classes of the model.

    Raises:
        DataError: If a label of the data has no class in the model.
        OptionError: If the map names a label that the data or the model does not have, or one twice.
    """
    classes = tuple(labels)
    if not dataset.labelled:
        if label_map:
            raise OptionError(f"--label-map maps labels, and {dataset.id} has none; leave it out.")
        splits = {split: replace(texts, classes=classes) for split, texts in dataset.splits.items()}
        notice = f"{dataset.id} has no labels: the full model's predictions serve as classes."
        return replace(dataset, splits=splits, classes=classes, notices=(*dataset.notices, notice))
    have = f"labels of the data: {join_quoted(dataset.classes)}; classes of the model: {join_quoted(classes)}"
    targets = dict[str, str]()
    for label, target in (label_map or {}).items():
        place = _position(label, dataset.classes)
        if place is None or _position(target, classes) is None or dataset.classes[place] in targets:
            raise OptionError(f"--label-map maps {label!r} to {target!r}; map each label once, to a class ({have}).")
        targets[dataset.classes[place]] = target
    positions = [_position(targets.get(name, name), classes) for name in dataset.classes]
    numbers = [_normalized(name) for name in dataset.classes]
    numbered = all(_NUMBERED.fullmatch(number) for number in numbers)
    how = "by name"
    if label_map:
        how = "as --label-map says"
    elif numbered:
        how = "by value"
    if not label_map and positions.count(None) == len(positions):
        if numbered and max(map(int, numbers)) < len(classes):
            positions = [int(number) for number in numbers]
        elif in_order and len(positions) == len(classes):
            positions = list(range(len(classes)))
            how = "in order"
    unmatched = [name for name, position in zip(dataset.classes, positions, strict=True) if position is None]
    if unmatched:
        raise DataError(
            f"The model has no class for {join_quoted(unmatched)} ({have}); map them, as in --label-map "
            '"neg=NEGATIVE,pos=POSITIVE".'
        )
    order = np.array(positions, dtype=np.int64)
    if len(set(positions)) < 2:
        raise DataError(f"Every label of the data would become {classes[order[0]]!r}; map them to two classes.")
    splits = {
        split: Texts(texts.first, texts.second, order[texts.labels], classes) for split, texts in dataset.splits.items()
    }
    pairs = []
    for label, position in zip(dataset.classes, order, strict=True):
        pair = label
        if label != classes[position]:
            pair = f"{label}={classes[position]}"
        pairs.append(pair[:120])
    notices = [*dataset.notices, f"labels matched {how}: {', '.join(pairs[:20])}."]
    for position, name in enumerate(classes):
        without = [split for split, texts in splits.items() if not texts.class_counts[position]]
        if without:
            notices.append(f"the model has the class {name!r}, but no text of it is in {' and '.join(without)}.")
    return replace(dataset, splits=splits, classes=classes, notices=tuple(notices))


def _position(name: str, names: Sequence[str]) -> int | None:
    """Find the only equal name, or else the only name that is equal apart from case, blanks and LABEL_."""
    equal = [position for position, other in enumerate(names) if other == name]
    equal = equal or [position for position, other in enumerate(names) if _normalized(other) == _normalized(name)]
    if len(equal) != 1:
        return None
    return equal[0]


def _normalized(name: str) -> str:
    name = name.strip().casefold()
    return _NUMBERED.sub(r"\1", name)


# The tables of a data set --------------------------------------------------------------------------------------


#: The most parts whose splits a form asks for; a folder may hold any number of files.
MOST_PARTS = 20


@dataclass(frozen=True)
class Parts:
    """One table, whose rows are ``divided`` into splits, or a table for each split.

    ``tables`` opens each part by the name of its file or published split. ``splits`` maps parts to the splits that they
    serve as by default; other parts are not read. ``place`` names the data in messages.

    Example: ``tables`` of ``train.csv`` and ``notes.csv`` have the ``splits`` ``{"train.csv": "train"}``.
    """

    name: str
    place: str
    tables: Mapping[str, Callable[[], RowTable]]
    splits: Mapping[str, str] = field(default_factory=dict)
    notices: Notices = ()
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
        """Read all rows by the named columns; other columns are found by the names in ``cahp.data.dataset``.

        ``splits`` maps files of a folder, or published splits, to train, validation and test; other parts are left out.
        The documents of a text file are its paragraphs, or its lines (``documents="line"``).

        Raises:
            DataError: If a part cannot be read, or no split is known.
            OptionError: If ``splits`` name something missing.
        """
        columns = Columns(text_column, pair_column, label_column)
        if self.divided:
            if splits:
                raise OptionError(f"{self.place} is a single table, and not divided by --splits; leave it out.")
            (table,) = self.tables.values()
            raw = read_split(table(), columns, assigned=True, documents=documents)
            return assemble(self.name, divide(raw, self.place), self.notices)
        serve = dict(splits or self.splits)
        if not serve:
            example = shlex.quote(f"{next(iter(self.tables))}=train")
            raise DataError(
                f"{self.place} has no part called train, validation or test, only {join_quoted(self.tables)}; name the "
                f"splits, as in --splits {example}."
            )
        raws = {}
        for part, given in serve.items():
            split = given
            if splits:
                split = canonical(given)
                if part not in self.tables or split not in SPLITS:
                    raise OptionError(
                        f"--splits names {part}={given}; name one of {join_quoted(self.tables)} as one of "
                        f"{join_quoted(SPLITS)}."
                    )
            if split in raws:
                raise DataError(f"{self.place} has several {split} splits, {part!r} too; name one with --splits.")
            opened = self.tables[part]()
            of_part = columns
            names = [name.lower() for name in opened.columns]
            if split == "test" and (label_column or LABEL_COLUMN).lower() not in names:
                # Published test splits often have no labels; a split without any is left out, unless all have none.
                of_part = replace(columns, label=NO_LABELS)
            raws[split] = read_split(opened, of_part, documents=documents)
        return assemble(self.name, raws, self.notices)


# Guesses, which the user can check and correct ---------------------------------------------------------------------


def guess_splits(parts: Parts) -> dict[str, str]:
    """Guess the split of each part by the words in its name; the first of the others is ``train`` if that is missing.

    Example: ``{"my_train.csv": "train", "reviews-dev.csv": "validation"}``
    """
    splits: dict[str, str] = {}
    for part in parts.tables:
        words = [parts.splits.get(part), *map(canonical, re.split(r"[^a-z]+", part.lower()))]
        split = next((word for word in words if word in SPLITS), None)
        if split is not None and split not in splits.values():
            splits[part] = split
    rest = [part for part in parts.tables if part not in splits]
    if "train" not in splits.values() and rest:
        splits = {rest[0]: "train", **splits}
    return splits


def guess_columns(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Columns:
    """Guess which columns hold texts and labels.

    Without default names, the label is a column with a frequent name of label columns, else there are none
    (``NO_LABELS``). The text is the longest of the others.
    """
    usual = find_columns(names)
    if usual.text is not None and usual.label is not None:
        return usual
    lower = {name.lower(): name for name in reversed(names)}
    label = next((lower[name] for name in LABEL_NAMES if name in lower), NO_LABELS)
    columns = find_columns(names, Columns(label=label))
    if columns.text is None:
        length = {name: sum(len(row.get(name, "")) for row in rows) for name in names if name != label}
        columns = replace(columns, text=max(length, key=length.__getitem__, default=label))
    return columns
