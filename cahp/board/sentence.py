"""A sentence on a board: its words with arcs of attention, and the answers with all heads and with those kept."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class WordArc(NamedTuple):
    """The attention that the word at ``query`` pays to the word at ``key``."""

    query: int
    key: int
    weight: float


@dataclass(frozen=True, eq=False)
class WordMaps:
    """What the heads of the full model attend to in a sentence, word by word.

    ``words (W,)`` are its first words of ``length`` words, ``arcs (N,)`` the strongest attention of each head, and
    ``looks (N, W)`` the most that a head attends to each word from another one, in 255ths.
    """

    words: tuple[str, ...]
    length: int
    arcs: tuple[tuple[WordArc, ...], ...]
    looks: NDArray[np.uint8]


class SentenceAnswer(NamedTuple):
    """A predicted class with its probability."""

    name: str
    probability: float


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence with its answers; what is not measured is None.

    ``answers (B,)`` are those as pruned at ``budgets (B,)``, with ``full`` for all heads, and ``kept`` is that of the
    mask on the board, in the words ``state`` ("as pruned", "after refit"). ``waits`` tells what is being measured.
    """

    maps: WordMaps | None
    budgets: Sequence[int] = ()
    answers: Sequence[SentenceAnswer] = ()
    full: SentenceAnswer | None = None
    kept: SentenceAnswer | None = None
    state: str = ""
    waits: str = ""

    @property
    def changed(self) -> list[int]:
        """The budgets whose answer is another one than with all heads."""
        if self.full is None:
            return []
        rows = zip(self.budgets, self.answers, strict=True)
        return [budget for budget, answer in rows if answer.name != self.full.name]

    @property
    def flip(self) -> int | None:
        """The largest budget whose answer is another one (None: it never changes)."""
        return max(self.changed, default=None)

    def as_data(self) -> dict[str, Any]:
        """Return it as the board's script takes it."""
        data: dict[str, Any] = {
            "budgets": list(self.budgets),
            "answers": [_short(answer) for answer in self.answers],
            "full": self.full and _short(self.full),
            "kept": self.kept and _short(self.kept),
            "state": self.state,
            "waits": self.waits,
            "changed": self.changed,
            "flip": self.flip,
        }
        if self.maps is not None:
            data["words"] = list(self.maps.words)
            data["length"] = self.maps.length
            data["arcs"] = [[[*arc[:2], round(arc.weight, 3)] for arc in arcs] for arcs in self.maps.arcs]
            data["looks"] = base64.b64encode(self.maps.looks.tobytes()).decode("ascii")
        return data


def _short(answer: SentenceAnswer) -> list[Any]:
    return [answer.name, round(answer.probability, 4)]
