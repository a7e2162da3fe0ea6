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
from numpy.typing import NDArray

from cahp.data.tables import RowTable, join_quoted, row_error
from cahp.tasks.answers import NO_LABEL
from cahp.tasks.texts import Texts
from cahp.values import DataError, Ints, OptionError, digest

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
    classes: tuple[str, ...]
    notices: tuple[str, ...]
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
    assigned = [canonical(name) for name in raw.assigned]
    unknown = {name: None for name, split in zip(raw.assigned, assigned, strict=True) if split not in SPLITS}
    if unknown:
        raise DataError(f"The split column of {place} holds {join_quoted(unknown)}; it may hold {join_quoted(SPLITS)}.")
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for row, split in enumerate(assigned):
        rows[split].append(row)
    return {split: RawSplit(raw.texts.take(chosen), notices=raw.notices) for split, chosen in rows.items() if chosen}


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
    texts_of = {split: raw.texts for split, raw in raws.items()}
    labelled = {split: texts for split, texts in texts_of.items() if used[split] - {UNLABELLED}} or texts_of
    all_notices += [f"{split} has no labels and was left out." for split in raws if split not in labelled]
    if len({texts.second is None for texts in labelled.values()}) > 1:
        raise DataError(f"Some splits of {name} hold pairs, others single texts; use the same columns in all splits.")
    labels_used = set[str]().union(*(used[split] for split in labelled))
    without = labels_used == {UNLABELLED}
    classes: tuple[str, ...] = ()
    if not without:
        classes = _sort_classes(labels_used, name)
    parts, completed = _complete(labelled)
    if without and completed and (len(parts.get("train", ())) < _LEAST_TRAIN or "validation" not in parts):
        raise DataError(
            f"{name} has too few texts to choose heads on some and evaluate them on others "
            f"({sum(map(len, parts.values()))}); use at least {_ENOUGH_TEXTS}."
        )
    index = {label: position for position, label in enumerate(classes)}
    splits = {}
    for split in sorted(parts, key=[*SPLITS, *parts].index):
        texts = parts[split]
        # Classes that only other splits have are not used.
        numbers = np.array([index.get(label, NO_LABEL) for label in texts.classes], dtype=np.int64)
        splits[split] = Texts(texts.first, texts.second, numbers[texts.labels], classes)
    all_notices += completed
    seen: dict[str, set[object]] = {}
    for split, texts in splits.items():
        for earlier, known in seen.items():
            if shared := sum(item in known for item in texts.inputs):
                all_notices.append(
                    f"{shared} of {len(texts)} {split} texts also occur in {earlier}; results may be too good."
                )
        seen[split] = set(texts.inputs)
    return Dataset(name, splits, classes, tuple(all_notices))


def _sort_classes(labels: Collection[str], place: str) -> tuple[str, ...]:
    """Sort labels, by value if all are integers.

    Raises:
        DataError: If they are too few or too many.
    """
    try:
        classes = tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        classes = tuple(sorted(labels))
    if len(classes) < 2:
        problem = "no text has a label"
        if classes:
            problem = f"every text has the label {join_quoted(classes)}"
        raise DataError(
            f"In {place}, {problem}; add texts of at least two classes, or ignore labels with --label-column "
            f'"{NO_LABELS}".'
        )
    if len(classes) > _MOST_CLASSES:
        raise DataError(
            f"{place} has {len(classes):,} different labels, more than {_MOST_CLASSES:,}; name another column with "
            "--label-column."
        )
    return classes


def _complete(given: Mapping[str, Texts]) -> tuple[dict[str, Texts], tuple[str, ...]]:
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
) -> tuple[Texts, tuple[str, ...]]:
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
    drawn = texts
    if not np.array_equal(rows, np.arange(len(texts))):
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


