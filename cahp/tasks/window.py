"""Windows of tokens, on which a causal language model is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: Which windows begin with the model's beginning token.
Beginning = Literal["every", "first"]
_BEGINNINGS: Mapping[Beginning, str] = {"every": "every window", "first": "only the first"}
#: What a window holds: text of the data, or a sequence that is read twice: random tokens, or a passage of the text.
Source = Literal["text", "random", "passage"]
_SOURCES: tuple[Source, ...] = ("text", "random", "passage")
#: The shortest distance between a token and its repetition in a calibration mix.
SHORTEST_REPEAT = 16
#: No sequence that is read twice has more than a quarter of their tokens, so that there are several of each kind.
REPEAT_PARTS = 4
#: The fewest tokens of sequences that are read twice: as many of the shortest.
REPEATS_TOKENS = 2 * REPEAT_PARTS * SHORTEST_REPEAT

#: Documents over which intervals are drawn, at least.
_FEWEST_UNITS = 8

_Ints = NDArray[np.integer[Any]]


def name_units(documents: int) -> Literal["documents", "windows"]:
    """What the tokens of so many documents are grouped by for an interval: windows, where documents are too few."""
    if documents < _FEWEST_UNITS:
        return "windows"
    return "documents"


@dataclass(frozen=True, eq=False)
class Window:
    """A window of consecutive tokens, on which a causal language model is measured, and its ``text``.

    ``ids`` are the tokens, the first of which is only context. The last ``scored`` of them are predicted and measured:
    ``units (scored,)`` are the numbers of the documents that hold them, over which intervals are drawn, and
    ``sizes (scored,)`` their lengths in bytes. The second half of a window whose ``source`` is not text repeats the
    first: only that half is measured.
    """

    text: str
    ids: _Ints
    units: _Ints
    sizes: _Ints
    source: Source = "text"

    def __post_init__(self) -> None:
        for name in ("ids", "units", "sizes"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        if not len(self.units) == len(self.sizes) < len(self.ids):
            raise ValueError(f"{len(self.ids)} tokens cannot predict {len(self.units)}, of {len(self.sizes)} sizes")

    @property
    def copying(self) -> bool:
        """Whether its second half repeats the first."""
        return self.source != "text"

    @property
    def scored(self) -> int:
        """Number of tokens that are predicted and measured, the last ones."""
        return len(self.units)

    @property
    def inputs(self) -> _Ints:
        """The tokens that a model reads: all but the last, which is only predicted."""
        return self.ids[:-1]

    @property
    def targets(self) -> _Ints:
        """The tokens that are predicted and measured ``(scored,)``."""
        return self.ids[-self.scored :]

    @property
    def places(self) -> _Ints:
        """Where in ``inputs`` a model predicts the ``targets`` ``(scored,)``: one token before each."""
        return np.arange(len(self.ids) - 1 - self.scored, len(self.ids) - 1)

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Everything that a measurement on it depends on."""
        return self.ids.tobytes(), self.units.tobytes(), self.sizes.tobytes(), bytes([_SOURCES.index(self.source)])


@dataclass(frozen=True)
class WindowProtocol:
    """How a language model is measured, on which its perplexity depends.

    ``window`` and ``stride`` in tokens, and the number of predicted ``tokens`` of ``documents``. The beginning token
    ``bos`` is the first of the tokens that the model reads of the windows ``begins``: of every window, or of the first
    alone, as files say that do not name it.
    """

    window: int
    stride: int
    bos: str
    tokens: int
    documents: int
    begins: Beginning = "first"

    @property
    def units(self) -> Literal["documents", "windows"]:
        """What intervals are drawn over."""
        return name_units(self.documents)

    def __str__(self) -> str:
        overlap = f"each {self.stride:,} after the last"
        if self.stride == self.window:
            overlap = "without overlap"
        return (
            f"{self.tokens:,} tokens of {self.documents:,} documents in windows of {self.window:,} tokens, {overlap} "
            f"({_BEGINNINGS[self.begins]} begins with {self.bos})"
        )
