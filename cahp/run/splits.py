"""The texts of a split as documents record them, with how many of them a model does not read to the end."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from filelock import FileLock

from cahp import data
from cahp.models.cards import ModelCard
from cahp.run.resources import Resources
from cahp.store import Entry, Store, key
from cahp.tasks.texts import Texts


@dataclass(frozen=True)
class SplitRecord:
    """The texts of a split: their number, classes (None: there are no labels) and digest.

    Of a text ``max_length`` tokens were read, and ``cut`` of the texts have more (None: windows, or not counted).
    """

    split: str
    examples: int
    class_counts: Mapping[str, int] | None
    sha256: str
    cut: int | None = field(default=None, kw_only=True)
    max_length: int | None = field(default=None, kw_only=True)

    @property
    def cut_notice(self) -> str | None:
        """How many texts were cut (None: no text was)."""
        if not self.cut or self.max_length is None:
            return None
        count = f"{self.cut:,} of {self.examples:,} texts"
        return f"{self.split}: {count} are longer than {self.max_length:,} tokens and were cut"

    @property
    def most_frequent(self) -> float | None:
        """Accuracy of the majority-class baseline (None: there are no texts, or no labels)."""
        counts = list((self.class_counts or {}).values())
        if not sum(counts):
            return None
        return max(counts) / sum(counts)

    @classmethod
    def of(cls, split: str, texts: Texts) -> SplitRecord:
        """Describe a sample of a split."""
        counts = None
        if texts.labelled:
            counts = dict(zip(texts.classes, texts.class_counts.tolist(), strict=True))
        return cls(split, texts.count, counts, texts.sha256)

    def with_id(self, name: str) -> dict[str, Any]:
        """Return the fields, after the ``id`` of the data ``name``, as documents of one split have them."""
        return {"id": name, **vars(self)}


@dataclass(frozen=True)
class CutTexts:
    """Of how many texts the end was cut: a model read ``max_length`` tokens of each, and could read ``longest``."""

    cut: int
    max_length: int
    longest: int


def count_cut(resources: Resources, texts: Texts) -> CutTexts | None:
    """Count the texts that the model of ``resources`` reads only in part (None: windows, which are not cut)."""
    if not texts.task.items_are_texts:
        return None

    def read(entry: Entry) -> CutTexts:
        return CutTexts(**{name: int(entry.meta[name]) for name in CutTexts.__annotations__})

    name = key("cut texts", 1, resources.card.sha256, texts.sha256)
    counted = resources.store.read(name, read)
    if counted is None:
        model = resources.model
        prompt = model.prompt_length
        cut = sum(length > model.max_length for length in model.count_tokens(texts.inputs))
        counted = CutTexts(cut, model.max_length - prompt, model.longest - prompt)
        resources.store.save(name, meta=asdict(counted))
    return counted


def record_split(resources: Resources, split: str, texts: Texts) -> SplitRecord:
    """Describe the texts of a split, and count those that were cut."""
    record = SplitRecord.of(split, texts)
    found = count_cut(resources, texts)
    if found is None:
        return record
    return replace(record, cut=found.cut, max_length=found.max_length)


def cut_notices(resources: Resources, splits: Mapping[str, Texts]) -> Iterator[str]:
    """Yield a notice for each of the ``splits`` with texts that were cut, with the length that the model can read."""
    for split, texts in splits.items():
        found = count_cut(resources, texts)
        notice = record_split(resources, split, texts).cut_notice
        if found is not None and notice is not None:
            if found.longest > found.max_length:
                notice = f"{notice}; --max-length reads up to {found.longest:,}"
            yield notice


# The log of test splits: every opening is counted, across runs and sessions -----------------------------------------


#: Beside the store's results, because the store removes its oldest ones.
_FILE = "test-opened.txt"
#: Writing a line takes microseconds; after this the process that holds the lock has stopped.
_LOCK_TIMEOUT_S = 10


class TestSplitLog:
    """Counts how often the test split of a data set was opened for a model on this machine.

    Each opening appends one line to a file, by one process at a time. Lines are never removed.
    """

    def __init__(self, card: ModelCard, dataset: data.Dataset, store: Store) -> None:
        name = key("test-opened", card.origin, dataset.test_sha256)
        self._line = f"{name}\n".encode()
        self._file = store.folder.parent / _FILE

    @property
    def count(self) -> int:
        """How often the split was opened so far."""
        try:
            return self._file.read_bytes().splitlines(keepends=True).count(self._line)
        except OSError:
            # The file does not exist yet, or cannot be read, which the store has reported of its folder.
            return 0

    def open(self, split: str) -> int:
        """Log that a split is read from now on, if it is the test split, and return the count."""
        if split == "test":
            return self.add()
        return self.count

    def add(self) -> int:
        """Log one more opening, and return the new count."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._file.with_suffix(".lock"), timeout=_LOCK_TIMEOUT_S):
                count = self.count + 1
                with self._file.open("a+b") as file:
                    if file.tell():
                        file.seek(-1, os.SEEK_END)
                        if file.read() != b"\n":
                            # The disk was full in the middle of a line.
                            file.write(b"\n")
                    file.write(self._line)
                    file.flush()
                    os.fsync(file.fileno())
                return count
        except OSError as error:
            logging.getLogger(__name__).warning(
                "The test split was opened, but this cannot be counted: %s cannot be written (%s); name another folder "
                "in CAHP_CACHE.",
                self._file,
                error.strerror or error,
            )
            return self.count + 1
