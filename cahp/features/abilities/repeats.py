"""Abilities that use the text before: repeat a passage, repeat random tokens, and use a long context."""

from __future__ import annotations

import numpy as np

from cahp.features.abilities.items import AskedSequence, Items, ItemSource, Size
from cahp.values import Ints

#: Fewer tokens are no passage.
_FEWEST = 4
#: Each token of the evaluation texts is in at most so many passages.
_LAPS = 2
#: Tokens of a segment whose loss is compared with and without the text before it.
_SEGMENT = 32


def repeat_text(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Draw passages of the evaluation texts, each read twice; none overlaps, unless there are too few tokens.

    The parts of an item are the first and the second reading, each without its first token.
    """
    lengths = _draw_lengths(source, size, random, len(source.stream))
    if isinstance(lengths, str):
        return lengths
    probes: list[AskedSequence] = []
    begin = int(random.integers(lengths[0]))
    laps = 1
    for length in lengths:
        if begin + length > len(source.stream):
            laps += 1
            begin = int(random.integers(lengths[0]))
        if laps > _LAPS or begin + length > len(source.stream):
            break
        probes.append(_read_twice(source, len(probes), source.stream[begin : begin + length]))
        begin += length
    return _collect(probes)


def repeat_random(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Draw sequences of different random tokens, each read twice; parts as in ``repeat_text``."""
    lengths = _draw_lengths(source, size, random, len(source.usual))
    if isinstance(lengths, str):
        return lengths
    probes: list[AskedSequence] = []
    for length in lengths:
        probes.append(_read_twice(source, len(probes), random.choice(source.usual, length, replace=False)))
    return _collect(probes)


def _draw_lengths(source: ItemSource, size: Size, random: np.random.Generator, most: int) -> list[int] | str:
    """Draw the lengths of passages, log-uniformly, so that two of each fit the model, and ``most`` tokens do."""
    longest = min(size.longest, (source.longest - 1) // 2, most)
    if longest < _FEWEST:
        return f"it reads {source.longest:,} tokens at once and there are {most:,}, too few for a passage read twice"
    shortest = min(size.shortest, max(_FEWEST, longest // 2))
    drawn = np.exp(random.uniform(np.log(shortest), np.log(longest + 1), size.items))
    return [int(length) for length in np.minimum(drawn, longest)]


def _read_twice(source: ItemSource, item: int, passage: Ints) -> AskedSequence:
    ids = np.concatenate([[source.start], passage, passage])
    length = len(passage)
    asked = np.concatenate([np.arange(1, length), np.arange(length + 1, 2 * length)])
    parts = np.repeat([0, 1], length - 1)
    return AskedSequence(item, ids[:-1], asked, ids[asked + 1], parts)


def _collect(probes: list[AskedSequence]) -> Items | str:
    if not probes:
        return "the evaluation texts have too few tokens"
    return Items(tuple(probes), len(probes), 2)


def use_context(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Draw segments of the evaluation texts, read alone and after the text before them.

    Both readings have the same tokens, so that the gain does not depend on which tokens come late in a document. The
    parts of an item are the segment alone and with its context, without the first token.
    """
    longest = min(size.longest, source.longest - 1 - _SEGMENT, len(source.stream) // 2)
    if longest < size.shortest:
        return f"its context or the evaluation texts are too short for {size.shortest + _SEGMENT} tokens"
    places = np.arange(longest, len(source.stream) - _SEGMENT, _SEGMENT)
    probes: list[AskedSequence] = []
    chosen = np.sort(random.permutation(places)[: size.items])
    lengths = np.exp(random.uniform(np.log(size.shortest), np.log(longest), len(chosen))).astype(np.int64)
    for item, (begin, length) in enumerate(zip(chosen.tolist(), lengths.tolist(), strict=True)):
        for part, context in enumerate((0, length)):
            ids = np.concatenate([[source.start], source.stream[begin - context : begin + _SEGMENT]])
            asked = np.arange(len(ids) - _SEGMENT, len(ids) - 1)
            probes.append(AskedSequence(item, ids[:-1], asked, ids[asked + 1], np.full(len(asked), part)))
    if not len(chosen):
        return "the evaluation texts have too few tokens"
    return Items(tuple(probes), len(chosen), 2)
