"""The words of a text: found in its tokens, with the attention between them, and the strongest of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.board.sentence import WordArc, WordMaps
from cahp.features.own_text.continuation import split_text
from cahp.stages.similarity import join_words, read_tokens
from cahp.values import Floats, Input

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import HeadModel

#: Most words of a text that are shown: its first ones.
SHOWN_WORDS = 24
#: Arcs of a head, and the least attention of one.
_ARCS = 2
_LEAST = 0.16


def read_maps(model: HeadModel, text: Input) -> WordMaps:
    """Return what the heads of the unpruned ``model`` attend to, word by word, in a text or a pair of texts.

    Raises:
        DataError: If the text has no tokens.
    """
    from torch import inference_mode

    entry, _, _ = read_tokens(model, text)
    whole, spans = _find_spans(model, text, entry["input_ids"])
    words, groups = find_words(whole, spans)
    length = len(words)
    words = words[:SHOWN_WORDS]
    groups[groups >= len(words)] = -1
    joined: dict[int, NDArray[np.float64]] = {}

    def watch(layer: int, seen: Tensor) -> None:
        joined[layer] = join_words(seen[0].double().cpu().numpy(), groups, len(words))

    with inference_mode():
        model.logits(model.batches([entry])[0], probe=watch)
    maps = np.concatenate([joined[layer] for layer in range(model.layers)])
    return WordMaps(tuple(words), length, choose_arcs(maps), list_looks(maps))


def _find_spans(model: HeadModel, text: Input, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Return a text with the place of each token in it: the text itself, or where that is not known its tokens."""
    from cahp.models.loading import special_ids

    tokenizer: Any = model.tokenizer
    if model.prompt is None and tokenizer.is_fast:
        first: Any = text
        second = ""
        if not isinstance(text, str):
            first, second = text
        limit: dict[str, Any] = {"truncation": True, "max_length": model.max_length}
        encoded = tokenizer(first, second or None, return_offsets_mapping=True, **limit)
        if encoded["input_ids"] == list(ids):
            # The second text of a pair stands after the first one, with a space between them.
            starts = (0, len(first) + 1)
            spans = []
            for (low, high), part in zip(encoded["offset_mapping"], encoded.sequence_ids(0), strict=True):
                start = starts[part or 0]
                spans.append((start + low, start + high))
            return f"{first} {second}", spans
    spans = []
    end = 0
    written = split_text(tokenizer, ids)
    special = special_ids(tokenizer)
    for token, part in zip(ids, written, strict=True):
        start = end
        end += len(part)
        if token in special:
            start = end
        spans.append((start, end))
    return "".join(written), spans


@cache
def _word() -> re.Pattern[str]:
    """Letters and digits, with marks inside; scripts without spaces are read character by character.

    Accents and vowels that stand on the letter before are no letters for regular expressions. It takes a moment to
    list them, so that is done when a text is read first.
    """
    marks = "".join(chr(code) for code in range(0x300, 0x1F000) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    letters = rf"[^\W_](?:[^\W_]|[{marks}\u200c\u200d])*"
    return re.compile(rf"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|{letters}(?:['’\-]{letters})*")


def find_words(text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[str], NDArray[np.int64]]:
    """Find the words of a text, and the word of each token ``(S,)``, given its place in the text; -1: it has none.

    Punctuation and special tokens belong to no word. Words without a token, which were truncated, are left out.
    """
    found = list(_word().finditer(text))
    groups = np.full(len(spans), -1, dtype=np.int64)
    words: list[str] = []
    place = 0
    member = -1
    for token, (low, high) in enumerate(spans):
        while place < len(found) and found[place].end() <= low:
            place += 1
            member = -1
        if place == len(found) or low == high or found[place].start() >= high:
            continue
        if member < 0:
            member = len(words)
            words.append(found[place].group())
        groups[token] = member
    return words, groups


def choose_arcs(maps: Floats, *, most: int = _ARCS, least: float = _LEAST) -> tuple[tuple[WordArc, ...], ...]:
    """Choose the strongest attention of each head between two words, of ``maps (N, W, W)``: at most so many arcs.

    A head has none whose weights are at most ``least``.
    """
    return tuple(tuple(_choose_of_head(own, most, least)) for own in _between(maps))


def _choose_of_head(own: NDArray[np.float64], most: int, least: float) -> list[WordArc]:
    arcs = []
    for place in np.argsort(-own.ravel(), kind="stable")[:most].tolist():
        query, key = divmod(place, own.shape[1])
        if own[query, key] > least:
            arcs.append(WordArc(query, key, float(own[query, key])))
    return arcs


def list_looks(maps: Floats) -> NDArray[np.uint8]:
    """Return the most that each head attends to each word from another one, 0 to 255 ``(N, W)``; ``maps (N, W, W)``."""
    most = _between(maps).max(axis=1, initial=0)
    return np.asarray(np.minimum(most * 255, 255).round(), dtype=np.uint8)


def _between(maps: Floats) -> NDArray[np.float64]:
    """Return maps without the attention of words to themselves."""
    between: NDArray[np.float64] = np.array(maps, dtype=np.float64)
    words = np.arange(between.shape[1])
    between[:, words, words] = 0
    return between
