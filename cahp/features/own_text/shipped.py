"""What ships with the package of the example text of a bundled run, so that the first screen needs no model."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import numpy as np

from cahp.api import bundled
from cahp.board.sentence import WordArc, WordMaps
from cahp.features.own_text.measuring import AnswersOverBudgets

#: The file in the folder of a bundled run.
SENTENCE_FILE = "sentence.json"


@dataclass(frozen=True)
class ShippedMaps:
    """``WordMaps`` as a file holds them, with ``looks`` in base64."""

    words: tuple[str, ...]
    length: int
    arcs: tuple[tuple[WordArc, ...], ...]
    looks: str

    @classmethod
    def of(cls, maps: WordMaps) -> ShippedMaps:
        """Encode maps."""
        arcs = tuple(tuple(arc._replace(weight=round(arc.weight, 4)) for arc in own) for own in maps.arcs)
        return cls(maps.words, maps.length, arcs, base64.b64encode(maps.looks.tobytes()).decode("ascii"))

    def decode(self) -> WordMaps:
        """Return the maps."""
        looks = np.frombuffer(base64.b64decode(self.looks), dtype=np.uint8)
        return WordMaps(self.words, self.length, self.arcs, looks.reshape(-1, len(self.words)))


@dataclass(frozen=True)
class ShippedSentence:
    """A text with its maps, and its class probabilities as pruned at each budget of the ``table`` (a digest).

    ``recovered`` are the probabilities under the run's own mask after its recovery. ``model`` is the model's digest.
    """

    model: str
    text: str
    table: str
    maps: ShippedMaps
    budgets: tuple[int, ...]
    probabilities: tuple[tuple[float, ...], ...]
    recovered: tuple[float, ...]

    @property
    def curve(self) -> AnswersOverBudgets:
        """The answers over budgets."""
        return AnswersOverBudgets(self.budgets, np.array(self.probabilities))


@cache
def read_sentence(name: str) -> ShippedSentence | None:
    """Read the bundled sentence of a model; None if this copy of the package has none."""
    if name not in bundled.RUNS:
        return None
    try:
        content: Any = (bundled.run_folder(name) / SENTENCE_FILE).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(content, type=ShippedSentence)
