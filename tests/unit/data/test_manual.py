"""The reference manual of Python as short and as long texts."""

from __future__ import annotations

import pytest

from cahp.data import load
from cahp.data.sources import MANUAL, TOPICS


@pytest.fixture(scope="module")
def paragraphs() -> list[str]:
    return _texts(MANUAL)


def _texts(name: str) -> list[str]:
    data = load(name)
    return [str(text) for split in data.splits.values() for text in split.first]


def test_every_paragraph_is_prose_of_twenty_words_and_none_comes_twice(paragraphs: list[str]) -> None:
    assert len(paragraphs) > 300
    assert min(len(text.split()) for text in paragraphs) >= 20
    assert len(set(paragraphs)) == len(paragraphs)


def test_a_topic_is_a_long_text_of_whole_paragraphs(paragraphs: list[str]) -> None:
    topics = _texts(TOPICS)
    lengths = [len(topic.split()) for topic in topics]
    assert min(lengths) >= 100
    parts = [part for topic in topics for part in topic.split("\n")]
    assert len(set(parts)) == len(parts)
    assert set(parts) <= set(paragraphs)
    # More than half of the words have 128 others of their topic before them.
    assert sum(max(0, length - 128) for length in lengths) > sum(lengths) / 2
