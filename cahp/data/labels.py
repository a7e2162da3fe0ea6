"""Whose label is whose: the data's names brought into the order of a model's logits, never by guess."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cahp.data.dataset import Dataset
from cahp.data.table import listed
from cahp.values import DataError, OptionError, Texts

# Longer numbers count no classes, and Python refuses to read the longest.
_NUMBERED = re.compile(r"(?:label_)?(0|[1-9][0-9]{0,17})", re.ASCII)


def match(
    dataset: Dataset, labels: Sequence[str], *, label_map: Mapping[str, str] | None = None, in_order: bool = False
) -> Dataset:
    """Re-index a data set to a model's class names, given in the order of its logits.

    Names match when they are equal but for case and outer blanks; ``"2"`` and ``"LABEL_2"`` are one label, and
    where no name matches, integers are positions in ``labels``.
    ``label_map`` (data label to model label) goes before; several labels may map to one class. ``in_order`` is for
    ``labels`` that a person wrote down for this very data, the answers to a prompt: where no name matches either, the
    first is that of the data's first class, and so on. How labels were matched, and which classes a split lacks, is
    said in the notices.

    Raises:
        DataError: If a label of the data is none of the model's.
        OptionError: If the map names a label that the data or the model does not have.
    """
    classes = tuple(labels)
    goals = _goals(dataset.classes, classes, label_map or {})
    found = [_position(goals.get(name, name), classes) for name in dataset.classes]
    how = "as --label-map says" if label_map else None
    if all(position is None for position in found) and not label_map:
        found = _by_value(dataset.classes, len(classes))
        if in_order and found.count(None) == len(found) == len(classes):
            found, how = list(range(len(classes))), "in order"
    lost = [name for name, position in zip(dataset.classes, found, strict=True) if position is None]
    if lost:
        raise DataError(
            f"The data's labels ({listed(dataset.classes)}) do not match the model's ({listed(classes)}): none of "
            f'those is {listed(lost)}; say which is which as in --label-map "neg=NEGATIVE,pos=POSITIVE".'
        )
    if len(set(found)) < 2:
        raise DataError(
            f"Every label of the data would be {classes[found[0] or 0]!r}; at least two classes are needed."
        )
    order = np.array(found, dtype=np.int64)
    splits = {
        split: Texts(texts.first, texts.second, order[texts.labels], classes) for split, texts in dataset.splits.items()
    }
    notices = (*dataset.notices, _explained(dataset.classes, [classes[i] for i in order], how))
    return replace(dataset, splits=splits, classes=classes, notices=(*notices, *_absent(splits, classes)))


def parse_label_map(text: str) -> dict[str, str]:
    """Read ``"a=b,c=d"``: data label ``a`` is model label ``b``. A part with a comma goes into double quotes.

    Raises:
        OptionError: If a part is not of the form ``a=b``, or a label is mapped twice.
    """
    return _parse_pairs(text, "label-map", 'write DATA=MODEL pairs, as in "neg=NEGATIVE,pos=POSITIVE"')


def parse_splits(text: str) -> dict[str, str]:
    """Read ``"a.csv=train,b.csv=validation"``: which split each file, or published split, serves as.

    Raises:
        OptionError: If a part is not of the form ``a=b``, or a file is named twice.
    """
    return _parse_pairs(text, "splits", 'write FILE=SPLIT pairs, as in "a.csv=train,b.csv=validation"')


def _parse_pairs(text: str, option: str, form: str) -> dict[str, str]:
    parts = parse_list(text, option, form) or [text]
    found: dict[str, str] = {}
    for part in parts:
        ours, _, theirs = (side.strip() for side in part.partition("="))
        if not ours or not theirs or "=" in theirs:
            raise OptionError(f"--{option} has {part!r}; {form}.")
        if ours in found:
            raise OptionError(f"--{option} maps {ours!r} twice; keep one of the two.")
        found[ours] = theirs
    return found


def parse_list(text: str, option: str, form: str) -> list[str]:
    """The parts of ``"a,b"``; one with a comma goes into double quotes. ``form`` says how ``option`` is written.

    Raises:
        OptionError: If a quote is not closed.
    """
    try:
        return [part for row in csv.reader([text], strict=True, skipinitialspace=True) for part in row]
    except csv.Error as error:
        raise OptionError(f"--{option} {text!r} cannot be read ({error}); {form}.") from error


def parse_answers(text: str) -> tuple[str, ...]:
    """Read ``"terrible,great"``: an answer for each class.

    Raises:
        OptionError: If it cannot be read.
    """
    form = 'write an answer for each class, as in "terrible,great"'
    return tuple(part.strip() for part in parse_list(text, "answers", form))


def _position(name: str, names: Sequence[str]) -> int | None:
    """Where ``name`` stands: the one equal name, else the one that is equal but for case, blanks and LABEL_."""
    found = [position for position, other in enumerate(names) if other == name]
    found = found or [position for position, other in enumerate(names) if _key(other) == _key(name)]
    return found[0] if len(found) == 1 else None


def _by_value(names: Sequence[str], classes: int) -> list[int | None]:
    """Integers are positions among the model's classes, whatever those are called; all of them or none."""
    values = [int(name) if _NUMBERED.fullmatch(name) else classes for name in names]
    return list(values) if all(value < classes for value in values) else [None] * len(values)


def _key(name: str) -> str:
    name = name.strip().casefold()
    numbered = _NUMBERED.fullmatch(name)
    return numbered[1] if numbered else name


def _goals(ours: Sequence[str], theirs: Sequence[str], label_map: Mapping[str, str]) -> dict[str, str]:
    """The map, keyed by the data's own spelling of its labels."""
    goals: dict[str, str] = {}
    for label, goal in label_map.items():
        position = _position(label, ours)
        if position is None:
            raise OptionError(f"--label-map names {label!r}, but the data's labels are {listed(ours)}.")
        if _position(goal, theirs) is None:
            raise OptionError(f"--label-map names {goal!r}, but the model's labels are {listed(theirs)}.")
        if ours[position] in goals:
            raise OptionError(f"--label-map maps {ours[position]!r} twice; keep one of the two.")
        goals[ours[position]] = goal
    return goals


def _explained(ours: Sequence[str], theirs: Sequence[str], how: str | None) -> str:
    if how is None:
        how = "by value" if all(_NUMBERED.fullmatch(_key(name)) for name in ours) else "by name"
    pairs = [a[:60] if a == b else f"{a[:60]}={b[:60]}" for a, b in zip(ours, theirs, strict=True)]
    more = f", ... ({len(pairs)} in all)" if len(pairs) > 20 else ""
    return f"labels matched {how}: {', '.join(pairs[:20])}{more}."


def _absent(splits: Mapping[str, Texts], classes: Sequence[str]) -> list[str]:
    """A notice for every class of the model of which the data, or one split, has no text."""
    counts = {split: texts.class_counts for split, texts in splits.items()}
    notices = []
    for position, name in enumerate(classes):
        without = [split for split, count in counts.items() if not count[position]]
        if without:
            where = "the data" if len(without) == len(counts) else " and ".join(without)
            notices.append(f"the model knows the class {name!r}, but {where} has no text of it.")
    return notices
