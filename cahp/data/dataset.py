"""Splits and classes: from checked rows to a data set whose parts do not change between runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from cahp.data.rawsplit import UNLABELLED, RawSplit
from cahp.data.table import listed
from cahp.values import DataError, Texts, digest

#: Other names of the three splits.
ALIASES = {
    "training": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation_matched": "validation",
    "dev_matched": "validation",
}
SPLITS = ("train", "validation", "test")

#: More labels than this are texts or numbers of another column.
_MOST_CLASSES = 10_000

#: Upper ends of each split's share of the hundred buckets: 70/15/15.
_ENDS = {"train": 70, "validation": 85, "test": 100}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled texts by split, all over the same ``classes``; no split is empty.

    ``classes`` are the data's own label names (integers by value, strings sorted) until ``match`` puts them in
    a model's order. ``notices`` are sentences that a person should read before trusting a result.
    """

    id: str
    splits: Mapping[str, Texts]
    classes: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def pairs(self) -> bool:
        """Whether each input is a pair of texts."""
        return any(texts.second is not None for texts in self.splits.values())

    def split(self, name: str) -> Texts:
        """The texts of one split.

        Raises:
            DataError: If the data has no such split.
        """
        if name not in self.splits:
            raise DataError(f"{self.id} has no split {name!r}; choose one of {listed(self.splits)}.")
        return self.splits[name]


def canonical(name: str) -> str:
    """A split's usual name: ``dev``, ``val`` and ``valid`` are ``validation``."""
    name = name.strip().lower()
    return ALIASES.get(name, name)


def bucket(*texts: str) -> int:
    """0..99 from the text (and its pair) alone, so that no text changes sides when others come or go."""
    return int(digest(*texts)[:16], 16) % 100


def divide(raw: RawSplit, place: str) -> dict[str, RawSplit]:
    """One file's rows by the split that its split column assigns, or all as ``train``.

    Raises:
        DataError: If a row names another split than train, validation or test.
    """
    if raw.assigned is None:
        return {"train": raw}
    assigned = [canonical(name) for name in raw.assigned]
    unknown = {name: None for name, split in zip(raw.assigned, assigned, strict=True) if split not in SPLITS}
    if unknown:
        raise DataError(f"The split column of {place} holds {listed(unknown)}; it may hold {listed(SPLITS)}.")
    rows = {split: [row for row, name in enumerate(assigned) if name == split] for split in SPLITS}
    return {split: raw.take(chosen) for split, chosen in rows.items() if chosen}


def assemble(name: str, raws: Mapping[str, RawSplit], notices: Iterable[str] = ()) -> Dataset:
    """Index the labels over all splits, set missing splits aside, and say what is odd.

    Raises:
        DataError: If there are fewer than two classes, or pairs in some splits only.
    """
    # Splits cut from one file carry the same notices: said once.
    said = [*notices, *dict.fromkeys(notice for raw in raws.values() for notice in raw.notices)]
    labelled = {split: raw for split, raw in raws.items() if set(raw.labels) - {UNLABELLED}}
    said += [f"{split} has no labels and was left out." for split in raws if split not in labelled]
    if len({raw.second is None for raw in labelled.values()}) > 1:
        raise DataError(f"Some splits of {name} hold pairs and others single texts; give all the same columns.")
    classes = _sorted_classes({label for raw in labelled.values() for label in raw.labels})
    if len(classes) < 2:
        found = f"every text has the label {listed(classes)}" if classes else "no text has a label"
        raise DataError(f"In {name} {found}; at least two classes are needed.")
    if len(classes) > _MOST_CLASSES:
        raise DataError(
            f"{name} has {len(classes):,} different labels, too many for classes; name another column with "
            "--label-column."
        )
    parts, completed = _complete(labelled)
    order = [
        *(split for split in SPLITS if split in parts),
        *(split for split in parts if split not in SPLITS),
    ]
    index = {label: position for position, label in enumerate(classes)}
    splits = {split: _texts(parts[split], index) for split in order}
    return Dataset(name, splits, classes, (*said, *completed, *_leaks(splits)))


def _texts(raw: RawSplit, index: Mapping[str, int]) -> Texts:
    labels = np.fromiter((index[label] for label in raw.labels), dtype=np.int64, count=len(raw))
    return Texts(raw.first, raw.second, labels, tuple(index))


def _sorted_classes(labels: set[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def _complete(raws: Mapping[str, RawSplit]) -> tuple[dict[str, RawSplit], tuple[str, ...]]:
    """Where there is no validation split, set one aside from ``train``, and a test split if that lacks too."""
    if "train" not in raws or "validation" in raws:
        return dict(raws), ()
    made = [split for split in SPLITS if split not in raws or split == "train"]
    rows: dict[str, list[int]] = {split: [] for split in made}
    for row, texts in enumerate(raws["train"].inputs):
        split = next(split for split, end in _ENDS.items() if bucket(*texts) < end)
        rows[split if split in rows else "train"].append(row)
    parts = {split: raws["train"].take(chosen) for split, chosen in rows.items() if chosen}
    sizes = ", ".join(f"{len(chosen)} {split}" for split, chosen in rows.items())
    how = "the texts were split 70/15/15" if "test" in made else "validation was set aside from train"
    others = {split: raw for split, raw in raws.items() if split != "train"}
    return {**others, **parts}, (f"{how} by a stable hash of the text ({sizes}).",)


def _leaks(splits: Mapping[str, Texts]) -> list[str]:
    """A notice for every split with inputs that an earlier split also has."""
    notices = []
    seen: dict[str, set[object]] = {}
    for split, texts in splits.items():
        inputs = texts.inputs
        for earlier, known in seen.items():
            if shared := sum(item in known for item in inputs):
                notices.append(f"{shared} of {len(texts)} {split} texts also occur in {earlier}: scores may flatter.")
        seen[split] = set(inputs)
    return notices
