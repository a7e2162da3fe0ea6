"""Whether a recovery is accepted: compare pruned models with the full one on texts that no recovery learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cahp.models.head_model import HeadModel
from cahp.models.reading import Teacher
from cahp.tasks.texts import Item, find_source
from cahp.tasks.window import Window
from cahp.values import Ints, Progress, silent
from cahp.words import nats

#: Two windows hold the same passage if they share so many tokens in a row.
_SHARED = 8


@dataclass(frozen=True)
class Divergences:
    """Mean KL divergences of a model from the full one on held-out items, in nats, and the share of same answers.

    ``total`` is that of all items, ``text`` that of texts, and ``repeats`` that of what is read twice (None: there are
    no such items).
    """

    total: float
    text: float
    repeats: float | None
    agreement: float

    def is_better_than(self, before: Divergences) -> bool:
        """Tell whether the divergence on text is lower, and that on repeats no higher."""
        if self.repeats is not None and before.repeats is not None and self.repeats > before.repeats:
            return False
        return self.text < before.text

    @property
    def score(self) -> tuple[float, ...]:
        """What a training keeps its best epoch by, higher being better; the last is the agreement."""
        if self.repeats is None:
            return -self.total, self.agreement
        return -self.total, -self.text, -self.repeats, self.agreement

    @classmethod
    def from_score(cls, score: Sequence[float]) -> Divergences:
        """Build it from its ``score``."""
        if len(score) == 2:
            return cls(-score[0], -score[0], None, score[1])
        return cls(-score[0], -score[1], -score[2], score[3])

    def describe_change(self, before: Divergences, recovery: str, items: str) -> str:
        """Return the change by a recovery on held-out items, ``6 held-out windows``, in a sentence."""
        sentence = f"KL divergence {nats(self.text)} nats on {items} after {recovery}, {nats(before.text)} before"
        if self.repeats is None or before.repeats is None:
            return sentence
        return f"{sentence}; on repeated tokens {nats(self.repeats)} after, {nats(before.repeats)} before"


def hold_out(items: Sequence[Item], seed: int = 42) -> tuple[Ints, Ints]:
    """Return the rows of ``items`` for training and those held out, both ascending.

    A fifth is held out, drawn at random, of texts and of each kind of sequence that is read twice; of two such
    sequences one. A held-out text that stands in the data again is in neither there. A held-out window is in neither if
    a passage for training was taken from it. If no other window is held out, those passages are in neither instead.
    """
    kinds = np.array([find_source(item) for item in items])
    held_out: list[Ints] = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        chosen = _draw_fifth(len(rows), seed)
        if not len(chosen) and kind != "text" and len(rows) > 1:
            chosen = np.array([int(np.random.default_rng(seed).integers(len(rows)))])
        held_out.append(rows[chosen])
    tried = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *held_out]))
    learned = _leave_out_equal(items, np.setdiff1d(np.arange(len(items)), tried), tried)
    passages = learned[kinds[learned] == "passage"]
    windows = tried[kinds[tried] == "text"]
    read = _find_overlapping(items, windows, passages)
    if len(read) < len(windows) or not len(windows):
        return learned, np.setdiff1d(tried, read)
    return np.setdiff1d(learned, _find_overlapping(items, passages, windows)), tried


def _draw_fifth(count: int, seed: int) -> Ints:
    """Draw a fifth of so many rows; they are ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[: count // 5])


def _leave_out_equal(items: Sequence[Item], learned: Ints, tried: Ints) -> Ints:
    """Return those of the rows ``learned`` whose text is none of those tried; all of them if none would be left."""
    known = {items[row] for row in tried if not isinstance(items[row], Window)}
    others = [row for row in learned if isinstance(items[row], Window) or items[row] not in known]
    return np.array(others or learned, dtype=np.int64)


def _find_overlapping(items: Sequence[Item], rows: Ints, others: Ints) -> Ints:
    """Return those of the ``rows`` of windows that share a run of tokens with any of the ``others``."""
    known = set[bytes]()
    for row in others:
        known |= _list_runs(items[row])
    return np.array([row for row in rows if not known.isdisjoint(_list_runs(items[row]))], dtype=np.int64)


def _list_runs(item: Item) -> set[bytes]:
    """Return all runs of ``_SHARED`` tokens of a window."""
    if not isinstance(item, Window) or len(item.ids) < _SHARED:
        return set()
    return {run.tobytes() for run in np.lib.stride_tricks.sliding_window_view(item.ids, _SHARED)}


def count_compared(items: Sequence[Item]) -> Ints | None:
    """Return how many of the last tokens of each item ``(n,)`` are compared: of what is read twice the second reading.

    None: all tokens of all items.
    """
    if all(find_source(item) == "text" for item in items):
        return None
    counts = []
    for item in items:
        assert isinstance(item, Window)
        count = len(item.ids)
        if item.copying:
            count = item.scored
        counts.append(count)
    return np.array(counts, dtype=np.int64)


class HeldOut:
    """Held-out ``items``, ``rows`` of those of a ``teacher`` with which pruned models are compared on them."""

    def __init__(self, teacher: Teacher, items: Sequence[Item], rows: Ints) -> None:
        self._teacher = teacher
        repeated = np.array([find_source(item) != "text" for item in items], dtype=np.bool_)
        self._text = rows[~repeated]
        self._repeats = rows[repeated]
        self.count = len(self._text)

    def compare(self, model: HeadModel, *, network: Any = None, progress: Progress = silent) -> Divergences:
        """Compare ``model``, or another ``network`` of its kind, with the teacher."""
        text, same, tokens = self._teacher.compare(model, self._text, network=network, progress=progress)
        if not len(self._repeats):
            return Divergences(text, text, None, same)
        repeats, same_repeats, more = self._teacher.compare(model, self._repeats, network=network, progress=progress)
        whole = tokens + more
        total = (text * tokens + repeats * more) / whole
        return Divergences(total, text, repeats, (same * tokens + same_repeats * more) / whole)