def _quotas(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
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
        OptionError: If the map names a label that the data or the model does not have.
    """
    classes = tuple(labels)
    if not dataset.labelled:
        if label_map:
            raise OptionError(f"--label-map maps labels, and {dataset.id} has none; leave it out.")
        splits = {split: replace(texts, classes=classes) for split, texts in dataset.splits.items()}
        notice = f"{dataset.id} has no labels: the full model's predictions serve as classes."
        return replace(dataset, splits=splits, classes=classes, notices=(*dataset.notices, notice))
    targets = _targets(dataset.classes, classes, label_map or {})
    positions = [_position(targets.get(name, name), classes) for name in dataset.classes]
    how = "by name"
    if all(_NUMBERED.fullmatch(_normalized(name)) for name in dataset.classes):
        how = "by value"
    if label_map:
        how = "as --label-map says"
    elif all(position is None for position in positions):
        numbers = [_normalized(name) for name in dataset.classes]
        if all(_NUMBERED.fullmatch(number) and int(number) < len(classes) for number in numbers):
            positions = [int(number) for number in numbers]
        elif in_order and len(positions) == len(classes):
            positions = list(range(len(classes)))
            how = "in order"
    unmatched = [name for name, position in zip(dataset.classes, positions, strict=True) if position is None]
    if unmatched:
        raise DataError(
            f"The model has no class for {join_quoted(unmatched)} (labels of the data: {join_quoted(dataset.classes)}; "
            f'classes of the model: {join_quoted(classes)}); map them, as in --label-map "neg=NEGATIVE,pos=POSITIVE".'
        )
    if len(set(positions)) < 2:
        raise DataError(
            f"Every label of the data would become {classes[positions[0] or 0]!r}; map them to at least two classes."
        )
    order = np.array(positions, dtype=np.int64)
    splits = {
        split: Texts(texts.first, texts.second, order[texts.labels], classes) for split, texts in dataset.splits.items()
    }
    pairs = []
    for label, position in zip(dataset.classes, order, strict=True):
        pair = label[:60]
        if label != classes[position]:
            pair = f"{pair}={classes[position][:60]}"
        pairs.append(pair)
    matched = ", ".join(pairs[:20])
    if len(pairs) > 20:
        matched += f", ... ({len(pairs)} in all)"
    notices = [*dataset.notices, f"labels matched {how}: {matched}."]
    for position, name in enumerate(classes):
        without = [split for split, texts in splits.items() if not texts.class_counts[position]]
        if without:
            where = " and ".join(without)
            if len(without) == len(splits):
                where = "the data"
            notices.append(f"the model has the class {name!r}, but {where} has no text of it.")
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
    numbered = _NUMBERED.fullmatch(name)
    return numbered[1] if numbered else name


def _targets(labels: Sequence[str], classes: Sequence[str], label_map: Mapping[str, str]) -> dict[str, str]:
    """Key the map by the spelling of labels in the data."""
    targets: dict[str, str] = {}
    for label, target in label_map.items():
        position = _position(label, labels)
        if position is None:
            raise OptionError(f"--label-map names {label!r}, but the data has the labels {join_quoted(labels)}.")
        if _position(target, classes) is None:
            raise OptionError(f"--label-map names {target!r}, but the model has the labels {join_quoted(classes)}.")
        if labels[position] in targets:
            raise OptionError(f"--label-map maps {labels[position]!r} twice; remove one.")
        targets[labels[position]] = target
    return targets


# The tables of a data set --------------------------------------------------------------------------------------


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
        """Read all rows by the named columns; other columns are found by the names in ``cahp.data.dataset``.

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


def guess_columns(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Columns:
    """Guess which columns hold texts and labels.

    Without default names, the label is a column with a frequent name of label columns, or the last one unless it is the
    longest, or has another value in each row; else there are none (``NO_LABELS``). The text is the longest of the
    others.
    """
    columns = default_columns(names)
    if columns is not None and columns.label is not None:
        return columns
    length = {name: sum(len(row.get(name, "")) for row in rows) for name in names}
    lower = {name.lower(): name for name in reversed(names)}
    label = names[-1]
    all_different = len(rows) > 1 and len({row.get(label, "") for row in rows}) == len(rows)
    if columns is not None or all_different or label == max(length, key=length.__getitem__):
        label = NO_LABELS
    label = next((lower[usual] for usual in LABEL_NAMES if usual in lower), label)
    columns = default_columns(names, Columns(label=label))
    if columns is not None:
        return columns
    texts = [name for name in names if name != label]
    return Columns(max(texts, key=length.__getitem__, default=label), None, label)
