"""Sequences that a language model reads twice, for calibration: passages of the calibration text, and random tokens."""

from __future__ import annotations

import math

import numpy as np

from cahp.models.cards import ModelCard
from cahp.models.windows import read_twice, start_token, usual_tokens
from cahp.tasks.texts import Texts
from cahp.tasks.window import REPEAT_PARTS, SHORTEST_REPEAT, Source, Window

#: The longest distance between a token and its repetition.
_LONGEST = 512


def draw_repeats(card: ModelCard, texts: Texts, *, tokens: int, seed: int) -> list[Window]:
    """Draw sequences with about ``tokens`` tokens in all, each of which repeats its first half.

    Passages of the windows of ``texts`` and random tokens alternate. The beginning token is first. Half lengths are 16
    to 512 tokens, uniform in their logarithm, and shorter where the model reads less or ``tokens`` are few. Only the
    second half is measured, and losses whose gradients are taken are those of both halves. Each sequence is a document
    of its own, numbered after those of ``texts``. There are none if the model reads too little, or ``tokens`` are fewer
    than ``REPEATS_TOKENS``.
    """
    stream = texts.stream
    document = 1 + max(int(window.units.max()) for window in texts.windows)
    start, _ = start_token(card)
    usual = usual_tokens(card)
    longest = min(_LONGEST, tokens // (2 * REPEAT_PARTS), len(stream))
    if card.longest_context is not None:
        longest = min(longest, (card.longest_context - 1) // 2)
    if longest < SHORTEST_REPEAT:
        return []
    random = np.random.default_rng([seed, 1])
    drawn: list[Window] = []
    left = tokens
    while left > 2 * SHORTEST_REPEAT:
        most = min(longest, (left - 1) // 2)
        size = round(math.exp(random.uniform(math.log(SHORTEST_REPEAT), math.log(most))))
        source: Source = "random"
        half = random.choice(usual, size)
        if len(drawn) % 2 == 0:
            source = "passage"
            place = int(random.integers(len(stream) - size + 1))
            half = stream[place : place + size]
        drawn.append(read_twice(start, half, document + len(drawn), source))
        left -= len(drawn[-1].ids)
    return drawn
