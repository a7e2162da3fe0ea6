"""Neutral texts, on which a mask that was chosen for a task is evaluated as well; their labels are not read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cahp.data.dataset import Dataset
from cahp.data.sources import BBC_NEWS, MANUAL, catalogue, load
from cahp.tasks.answers import NO_LABEL
from cahp.values import DataError

#: The name that stands for texts of its own: news for other tasks, and for these the manual.
AUTO = "auto"


def load_neutral(name: str, *, task: str) -> Dataset:
    """Read texts that have nothing to do with the data ``task``, without labels.

    ``auto`` are the built-in news or, where these are the task or not installed, the manual of Python, which is
    installed with it. Any other name is that of data.

    Raises:
        DataError: If there are no such data, or they are the task's own.
    """
    if name == AUTO:
        name = MANUAL
        if task != BBC_NEWS and _has_news():
            name = BBC_NEWS
    if name == task:
        raise DataError(f"{name} are the texts of the task itself; name others with --neutral-data, or give auto")
    dataset = load(name)
    texts = {
        split: replace(labelled, labels=np.full(len(labelled), NO_LABEL, dtype=np.int64), classes=())
        for split, labelled in dataset.splits.items()
    }
    return Dataset(dataset.id, texts, (), ())


def _has_news() -> bool:
    return any(entry.available for entry in catalogue() if entry.name == BBC_NEWS)
