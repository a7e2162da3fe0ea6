"""Data sets: splits and classes that do not change between runs, samples of them, and labels in a model's order."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cahp.data.rows import NO_LABELS, UNLABELLED, RawSplit
from cahp.data.tables import join_quoted
from cahp.tasks.answers import NO_LABEL
from cahp.tasks.texts import Texts
from cahp.values import DataError, Ints, OptionError, digest

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

    Raises:
        OptionError: If the limit is below 1 or ``how`` is unknown.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"The limit of {limit} texts is too small; use at least 1.")
    if how not in ("stratified", "head"):
        raise OptionError(f"The sampling {how!r} is unknown; use 'stratified' or 'head'.")
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
