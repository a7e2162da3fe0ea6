"""Match the labels of data to the classes of a model, never by guess."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cahp.data.dataset import Dataset
from cahp.data.tables import join_quoted
from cahp.values import DataError, OptionError, Texts

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
    labels were matched and which classes a split lacks.

    Raises:
        DataError: If a label of the data has no class in the model.
        OptionError: If the map names a label that the data or the model does not have.
    """
    classes = tuple(labels)
    targets = _targets(dataset.classes, classes, label_map or {})
    positions = [_position(targets.get(name, name), classes) for name in dataset.classes]
    how = "as --label-map says" if label_map else None
    if all(position is None for position in positions) and not label_map:
        values = [int(name) if _NUMBERED.fullmatch(name) else len(classes) for name in dataset.classes]
        if max(values) < len(classes):
            positions = [*values]
        elif in_order and len(positions) == len(classes):
            positions, how = list(range(len(classes))), "in order"
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
    if how is None:
        how = "by value" if all(_NUMBERED.fullmatch(_normalized(name)) for name in dataset.classes) else "by name"
    named = [(label, classes[position]) for label, position in zip(dataset.classes, order, strict=True)]
    pairs = [a[:60] if a == b else f"{a[:60]}={b[:60]}" for a, b in named]
    more = f", ... ({len(pairs)} in all)" if len(pairs) > 20 else ""
    notices = [*dataset.notices, f"labels matched {how}: {', '.join(pairs[:20])}{more}."]
    for position, name in enumerate(classes):
        without = [split for split, texts in splits.items() if not texts.class_counts[position]]
        if without:
            where = "the data" if len(without) == len(splits) else " and ".join(without)
            notices.append(f"the model has the class {name!r}, but {where} has no text of it.")
    return replace(dataset, splits=splits, classes=classes, notices=tuple(notices))


def parse_label_map(text: str) -> dict[str, str]:
    """Parse ``"a=b,c=d"``: data label ``a`` is model label ``b``. Put a part with a comma into double quotes.

    Raises:
        OptionError: If a part is not of the form ``a=b``, or a label is mapped twice.
    """
    return _parse_pairs(text, "label-map", 'write DATA=MODEL pairs, as in "neg=NEGATIVE,pos=POSITIVE"')


def parse_splits(text: str) -> dict[str, str]:
    """Parse ``"a.csv=train,b.csv=validation"``: the split of each file, or of each published split.

    Raises:
        OptionError: If a part is not of the form ``a=b``, or a file is named twice.
    """
    return _parse_pairs(text, "splits", 'write FILE=SPLIT pairs, as in "a.csv=train,b.csv=validation"')


def _parse_pairs(text: str, option: str, form: str) -> dict[str, str]:
    parts = parse_list(text, option, form) or [text]
    pairs: dict[str, str] = {}
    for part in parts:
        left, _, right = (side.strip() for side in part.partition("="))
        if not left or not right or "=" in right:
            raise OptionError(f"--{option} has {part!r}; {form}.")
        if left in pairs:
            raise OptionError(f"--{option} maps {left!r} twice; remove one.")
        pairs[left] = right
    return pairs


def parse_list(text: str, option: str, form: str) -> list[str]:
    """Parse ``"a,b"``, with parts that hold a comma in double quotes; ``form`` explains how to write ``option``.

    Raises:
        OptionError: If a quote is not closed.
    """
    try:
        return [part for row in csv.reader([text], strict=True, skipinitialspace=True) for part in row]
    except csv.Error as error:
        raise OptionError(f"--{option} {text!r} cannot be read ({error}); {form}.") from error


def parse_answers(text: str) -> tuple[str, ...]:
    """Parse ``"terrible,great"``: an answer for each class.

    Raises:
        OptionError: If it cannot be read.
    """
    form = 'write an answer for each class, as in "terrible,great"'
    return tuple(part.strip() for part in parse_list(text, "answers", form))


def _position(name: str, names: Sequence[str]) -> int | None:
    """Find the only equal name, or else the only name that is equal apart from case, blanks and LABEL_."""
    equal = [position for position, other in enumerate(names) if other == name]
    equal = equal or [position for position, other in enumerate(names) if _normalized(other) == _normalized(name)]
    return equal[0] if len(equal) == 1 else None


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
