"""The texts of one split, as a model reads them: single texts, pairs, or windows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cahp.tasks.windows import Window
from cahp.values import Input, Ints, digest

#: Random tokens on which the loss on repeated tokens is measured, beside the evaluation tokens.
COPY_TOKENS = 512
#: The label of every text where there are no labels.
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Texts:
    """Inputs of one split, in their original order.

    ``first`` holds the texts, ``second`` the second text of each pair (None for single texts), and ``labels`` the class
    index of each (int64, into ``classes``), or -1 for all texts if there are no labels.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.dtype != np.int64 or self.labels.shape != (len(self.first),):
            raise ValueError(f"labels must be int64 of shape ({len(self.first)},), got {self.labels.shape}")
        if self.second is not None and len(self.second) != len(self.first):
            raise ValueError(f"{len(self.first)} first but {len(self.second)} second texts")
        if self.labelled and len(self) and not (self.labels.min() >= 0 and self.labels.max() < len(self.classes)):
            raise ValueError(f"labels outside 0..{len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.first)

    @property
    def labelled(self) -> bool:
        """Whether the texts have labels."""
        return not len(self) or bool((self.labels != NO_LABEL).any())

    @property
    def inputs(self) -> list[Input]:
        """The texts, or the pairs of texts, in order."""
        if self.second is None:
            return list(self.first)
        return list(zip(self.first, self.second, strict=True))

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Number of examples of each class, shape ``(C,)``; all 0 if there are no labels."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes)).astype(np.int64)

    def take(self, rows: Sequence[int] | Ints) -> Texts:
        """Return the given rows, in the given order."""
        rows = [int(row) for row in rows]
        second = None if self.second is None else tuple(self.second[row] for row in rows)
        return Texts(tuple(self.first[row] for row in rows), second, self.labels[rows], self.classes)

    @cached_property
    def sha256(self) -> str:
        """Digest of texts, labels and class names."""
        second = () if self.second is None else self.second
        windows = [part for window in self.windows for part in window.parts]
        return digest(*self.first, "\0second", *second, self.labels.tobytes(), "\0classes", *self.classes, *windows)

    @property
    def count(self) -> int:
        """Number of texts, without windows that are made for the loss on repeated tokens."""
        return len(self) - sum(window.copying for window in self.windows)

    @property
    def text_rows(self) -> list[int]:
        """Rows of the data's own texts: all but windows that are made for the loss on repeated tokens."""
        return [row for row, one in enumerate(self.first) if not (isinstance(one, Window) and one.copying)]

    def sample_rows(self, most: int) -> list[int]:
        """Return at most ``most`` of ``text_rows``, evenly spread."""
        rows = self.text_rows
        places = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
        return [rows[place] for place in places]

    def sample(self, most: int) -> Texts:
        """Return the texts of ``sample_rows``."""
        return self.take(self.sample_rows(most))

    @property
    def tokens(self) -> int:
        """Number of tokens that a language model reads of all windows."""
        return sum(len(window.ids) - 1 for window in self.windows)

    @property
    def in_windows(self) -> bool:
        """Whether they are windows of a language model's tokens."""
        return any(isinstance(one, Window) for one in self.first[:1])

    @property
    def measured(self) -> str:
        """Their number in words: ``311 texts``, ``16 windows of tokens``."""
        return f"{self.count:,} {'windows of tokens' if self.in_windows else 'texts'}"

    @property
    def windows(self) -> tuple[Window, ...]:
        """The inputs of a language model that is measured on windows; none for other texts."""
        return tuple(one for one in self.first if isinstance(one, Window))
