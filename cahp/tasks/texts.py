"""The texts of one split, as a model reads them: single texts, pairs, or windows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cahp.tasks.answers import NO_LABEL, Evaluation, Source, Window
from cahp.tasks.task import CLASSIFICATION, Task
from cahp.values import Array, Input, Ints, Names, digest
from cahp.words import side_by_side

#: What a model reads at once: a text, a pair of texts, or a window of tokens.
Item = Input | Window


def find_source(item: Item) -> Source:
    """Return what an item holds: text, or a sequence that is read twice."""
    if isinstance(item, Window):
        return item.source
    return "text"


#: Random tokens on which the loss on repeated tokens is measured, beside the evaluation tokens.
COPY_TOKENS = 512


@dataclass(frozen=True, eq=False)
class Texts:
    """Items of one split, in their original order, and the ``task`` that reads them.

    ``first`` holds the texts (or the windows of a language model), ``second`` the second text of each pair (None: there
    are no pairs), and ``labels`` the class index of each (int64, into ``classes``), or -1 for all if there are none.
    """

    first: tuple[str | Window, ...]
    second: tuple[str, ...] | None
    labels: Ints
    classes: Names
    task: Task = CLASSIFICATION

    def __post_init__(self) -> None:
        shape = (len(self.first),)
        if self.labels.dtype != np.int64 or self.labels.shape != shape or len(self.second or self.first) != shape[0]:
            raise ValueError("there must be an int64 label for each text, and a second text for each or none")
        if self.labelled and len(self) and not (self.labels.min() >= 0 and self.labels.max() < len(self.classes)):
            raise ValueError(f"labels outside 0..{len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.first)

    @property
    def labelled(self) -> bool:
        """Whether the texts have labels."""
        return not len(self) or bool((self.labels != NO_LABEL).any())

    @property
    def inputs(self) -> list[Item]:
        """The items in order: texts, pairs of texts, or windows."""
        if self.second is None:
            return list(self.first)
        return [(str(first), second) for first, second in zip(self.first, self.second, strict=True)]

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows of a language model; none where the items are texts."""
        return tuple(one for one in self.first if isinstance(one, Window))

    @property
    def stream(self) -> Ints:
        """The tokens ``(T,)`` that windows of the data predict, in their order; none where items are texts."""
        parts = [window.targets for window in self.take(self.text_rows).windows]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    @property
    def plain_texts(self) -> list[str]:
        """The text of each item, for people; of a pair the first."""
        return [item.text if isinstance(item, Window) else item for item in self.first]

    @property
    def plain_inputs(self) -> list[Input]:
        """The texts, or the pairs of texts, in order; of windows their texts."""
        if self.second is None:
            return list(self.plain_texts)
        return list(zip(self.plain_texts, self.second, strict=True))

    def get_line(self, row: int) -> str:
        """Return the text of an item on one line, the two texts of a pair side by side."""
        return side_by_side(self.plain_inputs[row])

    @property
    def class_counts(self) -> Ints:
        """Number of examples of each class, shape ``(C,)``; all 0 if there are no labels."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes)).astype(np.int64)

    def with_labels(self, labels: Ints) -> Texts:
        """Return the same items with other labels ``(n,)``."""
        return Texts(self.first, self.second, labels, self.classes, self.task)

    def take(self, rows: Sequence[int] | Ints) -> Texts:
        """Return the given rows, in the given order."""
        rows = [int(row) for row in rows]
        second = None
        if self.second is not None:
            second = tuple(self.second[row] for row in rows)
        first = tuple(self.first[row] for row in rows)
        return Texts(first, second, self.labels[rows], self.classes, self.task)

    @cached_property
    def sha256(self) -> str:
        """Digest of texts, labels, class names, and what else measurements depend on."""
        second = self.second or ()
        # One text may be cut into windows in several ways.
        parts = [part for window in self.windows for part in window.parts]
        return digest(*self.plain_texts, "\0second", *second, self.labels.tobytes(), "\0classes", *self.classes, *parts)

    @cached_property
    def units(self) -> str:
        """What outcomes are means over: ``texts``, or of a language model ``documents`` or ``windows``."""
        return self.task.name_units(self)

    @property
    def text_rows(self) -> list[int]:
        """Rows of the data's own items: all but those that the task adds to measure something."""
        return self.task.list_rows(self)

    @property
    def count(self) -> int:
        """Number of the data's own items."""
        return len(self.text_rows)

    def sample_rows(self, most: int) -> list[int]:
        """Return at most ``most`` of ``text_rows``, evenly spread."""
        rows = self.text_rows
        places = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
        return [rows[place] for place in places]

    def sample(self, most: int) -> Texts:
        """Return the texts of ``sample_rows``."""
        return self.take(self.sample_rows(most))

    @cached_property
    def tokens(self) -> float:
        """Number of tokens that a model reads, or an estimate; see ``Task.count_tokens``."""
        return self.task.count_tokens(self)

    @property
    def measured(self) -> str:
        """Their number in words: ``311 texts``, ``16 windows of tokens``."""
        return f"{self.count:,} {self.task.words.measured}"

    def evaluation_of(self, scores: Array) -> Evaluation:
        """Make the evaluation of what a model's reader returned for each item."""
        return self.task.read_answers(scores, self)
