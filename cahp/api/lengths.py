"""How long the texts of a split are, before a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp import models
from cahp.models.cards import ModelCard
from cahp.models.identity import longest_text
from cahp.values import Input


def describe_lengths(inputs: Sequence[Input], card: ModelCard | None = None) -> dict[str, Any]:
    """Describe the lengths of texts or pairs, in words, or in the tokens of a model.

    With a model, ``cut`` texts are longer than the ``max_length`` tokens that it reads of each (None: windows of
    tokens, which are not cut, or words).

    Raises:
        ModelError: If the tokenizer of the model cannot be used.
    """
    unit = "words"
    lengths = [_count_words(one) for one in inputs]
    reads: int | None = None
    cut: int | None = None
    if card is not None:
        unit = "tokens"
        lengths = models.count_tokens(card, inputs)
    if card is not None and card.task.items_are_texts:
        reads = longest_text(card)
        cut = int(np.count_nonzero(np.array(lengths) > reads))
    # A split may have no text.
    median, most = np.percentile(lengths or [0], [50, 95])
    longest = max(lengths, default=0)
    found = {"unit": unit, "median": int(median), "p95": int(most), "longest": longest}
    return {**found, "max_length": reads, "cut": cut}


def _count_words(one: Input) -> int:
    if isinstance(one, str):
        return len(one.split())
    return sum(len(part.split()) for part in one)
