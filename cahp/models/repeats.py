"""Sequences that a language model reads twice, for calibration: passages of the calibration text, and random tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cahp.models.cards import ModelCard
from cahp.models.windows import start_token, usual_tokens
from cahp.tasks.window import REPEATS_TOKENS, Source, Window

#: The shortest and the longest distance between a token and its repetition.
_SHORTEST = 16
_LONGEST = 512
#: No sequence has more than a quarter of all tokens, so that there are several of each kind.
_PARTS = 4
assert REPEATS_TOKENS == 2 * _PARTS * _SHORTEST


def draw_repeats(card: ModelCard, windows: Sequence[Window], *, tokens: int, seed: int) -> list[Window]:
    """Draw sequences with about ``tokens`` tokens in all, each of which repeats its first half.

    Passages of the text of ``windows`` and random tokens alternate. The beginning token is first. Half lengths are 16
    to 512 tokens, uniform in their logarithm, and shorter where the model reads less or ``tokens`` are few. Only the
    second half is predicted. Each sequence is a document of its own, numbered after those of ``windows``. There are
    none if the model reads too little, or ``tokens`` are fewer than ``REPEATS_TOKENS``.
    """
    stream = np.concatenate([window.ids[-window.scored :] for window in windows])
    document = 1 + max(int(window.units.max()) for window in windows)
    start, _ = start_token(card)
    usual = usual_tokens(card)
    longest = min(_LONGEST, tokens // (2 * _PARTS), len(stream))
    if card.longest_context is not None:
        longest = min(longest, (card.longest_context - 1) // 2)
    if longest < _SHORTEST:
        return []
    random = np.random.default_rng([seed, 1])
    drawn: list[Window] = []
    left = tokens
    while left > 2 * _SHORTEST:
        most = min(longest, (left - 1) // 2)
        size = round(math.exp(random.uniform(math.log(_SHORTEST), math.log(most))))
        source: Source = "random"
        half = random.choice(usual, size)
        if len(drawn) % 2 == 0:
            source = "passage"
            place = int(random.integers(len(stream) - size + 1))
            half = stream[place : place + size]
        drawn.append(_repeat(start, half, document + len(drawn), source))
        left -= len(drawn[-1].ids)
    return drawn


def _repeat(start: int, half: NDArray[np.int64], document: int, source: Source) -> Window:
    """Return the sequence of the beginning token and ``half`` twice, the second time predicted."""
    size = len(half)
    ids = np.concatenate([[start], half, half])
    return Window("", ids, np.full(size, document), np.zeros(size, dtype=np.int64), source)
