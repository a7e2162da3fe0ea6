"""Typing errors: two letters swapped, one left out, or one typed twice, in a few words of each text."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from cahp.tasks.texts import Texts

#: One word in so many is mistyped, and at least one of a text.
ONE_IN = 8
#: Words of at least four letters; the first letter stays.
_WORD = re.compile(r"[^\W\d_]{4,}")


def mistype(texts: Texts, seed: int) -> Texts:
    """Return texts with typing errors; those of a text depend on ``seed`` and on the text alone.

    The second texts of pairs get errors as well.
    """
    first = tuple(mistype_text(text, seed) for text in texts.plain_texts)
    second = texts.second
    if second is not None:
        second = tuple(mistype_text(text, seed) for text in second)
    return replace(texts, first=first, second=second)


def mistype_text(text: str, seed: int) -> str:
    """Put a typing error into one of eight words of a text, at least into one; a text of short words stays."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    random = np.random.default_rng([seed, *text.encode()])
    chosen = random.choice(len(words), max(1, round(len(words) / ONE_IN)), replace=False)
    # From the end, so that earlier places stay where they are.
    for place in sorted(chosen.tolist(), reverse=True):
        start, end = words[place].span()
        text = text[:start] + _mistype_word(text[start:end], random) + text[end:]
    return text


def _mistype_word(word: str, random: np.random.Generator) -> str:
    """Swap two neighbouring letters, leave one out, or type one twice; never the first. Of two equal ones, one goes."""
    place = int(random.integers(1, len(word) - 1))
    kind = random.integers(3)
    if kind == 0 and word[place] != word[place + 1]:
        return f"{word[:place]}{word[place + 1]}{word[place]}{word[place + 2 :]}"
    if kind < 2:
        return word[:place] + word[place + 1 :]
    return word[: place + 1] + word[place:]
